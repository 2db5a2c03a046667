"""The distillation study: what each student learns from, the nulls, the statistics."""

import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from experiments.common import judging, launch, teaching
from experiments.common.study import StudyRun
from experiments.distillation import networks, students
from experiments.distillation import study as distillation
from experiments.distillation.claims import claims, deep, late_minus_early, papers_maps
from experiments.distillation.config import PRESETS
from experiments.distillation.networks import flow, last_map
from experiments.distillation.results import statistics
from kd_heuristics import models, runs, training
from tests.experiments import planned
from tests.experiments.silent import Silent

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("smoke") / "distillation"
    return launch.run(distillation.STUDY, SMOKE, target)


@pytest.fixture(scope="module")
def lesson(folder):
    """The teachers and what they teach with, read from the run's checkpoints."""
    run = StudyRun(SMOKE, runs.RunFolder(folder), Silent(), by=distillation.compute)
    nets = networks.choose(SMOKE)
    seeds = students.teacher_seeds(SMOKE)
    return types.SimpleNamespace(
        run=run,
        nets=nets,
        teachers=students.train_teachers(run, nets, seeds),
        fresh={seed: nets.student.start(seed) for seed in students.drawn(SMOKE)},
    )


def test_leaves_numbers_claims_and_figures(folder):
    planned.check(distillation.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    assert len(results["claims"]) == 6 + 2
    assert set(results["final_test_accuracy"]) == {"teacher", *SMOKE.arms}
    names = {path.name for path in (folder / "figures").glob("*.png")}
    drawn = {"figure6", "layers", "measures", "temperatures", "fidelity"}
    assert names == {f"{name}.png" for name in drawn}


def test_calibrated_maps_stand_beside_the_raw_ones_by_five_measures(folder):
    results = json.loads((folder / "results.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        for name in (*SMOKE.arms, "second/distilled"):
            for kind in ("", "/svcca", "/cca", "/cka", "/procrustes"):
                value = arrays[f"map/{name}{kind}"]
                floor = arrays[f"floor/{name}{kind}"]
                assert value.shape == floor.shape
                room = np.where(floor < 1, 1 - floor, 1)
                expected = np.where(floor < 1, (value - floor) / room, 0)
                found = arrays[f"map/{name}{kind}/calibrated"]
                # Near a floor of 1 the quotient is of float32 rounding.
                np.testing.assert_allclose(
                    np.where(floor < 0.999, found - expected, 0), 0, atol=1e-4
                )
    by = results["similarities_by_measure"]
    stated = [claim["statistic"] for claim in results["claims"]]
    assert set(by) == set(stated[1:6])  # all but those of accuracy and fidelity
    for values in by.values():
        assert {"google_cca", "svcca", "cca", "cka", "procrustes"} == set(values)


def test_fidelity_is_measured_on_train_and_test(folder, lesson):
    """Against the study's own accuracy, and predictions computed one by one."""
    results = json.loads((folder / "results.json").read_text())
    assert set(results["fidelity"]) == set(SMOKE.arms)
    nets, teacher = lesson.nets, lesson.teachers[0]
    labels = {("independent", 0): lesson.fresh[0]}
    student = students.train_labelled(lesson.run, nets, labels | others(lesson))
    found = results["fidelity"]["independent"]["test"]
    images = nets.student.sets["test"]["images"]
    mask = np.asarray(nets.student.sets["test"]["mask"]).ravel()
    chosen = [
        np.concatenate(
            [
                its.classifier.network.apply(v, its.classifier.inputs(x)).argmax(-1)
                for x in images
            ]
        )[mask]
        for its, v in (
            (nets.student, student["independent", 0]),
            (nets.teacher, teacher),
        )
    ]
    expected = (chosen[0] == chosen[1]).mean()
    np.testing.assert_allclose(found["agreement"]["values"], [expected], rtol=1e-6)
    for arm in SMOKE.arms:
        for split in ("train", "test"):
            its = results["fidelity"][arm][split]
            assert 0 <= its["calibration_error"]["mean"] <= 1
            assert its["divergence"]["mean"] > 0


def others(lesson):
    """The other students of labels, in the order of the study."""
    starts = {("independent", 1): lesson.fresh[1]}
    for kind in SMOKE.kinds:
        starts |= students.FIRST_STAGES[kind](**vars(lesson))
    return starts


def test_every_student_takes_equally_many_steps(folder):
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {line["stage"]: line["step"] for line in lines}
    for arm in SMOKE.arms:
        assert last[f"{arm}-seed0"] == SMOKE.epochs * 4  # 128 images by 32


def moved(before, after):
    """Layers of which some parameter changed."""
    return {
        name
        for name in before
        if not all(
            np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(before[name]), jax.tree.leaves(after[name]), strict=True
            )
        )
    }


def test_hints_train_what_lies_below_the_guided_layer(lesson):
    """From the checkpoint: nothing is trained twice."""
    start, after = (
        lesson.fresh[0][0],
        students.train_hints(**vars(lesson))["hint", 0][0],
    )
    assert moved(start, after) == {"conv_00", "conv_01"}


def test_flow_matrices_only_decay_the_layers_above(lesson):
    start, after = lesson.fresh[0][0], students.train_flows(**vars(lesson))["fsp", 0][0]
    assert moved(start, after) >= {"conv_00", "conv_01"}
    for name in ("fc_0", "fc_1", "fc_2"):
        ratio = after[name]["kernel"] / start[name]["kernel"]
        # 4 steps, rates up to 0.03, a decay of 5e-4, momentum: 9e-5 at most; float32.
        np.testing.assert_allclose(ratio, 1, atol=1e-4)
        np.testing.assert_array_equal(after[name]["bias"], start[name]["bias"])


def test_students_of_a_seed_learn_from_their_own_teacher(lesson, monkeypatch):
    teachers = lesson.teachers
    assert set(teachers) == {0, 1}
    own, other = (teachers[seed]["params"]["fc_2"]["kernel"] for seed in (0, 1))
    assert not np.allclose(own, other)
    # The smoke preset's teacher has the student's form, but not its start.
    assert not np.allclose(own, lesson.fresh[0][0]["fc_2"]["kernel"], atol=0.1)
    # What each population is given, by seed; nothing is trained.
    given = {}

    def population(self, name, members, *args, **options):
        given.update({member.stage: member.objective for member in members})
        raise StopIteration

    monkeypatch.setattr(StudyRun, "population", population)
    two = dataclasses.replace(lesson.run, config=dataclasses.replace(SMOKE, seeds=2))
    one = dataclasses.replace(
        two, config=dataclasses.replace(two.config, teachers="one")
    )
    for run, teacher_of in ((two, lambda seed: seed), (one, lambda seed: 0)):
        given.clear()
        for train in (
            students.train_distilled,
            students.train_hints,
            students.train_flows,
        ):
            with pytest.raises(StopIteration):
                train(**vars(lesson) | {"run": run})
        check_teachers(given, teachers, teacher_of)


def check_teachers(given, teachers, teacher_of):
    """Each objective has the kernels of the teacher of its seed."""
    assert len(given) == 2 * (len(SMOKE.temperatures) + 2)
    for stage, objective in given.items():
        kernel = teachers[teacher_of(int(stage[-1]))]["params"]["fc_2"]["kernel"]
        leaves = [leaf for leaf in jax.tree.leaves(objective) if leaf is kernel]
        assert len(leaves) == 1, stage


@pytest.mark.parametrize(
    ("teachers", "count", "teacher_seeds", "nulls"),
    [
        ("one", 1, [4, 5], {4: 5}),
        ("one", 3, [4, 5], {4: 5}),
        ("paired", 1, [4, 5], {4: 5}),
        ("paired", 3, [4, 5, 6], {4: 5, 5: 6, 6: 4}),
    ],
)
def test_teachers_of_a_run(teachers, count, teacher_seeds, nulls):
    """One for all students, or one each; the null is one that they never saw."""
    config = dataclasses.replace(SMOKE, teachers=teachers, seeds=count, first_seed=4)
    seeds = students.teacher_seeds(config)
    assert [*seeds] == teacher_seeds
    own = {students.teacher_of(config, 4 + seed) for seed in range(count)}
    assert {seed: students.following(seeds, seed) for seed in own} == nulls
    planned_ = {
        its.name: its.members for its in distillation.STUDY.plan(config).trainings
    }
    assert planned_["teachers"] == len(teacher_seeds)
    assert planned_["labels"] == max(count, 2) + count * len(config.kinds)


def test_the_papers_preset_has_one_teacher_and_decays_all():
    paper = PRESETS["cifar10"]
    assert paper.teachers == "one"
    tree = {"kernel": 0, "bias": 0}
    optimizer = students.optimizer(
        dataclasses.replace(SMOKE, decayed="all"), its_of(4), 0.1, 1, None
    )
    for decayed, expected in (
        (paper.decay_mask(tree), True),
        (SMOKE.decay_mask(tree), False),
    ):
        assert decayed == {"kernel": True, "bias": expected}
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    zero = jax.tree.map(np.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    # Momentum 0.9 at the first step: the rate times the decay times 1.
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(leaf, -0.1 * SMOKE.weight_decay, rtol=1e-6)


def its_of(steps):
    """As much of a task as an optimiser needs."""
    return types.SimpleNamespace(steps_per_epoch=steps)


@pytest.mark.long
def test_one_teacher_end_to_end(tmp_path):
    """Two seeds, which share their teacher: its curve is drawn once."""
    config = dataclasses.replace(
        SMOKE, teachers="one", seeds=2, kinds=(), temperatures=(5.0,)
    )
    folder = launch.run(distillation.STUDY, config, tmp_path / "distillation")
    planned.check(distillation.STUDY, folder, config)
    results = json.loads((folder / "results.json").read_text())
    assert len(results["final_test_accuracy"]["teacher"]["values"]) == 1
    assert len(results["final_test_accuracy"]["soft-5"]["values"]) == 2
    assert results["pairs"] == {}
    # Its accuracy stands for both seeds, whose claims need it.
    one, other = (results["trained"]["teacher"][str(seed)] for seed in (0, 1))
    assert one == other


def test_statistics_follow_from_the_maps():
    """A student whose last FC layer alone is .3 more like the teacher's late layers."""
    config = dataclasses.replace(SMOKE, kinds=(), temperatures=(5.0,))
    layers = np.array(["00_conv", "01_relu", "02_fc", "03_fc"])
    flat = np.full((2, 4, 4), 0.5)
    distilled, other = flat.copy(), flat.copy()
    distilled[:, 2:, 3] += 0.3
    other[:, :, 2] -= 0.1
    arrays = {
        "layers": layers,
        "map/independent": flat,
        "map/soft-5": distilled,
        "map/other_independent": other,
        "map/second/distilled": flat + 0.01,
        "map/second/independent": flat,
        "independent/test_accuracy": np.array([[0.1, 0.5], [0.1, 0.6]]),
        "soft-5/test_accuracy": np.array([[0.1, 0.6], [0.1, 0.8]]),
        "soft-5/fidelity/test/agreement": np.array([0.9, 0.8]),
        "soft-5/fidelity/train/agreement": np.array([0.95, 1.0]),
        "independent/fidelity/test/agreement": np.array([0.7, 0.85]),
    }
    found = list(statistics(config, arrays).values())
    np.testing.assert_allclose(found[0], [10, 20])  # points
    np.testing.assert_allclose(found[1], [0.075, 0.075])  # .3 in 2 of 8 cells
    np.testing.assert_allclose(found[2], [0.1, 0.1])  # late 2 of 6 cells, early 0
    # To the other: .1 in 4 and .3 in 2 of 8 cells; the null's .1 in 4.
    np.testing.assert_allclose(found[3], [0.075, 0.075])
    np.testing.assert_allclose(found[4], [0.065, 0.065])
    np.testing.assert_allclose(found[5], [0, 0])  # one of two FC layers is as it was
    np.testing.assert_allclose(found[6], [20, -5])  # points of agreement
    np.testing.assert_allclose(found[7], [5, 0], atol=1e-9)

    # The teacher leads the students of labels by 20 and by 1 points.
    arrays["teacher/test_accuracy"] = np.array([[0.7], [0.61]])
    gated = dataclasses.replace(config, smallest_gap=2.0)
    gain, *_ = statistics(gated, arrays).values()
    np.testing.assert_allclose(gain, [10, np.nan])


def test_the_papers_maps_say_what_the_paper_reports():
    found = papers_maps()
    change = np.abs(found["distilled"] - found["independent"])
    assert found["distilled"].shape == (38, 10)
    fc = deep(["00_conv"] * 6 + ["06_fc", "07_relu", "08_fc", "09_fc"])
    assert change[:, fc].mean() > 4 * change[:, ~fc].mean()
    assert np.unravel_index(change.argmax(), change.shape) == (37, 9)
    # Read off the drawing of the difference itself, to the width of its colours.
    np.testing.assert_allclose(change.max(), 0.113, atol=1e-3)
    np.testing.assert_allclose(  # columns 0 and 3 against 6, 8 and 9
        found["least change of an FC layer minus largest of a convolution"],
        change.mean(0)[[6, 8, 9]].min() - change.mean(0)[[0, 3]].max(),
    )
    values = [claim.paper for claim in claims(SMOKE)]
    np.testing.assert_allclose(values[0], 2.17)
    assert values[1] > 0.01
    assert values[2] > 0.01


def test_late_minus_early_counts_a_quarter_as_early():
    change = np.zeros((38, 2))
    change[:10] = 1.0
    assert late_minus_early(change) == -1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": ("hints",)}, "did you mean 'hint'"),
        ({"temperatures": (1.0,)}, r"hold the temperature 5, got \(1.0,\)"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_layers_to_compare(name):
    config = PRESETS[name]
    mine, theirs = (
        teaching.shapes(
            training.Classifier(models.create(net, 10, **options), (0.0,), (1.0,)),
            np.zeros((1, 32, 32, 3)),
        )
        for net, options in (
            (config.model, config.model_options),
            (config.teacher, config.teacher_options),
        )
    )
    guided = list(teaching.joinable(mine).values())[-1].shape
    maps = teaching.joinable(theirs)
    assert maps[last_map(maps, guided[1:3])].shape[1:3] == guided[1:3]
    if "fsp" in config.kinds:
        for layer in flow(maps, guided[-1], guided[-1]):
            assert maps[layer].shape[-1] == guided[-1]


def test_widths_that_flow_matrices_cannot_join_are_refused(folder):
    config = dataclasses.replace(SMOKE, width=0.1)
    with pytest.raises(ValueError, match="two layers of the teacher with 6 and 6"):
        distillation.compute(config, runs.RunFolder(folder), Silent())


def test_a_run_with_one_teacher_returns_its_accuracy(folder, tmp_path):
    """With one seed it takes over the trainings of the smoke run."""
    config = dataclasses.replace(SMOKE, teachers="one").resolved
    copy = shutil.copytree(folder, tmp_path / "one")
    found, _ = distillation.compute(config, runs.RunFolder(copy, "accept"), Silent())
    of_all = json.loads((folder / "results.json").read_text())["trained"]["teacher"]
    assert found["trained"] == {"teacher": {"0": of_all["0"]}}


def test_the_failure_of_the_one_teacher_counts_for_every_seed():
    def logged(stage, names, seeds):
        assert (stage, names, seeds) == ("teacher", ["accuracy"], [4, 4, 4])
        return {"teacher/accuracy": np.array([[0.5, 0.1]] * 3)}

    run = types.SimpleNamespace(seeds=[4, 5, 6], logged=logged)
    found = distillation.taught_by_one(run, [4, 4, 4])
    (claim, *_) = distillation.STUDY.claims(SMOKE)
    assert "teacher" in claim.trainings
    for seed in run.seeds:
        own = {"seed": seed, "trained": {"teacher": found[str(seed)]}}
        assert judging.has_failed(own, "teacher", 0.19)
