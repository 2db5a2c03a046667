"""The FunMatch study: what its arms minimise, their teachers, claims and presets."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import launch
from experiments.common.study import StudyRun
from experiments.funmatch import (
    held,
    lengths,
    lessons,
    materials,
    optimizers,
    sets,
    students,
)
from experiments.funmatch import study as funmatch
from experiments.funmatch.arms import ARMS, Grid, Setting
from experiments.funmatch.claims import claims, statistics
from experiments.funmatch.config import PRESETS, name
from experiments.funmatch.teachers import Teachers
from kd_heuristics import data, distill, models, runs, training
from tests.data import prepared_fixture
from tests.experiments import planned
from tests.experiments.silent import Silent

SMOKE = PRESETS["smoke"]
HELD = ("accuracy", "loss", "kl", "agreement")
EVERY = dataclasses.replace(
    SMOKE,
    related="photo_patches",
    whole_size=24,
    main=("fix/cc", "mix"),
    other_arms=tuple(arm for arm in ARMS if arm not in ("fix/cc", "mix")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("smoke") / "funmatch"
    return launch.run(funmatch.STUDY, SMOKE, target)


def test_leaves_numbers_claims_and_figures(folder):
    planned.check(funmatch.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    keys = [claim["key"] for claim in results["claims"]]
    assert {"patience/mix", "patience/teacher"} <= {*keys}
    assert set(results["arms"]) == set(SMOKE.arms)
    for arm, trained in results["arms"].items():
        assert list(trained) == ["2", "4"], arm
        for epochs, found in trained.items():
            assert found["steps"] == 2 * int(epochs)  # 64 images by 32
            assert found["seeds"] == [0]
            keys = {f"test_{key}" for key in HELD} | {"validation_accuracy"}
            assert keys <= set(found)
            for key in keys:
                assert np.isfinite(found[key]["values"]).all()
    forwards = {
        arm: runs["2"]["teacher_forwards"] for arm, runs in results["arms"].items()
    }
    assert forwards == {"fix/cc": 64, "mix": 128}
    names = {path.name for path in (folder / "figures").glob("*.png")}
    assert names == {"patience.png", "variants.png", "curves.png", "fidelity.png"}
    assert [key for key in keys_of(results) if key.startswith("fidelity")] == [
        "fidelity/mix/fix/cc",
        "fidelity/mix/train",
    ]
    found = results["arms"]["mix"]["4"]
    for split in ("train", "test"):
        assert 0 <= found[f"{split}_calibration_error"]["mean"] <= 1
    gap = found["test_agreement"]["mean"]
    gap -= results["arms"]["fix/cc"]["4"]["test_agreement"]["mean"]
    claim = results["claims"][keys_of(results).index("fidelity/mix/fix/cc")]
    np.testing.assert_allclose(claim["values"], [100 * gap], atol=1e-9)
    claim = results["claims"][keys_of(results).index("fidelity/mix/train")]
    expected = 100 * (1 - found["train_agreement"]["mean"])
    np.testing.assert_allclose(claim["values"], [expected], rtol=1e-9)


def keys_of(results):
    return [claim["key"] for claim in results["claims"]]


def test_calibration_errors_of_held_images_by_the_library(its):
    """Whole sets at once, against sums over chunks and bins of a population."""
    classifier, size = its.classifiers["student"], SMOKE.student_size
    draw = np.random.default_rng(0)

    def start(*arguments):  # the last layer starts at 0
        moved = [
            x + 0.3 * draw.normal(size=x.shape) for x in jax.tree.leaves(arguments)
        ]
        return jax.tree.map(jnp.float32, jax.tree.structure(arguments).unflatten(moved))

    starts = [start(*its.start("student", seed, size)) for seed in (0, 1)]
    params, stats = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    state = training.TrainState(jnp.int32(0), params, stats, ())
    teacher = distill.Teacher(
        lessons.Looks(its.classifiers["teacher"]),
        training.with_stats(*start(*its.start("teacher", 9, SMOKE.teacher_size))),
    )
    held_out = held.prepare(its, teacher)
    found = held_out.fidelity(classifier, size, state)
    for split in ("train", "test"):
        for member, own in enumerate(starts):
            own = distill.Teacher(lessons.Looks(classifier), training.with_stats(*own))
            whole = its.sets.held[split]
            logits = sets.logits(own, whole, 50, size, SMOKE.fraction)
            expected = distill.fidelity(logits, held_out.targets[split], whole.labels)
            if split == "train":
                for theirs, ours in (("kl", "divergence"), ("agreement", "agreement")):
                    np.testing.assert_allclose(
                        found[f"train_{theirs}"][member], expected[ours], rtol=1e-4
                    )
            np.testing.assert_allclose(
                found[f"{split}_calibration_error"][member],
                expected["calibration_error"],
                rtol=1e-4,
            )


def test_a_finished_run_is_not_trained_again(folder, undrawn):
    before = (folder / "metrics.jsonl").read_text()
    launch.run(funmatch.STUDY, SMOKE, folder)
    assert (folder / "metrics.jsonl").read_text() == before


@pytest.fixture(scope="module")
def its():
    """Sets and networks of every arm."""
    return materials.make(EVERY)


@pytest.fixture
def lesson_of(its, tmp_path, monkeypatch):
    """The objectives of teachers that know nothing, with stored targets of zeros."""
    first, second = (
        training.with_stats(*its.start("teacher", seed, size))
        for seed, size in ((1, EVERY.teacher_size), (2, EVERY.student_size))
    )
    pretrained = its.start("student", 3, EVERY.student_size)
    taught_by = Teachers(first=first, second=second, pretrained=pretrained)
    monkeypatch.setattr(students, "targets", lambda *_: jnp.zeros((64, 10)))
    run = StudyRun(EVERY, runs.RunFolder(tmp_path), Silent(), by=funmatch.compute)
    return lambda arm, setting: students.lesson(run, its, taught_by, arm, setting)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_an_objective_and_no_other_reads_labels(arm, its, lesson_of):
    one = ARMS[arm]
    objective = lesson_of(one, EVERY.settings[0])
    params, batch_stats = its.start(one.family, 0, EVERY.sizes(one)[1])
    batch = {"images": jnp.zeros((4, 32, 32, 3), jnp.uint8), "index": jnp.arange(4)}
    if one.labels:
        batch["labels"] = jnp.arange(4)
    value, (moved, metrics) = jax.eval_shape(
        objective, params, batch_stats, batch, jax.random.key(0)
    )
    assert value.shape == ()
    assert jax.tree.structure(moved) == jax.tree.structure(batch_stats)
    assert ("agreement" in metrics) == (not one.labels)
    if one.labels:
        del batch["labels"]
        with pytest.raises(KeyError, match="labels"):
            jax.eval_shape(objective, params, batch_stats, batch, jax.random.key(0))


def test_arms_differ_in_what_their_names_say(its):
    setting = EVERY.settings[0]
    crops = {
        arm: students.crops(EVERY, ARMS[arm], setting)
        for arm in ("fix/ic_ens", "fix/ic_ens_equal")
    }
    assert crops == {"fix/ic_ens": 2, "fix/ic_ens_equal": setting.epochs}
    forwards = {arm: students.teacher_forwards(its, ARMS[arm], setting) for arm in ARMS}
    assert forwards["fix/ic_ens_equal"] == forwards["same/ic"] == 128
    assert forwards["ensemble"] == 256
    assert forwards["labels+mixup"] == 0
    sizes = {arm: EVERY.sizes(ARMS[arm]) for arm in ("mix", "full_size", "fix/rs")}
    assert sizes == {"mix": (32, 16), "full_size": (32, 32), "fix/rs": (24, 24)}
    assert its.sets.others is not None
    assert (its.sets.others.labels == data.UNLABELLED).all()


CLASSIFIER = training.Classifier(
    models.create("shallow", 3, width=0.02, classifier_width=4), (127.5,), (127.5,)
)
IMAGES = jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1)), jnp.uint8
)


def logits_of(variables, pixels):
    inputs = (pixels - 127.5) / 127.5
    return np.asarray(CLASSIFIER.network.apply(variables, inputs), np.float64)


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def nets():
    example = jnp.zeros((1, 8, 8, 1))
    return [CLASSIFIER.network.init(jax.random.key(seed), example) for seed in (0, 1)]


def test_matching_is_the_released_loss_of_what_the_view_shows(nets):
    """T^2 sum p_t (log p_t - log p_s), of big_vision's definition, by hand."""
    student, teacher = nets
    view = data.views.create("mix", teacher_size=8, flip=False)
    key, temperature = jax.random.key(5), 3.0
    objective = jax.tree_util.Partial(
        lessons.Matching(CLASSIFIER, view),
        jnp.float32(temperature),
        distill.Teacher(lessons.Sees(CLASSIFIER), teacher),
    )
    value, (_, metrics) = objective(student["params"], {}, {"images": IMAGES}, key)
    seen = view(IMAGES, key)
    s, t = (
        logits_of(net, seen[who])
        for net, who in ((student, "student"), (teacher, "teacher"))
    )
    p, q = softmax(t / temperature), softmax(s / temperature)
    expected = temperature**2 * (p * (np.log(p) - np.log(q))).sum(-1).mean()
    np.testing.assert_allclose(value, expected, rtol=2e-5)
    p, q = softmax(t), softmax(s)
    np.testing.assert_allclose(
        metrics["kl"], (p * (np.log(p) - np.log(q))).sum(-1).mean(), rtol=2e-5
    )
    assert metrics["agreement"] == (s.argmax(-1) == t.argmax(-1)).mean()


def test_labels_are_mixed_as_the_images_are(nets):
    view = data.views.create("mix", teacher_size=8, flip=False)
    labels, key = jnp.array([0, 1, 2, 0]), jax.random.key(6)
    batch = {"images": IMAGES, "labels": labels}
    value, _ = lessons.Labels(CLASSIFIER, view)(nets[0]["params"], {}, batch, key)
    seen = view(IMAGES, key)
    a = float(seen["mixup"])
    assert 0.5 <= a < 1
    hot = np.eye(3)[np.asarray(labels)]
    targets = a * hot + (1 - a) * np.roll(hot, 1, 0)
    log_q = np.log(softmax(logits_of(nets[0], seen["student"])))
    np.testing.assert_allclose(value, -(targets * log_q).sum(-1).mean(), rtol=2e-5)


def test_stored_targets_are_looked_up_by_example(nets):
    table = jnp.arange(12.0).reshape(4, 3)
    found = distill.stored(table)({"index": jnp.array([2, 0])})
    np.testing.assert_array_equal(found, table[jnp.array([2, 0])])


def test_statistics_are_of_the_longest_training():
    config = dataclasses.replace(PRESETS["digits"], other_arms=())
    arrays = {}
    for place, arm in enumerate(config.main):
        for setting in config.settings:
            values = np.full(3, 0.1 * place + 0.001 * setting.epochs)
            arrays[f"{name(arm, setting.epochs)}/test_accuracy"] = values
            arrays[f"{name(arm, setting.epochs)}/test_kl"] = 1 - values
    found = statistics(config, arrays, 0.5)
    np.testing.assert_allclose(found["longest/same/ic/fix/cc"], 20)
    np.testing.assert_allclose(found["distance/same/ic/fix/cc"], 0.2)
    np.testing.assert_allclose(found["patience/mix"], 12)
    np.testing.assert_allclose(found["patience/teacher"], 100 * (0.3 + 0.128 - 0.5))
    keys = {claim.key for claim in claims(config)}
    assert {*found} == {key for key in keys if not key.startswith("fidelity/")}


def test_an_arm_of_one_seed_is_compared_with_the_same_seed():
    changes = {"seeds": 12, "other_arms": ("others",)}
    config = dataclasses.replace(PRESETS["digits"], **changes).resolved
    arrays = {
        f"{name(arm, setting.epochs)}/{metric}": np.arange(seeds, dtype=float)
        for arm in config.arms
        for setting, seeds in config.plan(arm)
        for metric in ("test_accuracy", "test_kl")
    }
    found = statistics(config, arrays, 0.5)
    assert found["others/mix/others"].tolist() == [0.0]
    assert len(found["patience/mix"]) == 12


def test_claims_carry_the_papers_numbers():
    found = {claim.key: claim.paper for claim in claims(PRESETS["digits"].resolved)}
    assert found["longest/same/ic/fix/cc"] == 4.02
    assert found["longest/mix/same/ic"] == 0.6
    assert found["longest/ind/ic/fix/cc"] is None
    assert found["patience/mix"] == 1.88
    assert "patience/fix/cc" not in found  # no length between its two
    found = {claim.key: claim.paper for claim in claims(PRESETS["imagenet"].resolved)}
    assert found["patience/fix/cc"] == 1.16


def test_claims_of_a_small_set_carry_its_own_numbers():
    """Table 4: Flowers 77.51 and 96.93 %, the teacher 97.82; Pets 82.75 and 91.06."""
    found = {claim.key: claim.paper for claim in claims(PRESETS["flowers"].resolved)}
    assert found["patience/mix"] == 19.42
    assert found["patience/teacher"] == -0.89
    assert found["longest/same/ic/fix/cc"] is None
    found = {claim.key: claim.paper for claim in claims(PRESETS["pets"].resolved)}
    assert found["patience/mix"] == 8.31


def test_the_papers_presets_have_its_table():
    flowers = PRESETS["flowers"]
    assert flowers.settings[1] == Setting(
        epochs=10_000, rate=0.003, decay=3e-4, temperature=10.0, paper=0.9283
    )
    assert len(PRESETS["pets"].settings) == 5
    assert PRESETS["imagenet"].settings[-1].paper == 0.8231
    assert len(funmatch.jobs(dataclasses.replace(flowers, other_arms=()))) == 4 * 4 * 80


# Training images of each set, as `data.load` documents them.
NUM_EXAMPLES = {
    "digits_photo": 4_788,
    "cifar10_holdout": 45_000,
    "oxford_flowers102": 1_020,
    "oxford_iiit_pet": 3_312,
    "food101": 68_175,
    "sun397": 76_128,
    "imagenet2012": 1_255_544,
}


def counted(config):
    """Training images of students and teachers at true numbers."""
    count = NUM_EXAMPLES[config.dataset]
    return [
        count if most is None else min(most, count)
        for most in (config.train_examples, config.teacher_examples)
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_and_length_of_its_sweep_can_make_its_schedules(preset):
    """One rate, decay and temperature: a length depends on none of them."""
    one = Grid(rates=(0.01,), decays=(1e-4,), temperatures=(1.0,))
    config = dataclasses.replace(PRESETS[preset], grid=one)
    lengths.check(config, *counted(config))
    for job in funmatch.jobs(config):
        lengths.check(job.config, *counted(job.config))


def test_every_job_of_the_grid_of_flowers_can_make_its_schedule():
    config = dataclasses.replace(PRESETS["flowers"], other_arms=())
    jobs = funmatch.jobs(config)
    assert len(jobs) == 1280
    for job in jobs:
        lengths.check(job.config, *counted(job.config))


def test_students_and_teachers_have_the_steps_of_the_authors_trainer():
    flowers = PRESETS["flowers"]
    found = lengths.trainings(flowers, *counted(flowers))
    steps = [found[name("mix", s.epochs)][0] for s in flowers.settings]
    assert steps == [1_992, 19_922, 199_219, 1_992_188]
    digits = dataclasses.replace(
        PRESETS["digits"], seeds=12, other_arms=("pretrained",)
    ).resolved
    found = lengths.trainings(digits, *counted(digits))
    assert found["teacher"] == (1_796, 1)  # 12 * 4788 / 32 = 1795.5
    assert found["pretraining"] == (1_796, 1)
    assert found[name("mix", 128)] == (2_048, 12)
    imagenet = PRESETS["imagenet"]
    found = lengths.trainings(imagenet, *counted(imagenet))
    assert found[name("mix", 300)] == (91_959, 1)
    assert not {"teacher", "pretraining"} & {*found}  # their weights are released


def test_a_run_sees_each_image_equally_often(tmp_path):
    """40 images by 32: the five batches of four epochs span the ends of three."""
    changes = {"train_examples": 40, "teacher_examples": 40, "teacher_epochs": 4}
    config = dataclasses.replace(SMOKE, **changes)
    its = materials.make(config)
    assert its.steps(4) == 5
    batches = its.sets.batches("train", students.view(its, ARMS["mix"]), 0)
    seen = np.concatenate([batches(0, step)["index"] for step in range(its.steps(4))])
    np.testing.assert_array_equal(np.bincount(seen), np.full(40, 4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"main": ("mixed",)}, "did you mean 'mix'"),
        ({"main": ()}, "main must name at least one of fix/rs, "),
        ({"other_epochs": 3}, r"epochs of a setting, \[2, 4\], got 3"),
        ({"settings": SMOKE.settings[::-1]}, r"ascending epochs .* got \[4, 2\]"),
        ({"teacher_epochs": 0}, "needs teacher_weights, or teacher_epochs"),
        (
            {"teacher_weights": "a/R152x2_T_224.npz"},
            "are of 224 pixels a side, and the network sees 32",
        ),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(EVERY, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warmup_steps": 4}, r"0\.\.3 for a training of 4 steps, got 4"),
        # The teacher's training may be the shortest.
        ({"warmup_steps": 2}, r"0\.\.1 for a training of 2 steps, got 2"),
    ],
)
def test_a_warmup_longer_than_a_training_is_refused(changes, words, tmp_path):
    config = dataclasses.replace(SMOKE, **changes)
    with pytest.raises(ValueError, match=words):
        funmatch.compute(config, runs.RunFolder(tmp_path), Silent())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "arms"),
    [
        ("teacher_weights", ()),
        ("second_weights", ("ensemble",)),
        ("student_weights", ("pretrained",)),
    ],
)
def test_missing_weights_are_found_before_anything_is_trained(field, arms, tmp_path):
    weights = {field: str(tmp_path / "none.npz")}
    config = dataclasses.replace(SMOKE, other_arms=arms, **weights)
    for seeds in (1, 4):  # in one folder, and in blocks
        many = dataclasses.replace(config, seeds=seeds, looks=(2, 4))
        with pytest.raises(ValueError, match=rf"{field}: there is no file .* download"):
            launch.run(funmatch.STUDY, many, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("only_plan", [True, False])
def test_a_plan_says_what_weights_are_missing_and_a_run_is_refused(
    only_plan, tmp_path, monkeypatch, capsys
):
    words = ["--preset", "flowers", "--workdir", str(tmp_path / "run")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["funmatch", *words, *["--plan"] * only_plan])
    with pytest.raises(SystemExit) as stop:
        launch.main(funmatch.STUDY)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert ("1,992,188" in said.out) == only_plan
    (line,) = said.err.splitlines()
    assert line.startswith("error: teacher_weights: there is no file 'weights/R152x2")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_set_of_the_paper_end_to_end(tmp_path, monkeypatch):
    """Streamed from made-up images with the true features of Flowers and of Pets."""
    for made, counts in (
        ("oxford_flowers102", {"train": 20, "validation": 6, "test": 10}),
        ("oxford_iiit_pet", {"train": 20, "test": 2}),
    ):
        prepared_fixture.write(tmp_path / "data", made, counts)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    small = {"teacher_size": 32, "student_size": 16, "stored_size": 40}
    config = dataclasses.replace(
        PRESETS["flowers"],
        others="oxford_iiit_pet",
        teacher="bit_tiny",
        teacher_weights=None,
        teacher_epochs=2,
        teacher_width=0.25,
        model="bit_tiny",
        width=0.25,
        family="mobilenet_tiny",
        settings=SMOKE.settings,
        other_epochs=2,
        main=("fix/cc", "mix"),
        other_arms=("fix/ic_ens", "others", "mobilenet_bn"),
        warmup_steps=1,
        batch_size=8,
        eval_batch_size=4,
        ensemble_crops=2,
        **small,
    )
    folder = launch.run(funmatch.STUDY, config, tmp_path / "funmatch")
    results = json.loads((folder / "results.json").read_text())
    assert set(results["arms"]) == set(config.arms)
    assert results["arms"]["mix"]["4"]["steps"] == 10  # 4 * 20 images by 8
    # A stream cuts what a fixed teacher sees, who then looks at every step.
    assert results["arms"]["fix/cc"]["4"]["teacher_forwards"] == 80
    for trained in results["arms"].values():
        for found in trained.values():
            assert np.isfinite(found["test_kl"]["values"]).all()


def test_shampoos_rate_rises_on_a_line_and_falls_on_a_parabola():
    schedule = optimizers.Make("shampoo", 1.0, "float32", 0.9).schedule(10, 4)
    expected = [t / 4 for t in range(4)] + [(1 - t / 6) ** 2 for t in range(7)]
    np.testing.assert_allclose([schedule(t) for t in range(11)], expected, atol=1e-6)


def test_shampoo_has_its_own_warmup_and_decay():
    config = PRESETS["flowers"]
    assert optimizers.warmup_steps(config, "shampoo") == 1800
    assert optimizers.warmup_steps(config, "adam") == 1500
    assert config.shampoo_decay == 3.75e-4
    short = dataclasses.replace(
        SMOKE, main=("mix",), other_arms=("shampoo",), shampoo_warmup_steps=100
    ).resolved
    with pytest.raises(ValueError, match=r"^shampoo_warmup_steps must .* got 100"):
        lengths.check(short, 64, 64)
