"""The FSP study: the rows of its tables, what each starts from, the claims."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.common import clocks, launch, teaching
from experiments.common import figures as described
from experiments.common.study import StudyRun
from experiments.fsp import figures, lessons, timing
from experiments.fsp import nets as single
from experiments.fsp import study as fsp
from experiments.fsp import tasks as parts
from experiments.fsp.claims import claims, papers_table
from experiments.fsp.config import PRESETS
from experiments.fsp.results import share_of_steps
from experiments.fsp.rows import FAST, HINTS, SMALL
from experiments.fsp.rows import TRANSFER as TRANSFER_ROWS
from experiments.fsp.stages import ordered
from kd_heuristics import runs
from tests.experiments import planned
from tests.experiments.silent import Silent

SMOKE = PRESETS["smoke"].resolved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return launch.run(fsp.STUDY, SMOKE, tmp_path_factory.mktemp("smoke") / "fsp")


@pytest.fixture(scope="module")
def tasks():
    return parts.make(SMOKE)


@pytest.fixture(scope="module")
def trained(folder, tasks):
    """The nets of all stages, read from the checkpoints."""
    run = StudyRun(SMOKE, runs.RunFolder(folder), Silent(), by=fsp.compute)
    return fsp.train_all(run, tasks, ordered(SMOKE, run.seeds))


def stages_of(config):
    """The stages of the first seed by name."""
    return {stage.name: stage for stage in ordered(config, [0])}


def test_leaves_tables_claims_and_figures(folder):
    planned.check(fsp.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert tuple(results["fast"]) == tuple(FAST)
    assert tuple(results["small"]) == tuple(SMALL)
    assert results["transfer"] == {}
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    assert len(results["claims"]) == 10 + 3 + 2 * 2
    assert set(results["paper"]) == {"table1", "table3", "table5"}
    names = {path.name for path in (folder / "figures").glob("*.png")}
    assert names == {"figure3.png", "tables.png", "speed.png", "fidelity.png"}
    # All but the teacher, against it.
    assert set(results["fidelity"]) == {*FAST, *SMALL} - {"teacher"}
    gap = 100 * np.subtract(
        *(
            results["fidelity"][arm]["test"]["agreement"]["values"]
            for arm in ("small_fsp", "small")
        )
    )
    (claim,) = (c for c in results["claims"] if c["key"] == "fidelity/small_fsp/small")
    np.testing.assert_allclose(claim["values"], gap, atol=1e-9)
    for arm, row in results["fidelity"].items():  # as the study's own test accuracy
        part = "fast" if arm in FAST else "small"
        np.testing.assert_allclose(
            row["test"]["accuracy"]["values"],
            results[part][arm]["average"]["values"],
            atol=1e-6,
        )
    for row in results["fast"].values():  # an ensemble of one net is that net
        np.testing.assert_allclose(row["ensemble"]["mean"], row["average"]["mean"])


def test_iterations_are_counted_as_the_paper_counts_them():
    for preset in ("cifar10", "cifar100"):
        config = PRESETS[preset]
        table = papers_table(config.paper_tables[0])
        for arm in set(table) & set(FAST):
            assert config.iterations(arm) == table[arm]["iterations"], (preset, arm)


def steps_of(folder):
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["stage"]: line["step"] for line in lines}


def test_phases_have_their_lengths(folder):
    last = steps_of(folder)
    full, fast = SMOKE.teacher_phase.steps, SMOKE.fast_phase.steps
    short = {*FAST} - {"teacher"}
    for arm in SMOKE.arms:
        assert last[f"{arm}-seed0-net0"] == (fast if arm in short else full)
    assert last["student-stage-seed0-net0"] == SMOKE.fsp_phase.steps
    assert last["small_fitnet-stage-seed0-net0"] == SMOKE.hint_phase.steps
    # Trained once, for both rows that start there.
    assert "small_fsp-stage-seed0-net0" in last
    assert "small_fsp_kd-stage-seed0-net0" not in last


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_hints_leave_the_layers_above_alone(tasks, trained):
    start, _ = tasks["all", "small"].start(0)
    after = trained["small_fitnet-stage"][0, 0][0]
    moved = {name for name in start if not same(start[name], after[name])}
    assert {"block_2_0", "fc"}.isdisjoint(moved)
    assert {"conv", "block_0_0", "block_1_0"} <= moved


def test_three_hints_reach_the_last_section(tasks, trained):
    """And the single one is the middle section's."""
    teacher = tasks["all", "large"]
    shapes = parts.maps(SMOKE, "large", teacher)
    assert single.guides(shapes, 1) == (single.guides(shapes, 3)[1],)
    start, _ = teacher.start(0)
    after = trained["fitnet_3_hints-stage"][0, 0][0]
    moved = {name for name in start if not same(start[name], after[name])}
    assert moved == set(start) - {"fc"}
    with pytest.raises(ValueError, match="2 hints"):
        single.guides(shapes, 2)


def test_shuffled_nets_have_targets_of_their_own(tasks):
    teacher = tasks["all", "large"]
    shapes = teaching.shapes(teacher.classifier, teacher.train.images)
    pairs = [("03_relu", "10_block")]
    plain = lessons.orders(shapes, pairs, None)
    one, two = (lessons.orders(shapes, pairs, (0, net)) for net in (0, 1))
    np.testing.assert_array_equal(plain[0][0], np.arange(4))
    assert not same(one, two)
    for rows, columns in (*one, *two):
        assert sorted(rows.tolist()) == sorted(columns.tolist()) == [0, 1, 2, 3]


TRANSFER = dataclasses.replace(SMOKE, transfer=True, train_examples=160)


def test_the_transfer_has_disjoint_classes():
    tasks = parts.make(TRANSFER)
    source, target = (tasks[part, "small"].train for part in ("source", "target"))
    whole = tasks["all", "small"].train
    assert source.num_classes == target.num_classes == 5
    assert len(target) == SMOKE.target_examples
    wanted = whole.images[whole.labels >= 5][: len(target)]
    np.testing.assert_array_equal(target.images, wanted)
    labels = whole.labels[whole.labels >= 5][: len(target)]
    np.testing.assert_array_equal(target.labels, labels - 5)


def test_a_tuned_teacher_starts_with_all_but_the_last_layer():
    tasks = parts.make(TRANSFER)
    before = tasks["source", "large"].start(7)
    trained = {"transfer_source": {(0, 0): before}}
    stage = stages_of(TRANSFER)["transfer_teacher"]
    found = lessons.begin(TRANSFER, tasks["target", "large"], stage, trained)
    start, batch_stats = found[0, 0]
    assert same(batch_stats, before[1])
    differing = {name for name in start if not same(start[name], before[0][name])}
    assert differing == {"fc"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_comes_after_those_that_it_needs(name):
    """A teacher has the classes of its students and the large form; steps add up."""
    config = PRESETS[name]
    stages = ordered(config, range(2))
    assert [stage.name for stage in stages if stage.is_last] == list(config.arms)
    done = {}
    for stage in stages:
        assert stage.name not in done
        if stage.start != "fresh":
            before = done[stage.start]
            assert stage.fresh_head == (before.part != stage.part)
            assert before.size == stage.size
            assert {(seed, 0) for seed, _ in stage.nets} <= {*before.nets}
        if stage.teacher is not None:
            teacher = done[stage.teacher]
            assert (teacher.part, teacher.size) == (stage.part, "large")
        done[stage.name] = stage
    for arm in config.arms:
        own = [done[arm]]
        if config.rows[arm].start in (*HINTS, "flow", "shuffled"):
            own.append(done[own[0].start])
            assert own[1].lesson == config.rows[arm].start
        steps = sum(len(stage.nets) * stage.phase.steps for stage in own)
        assert steps == 2 * config.iterations(arm)


def test_a_net_goes_on_from_its_own_or_its_seeds_only_one(tasks):
    config = dataclasses.replace(SMOKE, nets=2)
    stages = stages_of(config)
    nets = {net: tasks["all", "large"].start(net[1]) for net in [(0, 0), (0, 1)]}
    one = {(0, 0): nets[0, 0]}
    for name, before, expected in (
        ("teacher_more", nets, nets),
        ("shuffled", nets, nets),
        ("student", one, {(0, 0): nets[0, 0], (0, 1): nets[0, 0]}),
    ):
        stage = stages[name]
        trained = {stage.start: before}
        found = lessons.begin(config, tasks["all", "large"], stage, trained)
        assert found.keys() == expected.keys()
        assert all(found[net] is expected[net] for net in found), name


def test_the_ensemble_votes_by_mean_probabilities():
    """Two of three nets prefer class 0, but the third is sure."""
    nets = np.array([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]])[:, None, None]
    nets = np.tile(nets, (1, 1, 2, 1))
    mask = np.array([[True, False]])
    assert single.vote(nets, np.array([[1, 0]]), mask) == 1.0
    assert single.vote(nets, np.array([[0, 1]]), mask) == 0.0


def test_share_of_steps():
    steps = np.array([10, 20, 30, 40])
    loss = np.array([[4.0, 2.0, 1.0, 1.0], [4.0, 4.0, 4.0, 3.0]])
    found = share_of_steps(steps, loss, np.array([2.0, 1.0]))
    np.testing.assert_array_equal(found, [0.5, 1.0])


@pytest.mark.long
def test_the_transfer_end_to_end(tmp_path):
    config = dataclasses.replace(TRANSFER, small=False)
    folder = launch.run(fsp.STUDY, config, tmp_path / "fsp")
    results = json.loads((folder / "results.json").read_text())
    assert tuple(results["transfer"]) == tuple(TRANSFER_ROWS)
    assert len(results["claims"]) == 10 + 2 + 2 * 2
    last = steps_of(folder)
    assert last["transfer_source-seed0-net0"] == config.teacher_phase.steps
    assert last["transfer_fsp-seed0-net0"] == config.transfer_phase.steps
    assert last["transfer_fsp-stage-seed0-net0"] == config.transfer_fsp_phase.steps


CUB = dataclasses.replace(
    PRESETS["cub"].resolved,
    dataset="digits_photo",
    image_size=16,
    train_examples=32,
    teacher="resnet14",
    model="resnet8",
    width=0.25,
)


def test_without_weights_the_birds_teacher_starts_from_scratch():
    rows = PRESETS["cub"].rows
    assert tuple(rows) == (
        "transfer_teacher_scratch",
        "transfer_scratch",
        "transfer_fitnet",
        "transfer_fsp",
    )
    assert rows["transfer_fsp"].teacher == "transfer_teacher_scratch"
    statements = [claim.source for claim in claims(PRESETS["cub"])]
    assert statements == [
        "transfer_fsp minus transfer_scratch",
        "transfer_fsp minus transfer_fitnet",
        "fidelity/transfer_fsp/transfer_scratch",
        "fidelity/transfer_fsp/train",
    ]


def test_the_birds_teacher_starts_with_the_files_weights(tmp_path):
    """In torchvision's names, but for the last layer; pixels as ImageNet's."""
    path = tmp_path / "weights.npz"
    tasks = parts.make(CUB)
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    names |= {"mean": "running_mean", "var": "running_var"}
    params, batch_stats = tasks["target", "large"].start(7)
    arrays = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path((params, batch_stats)):
        *layers, leaf_name = (key.key for key in place[1:])
        value = np.asarray(leaf)
        if leaf_name == "kernel":
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        arrays[f"{torchvisions(layers)}.{names[leaf_name]}"] = value
    np.savez(path, **arrays)
    config = dataclasses.replace(CUB, source_weights=str(path))
    assert tuple(config.rows)[:2] == ("transfer_teacher", "transfer_teacher_scratch")
    tasks = parts.make(config)
    stage = stages_of(config)["transfer_teacher"]
    found = lessons.begin(config, tasks["target", "large"], stage, {})
    start, stats = found[0, 0]
    assert same(stats, batch_stats)
    assert {n for n in start if not same(start[n], params[n])} == {"fc"}
    mean = tasks["target", "small"].classifier.mean
    np.testing.assert_allclose(mean, [123.675, 116.28, 103.53])


def torchvisions(layers):
    """torchvision's name of one of our layers."""
    if len(layers) == 1:
        return {"conv": "conv1", "bn": "bn1", "fc": "fc"}[layers[0]]
    _, section, block = layers[0].split("_")
    kind = layers[1]
    if kind.startswith("shortcut"):
        kind = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}[kind]
    else:
        name, number = kind.split("_")
        kind = f"{name}{int(number) + 1}"
    return f"layer{int(section) + 1}.{block}.{kind}"


def test_the_gaps_of_birds_stand_beside_a_pretrained_teacher_alone(tmp_path):
    """Claims and figures: not on birds from scratch, nor between halves of CIFAR."""
    path = tmp_path / "weights.npz"
    np.savez(path)
    scratch = PRESETS["cub"].resolved
    pretrained = dataclasses.replace(scratch, source_weights=str(path))
    halves = PRESETS["cifar10"].resolved
    for config, gaps in (
        (scratch, [None, None]),
        (pretrained, [26.53, 4.07]),  # 74.26 less 47.73 and less 70.19
        (halves, [None, None]),
    ):
        found = {claim.statistic: claim.paper for claim in claims(config)}
        others = ("transfer_scratch", "transfer_fitnet")
        assert [found[f"transfer_fsp minus {other}"] for other in others] == gaps
        row = {"nets": [[0.5]], "average": {"mean": 0.5, "std": None}}
        results = {"fast": {}, "small": {}, "transfer": {"transfer_fsp": row}}
        results["paper"] = {name: papers_table(name) for name in config.paper_tables}
        as_stored = json.loads(json.dumps(dataclasses.asdict(config)))
        panels = figures.tables(as_stored, results).panels
        assert [panel.title for panel in panels if panel.paper] == (
            ["Paper: table 5 (ImageNet to CUB)"] if gaps[0] else []
        )
        (table,) = (panel for panel in panels if panel.kind == "table")
        assert ("paper, mean of nets" in table.head) == (gaps[0] is not None)


def test_the_papers_times_give_its_ratios():
    """Section 4.1.1: 8.6 h and 4.84 h; 16, 35 and 19 s for 100 steps."""
    found = timing.ratios(PRESETS["cifar10"], timing.PAPERS_SECONDS)
    for way, ratio in timing.PAPERS.items():
        # The paper divides hours that it has rounded.
        assert abs(found[way] - ratio) < 0.02, way
    few = timing.ratios(PRESETS["digits"], timing.PAPERS_SECONDS)  # without shuffled
    assert list(few) == ["flow matrices computed", "flow matrices stored"]
    counted = {
        arm: {"iterations": PRESETS["digits"].iterations(arm)}
        for arm in ("teacher", "student")
    }
    times = {"ratios": {"wall": few, "cpu": few}, "seconds_of_a_step": {"labels": few}}
    drawn = figures.speed({"fast": counted, "timing": times})
    assert list(drawn.panels[0].y.names) == list(few)


def test_seconds_of_a_step_leave_out_what_is_constant(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(clocks.time, "process_time", lambda: 2 * clock["now"])

    def train(steps):
        clock["now"] += 7 + 0.25 * steps

    assert clocks.of_a_step(train, 8) == {"wall": 0.25, "cpu": 0.5}

    def busy(steps):
        clock["now"] += 10 if steps == 1 else 9

    assert clocks.of_a_step(busy, 8) == {"wall": 1.0, "cpu": 2.0}


def test_speed_is_measured_once_and_is_no_result(folder):
    assert "timing" not in (folder / "results.json").read_text()
    before = (folder / "timing.json").read_bytes()
    launch.run(fsp.STUDY, SMOKE, folder)
    assert (folder / "timing.json").read_bytes() == before
    found = json.loads(before)
    assert set(found["seconds_of_a_step"]) == {"labels", "flow", "stored"}
    figure = described.described(fsp.STUDY, folder)["speed"]
    chart, ours, *_ = figure.panels
    series = {one.name: one for one in chart.series}
    np.testing.assert_allclose(
        series["wall time"].x, list(found["ratios"]["wall"].values())
    )
    # 6 steps against 4 and 2 more.
    np.testing.assert_allclose(series["steps"].x, [1, 1, 1])
    np.testing.assert_allclose(series["paper"].x, [1.78, 2.18, 1.39])
    assert series["paper"].paper
    assert [row[1] for row in ours.rows] == ["1.00"] * 3


def test_claims_carry_the_papers_numbers():
    found = {claim.statistic: claim.paper for claim in claims(PRESETS["cifar10"])}
    assert found["student minus teacher"] == 0.39
    assert found["small_fsp minus small"] == 0.79
    found = {claim.statistic: claim.paper for claim in claims(PRESETS["cifar100"])}
    assert found["small_fsp minus small_fitnet"] == 2.05
    assert found["shuffled ensemble minus student ensemble"] is None
    # Table 5 is of birds and of a teacher with weights of ImageNet.
    assert found["transfer_fsp minus transfer_scratch"] is None
    assert found["student ensemble minus fitnet ensemble"] == 1.2
    alone = dataclasses.replace(SMOKE, small=False, transfer=False)
    assert len(claims(alone)) == 10 + 2
    assert alone.arms == tuple(FAST)


def test_rows_left_out_have_no_training_and_no_claim():
    digits = PRESETS["digits"]
    arms = ("teacher", "teacher_fast", "fitnet", "student")
    assert digits.arms == (*arms, "small", "small_fitnet", "small_fsp")
    compared = {
        arm.removesuffix("-ensemble")
        for claim in claims(digits)
        for arm in claim.key.split("/")[1:]
    }
    assert compared - {"train"} <= {*digits.arms}
    assert sum(claim.main for claim in claims(digits)) == 2
    with pytest.raises(ValueError, match="left_out"):
        dataclasses.replace(digits, left_out=("teacher",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "vgg11"}, "input_batch_norm"),
        ({"teacher": "resnet15"}, "did you mean"),
        ({"nets": 0}, r"nets must be in \[1, 100\], got 0"),
        ({"fast": False}, "small=True needs fast=True"),
        ({"fast": False, "small": False, "transfer": False}, "no table"),
        ({"source_weights": "w.npz"}, "source_classes=None, input_batch_norm=False"),
        (
            {
                "source_weights": "w.npz",
                "source_classes": None,
                "input_batch_norm": False,
            },
            "there is no file 'w.npz'",
        ),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)


def test_images_whose_maps_do_not_halve_are_refused_and_run_resized(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (200, 30, 30, 3), np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(200) % 4)
    changes = {"dataset": str(tmp_path / "own.npz"), "eval_batch_size": 20}
    config = dataclasses.replace(SMOKE, image_size=None, **changes)
    with pytest.raises(
        ValueError, match=r"15 is no multiple of 8; .* resize the images"
    ):
        parts.check(config)
    parts.check(dataclasses.replace(config, image_size=32))
