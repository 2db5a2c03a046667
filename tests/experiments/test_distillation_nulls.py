"""Nulls of the distillation study: targets of equal entropy without knowledge."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import launch, teaching
from experiments.distillation import networks, nulls
from experiments.distillation import study as distillation
from experiments.distillation.claims import claims
from experiments.distillation.config import NULLS, PRESETS
from kd_heuristics import distill, training
from tests.distill import oracles
from tests.experiments import planned

SMOKE = dataclasses.replace(
    PRESETS["smoke"], kinds=(), temperatures=(5.0,), nulls=NULLS
)
LOGITS = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * 3


def softmax(logits, temperature=1.0):
    return np.float64(np.exp(oracles.log_softmax(logits, temperature)))


def mean_entropy(p):
    return -(p * np.log(p)).sum(-1).mean()


def test_permuted_knowledge_keeps_choice_and_entropy_alone():
    found = np.asarray(nulls.permuted(jnp.asarray(LOGITS), jax.random.key(0)))
    np.testing.assert_array_equal(np.sort(found, -1), np.sort(LOGITS, -1))
    np.testing.assert_array_equal(found.argmax(-1), LOGITS.argmax(-1))
    np.testing.assert_array_equal(found.max(-1), LOGITS.max(-1))
    # Of six other classes one in six stays, by chance.
    others = np.arange(7) != LOGITS.argmax(-1)[:, None]
    assert 0.05 < (found == LOGITS)[others].mean() < 0.35
    moved = [np.nonzero(a != b)[0].tolist() for a, b in zip(found, LOGITS, strict=True)]
    assert len({tuple(its) for its in moved}) > 10  # an order of each example's own


def test_smoothed_labels_are_the_soft_prediction():
    labels = np.array([3, 0])
    found = softmax(nulls.smoothed(jnp.asarray(labels), 0.2, 7, 5.0), 5.0)
    np.testing.assert_allclose(found, 0.8 * np.eye(7)[labels] + 0.2 / 7, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_entropies_are_made_equal(temperature):
    wanted = mean_entropy(softmax(LOGITS, temperature))
    np.testing.assert_allclose(nulls.entropy(LOGITS, temperature), wanted, rtol=1e-6)
    other = np.random.default_rng(1).normal(size=(50, 7)) / 9
    scale = nulls.scale_of(other, wanted, temperature)
    found = mean_entropy(softmax(scale * other, temperature))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    share = nulls.smoothing_of(wanted, 7)
    smooth = (1 - share) * np.eye(7)[:1] + share / 7
    np.testing.assert_allclose(mean_entropy(smooth), wanted, rtol=1e-6)


def test_an_objective_has_the_targets_of_its_kind():
    """Against the loss of targets written out, for a student of given logits."""
    own = LOGITS[:5] + 1

    def student(params, batch_stats, batch, key):
        return params, batch_stats

    def teacher(batch):
        return jnp.asarray(LOGITS[:5])

    key, labels = jax.random.key(3), np.array([0, 1, 2, 3, 4])
    order = nulls.permuted(2 * jnp.asarray(LOGITS[:5]), jax.random.fold_in(key, 1))
    expected = {
        "another-teacher": 2 * LOGITS[:5],
        "random-teacher": 2 * LOGITS[:5],
        "smoothing": 4 * np.log(0.7 * np.eye(7)[labels] + 0.3 / 7),
        "permuted": np.asarray(order),
    }
    for place, name in enumerate(NULLS):
        bound = jnp.int32(place), jnp.float32(4), jnp.float32(2), jnp.float32(0.3)
        found, _ = nulls.Null(student)(
            *bound, teacher, jnp.asarray(own), {}, {"labels": labels}, key
        )
        wanted = np.float64(oracles.kl(own, expected[name], 4.0)).mean()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, err_msg=name)


def test_teachers_of_nulls_have_the_teachers_entropy():
    nets = networks.choose(SMOKE)
    teachers = {
        seed: training.with_stats(*nets.teacher.start(seed)) for seed in (50, 60)
    }
    run = types.SimpleNamespace(config=SMOKE, seeds=range(1))
    found, entropies = nulls.objectives(
        run, nets, teachers, lambda seed: 50, lambda seed: 60
    )
    assert set(found) == {(null, 0) for null in NULLS}
    wanted = entropies["soft-5/entropy"]
    for null in ("random-teacher", "smoothing", "permuted"):
        np.testing.assert_allclose(entropies[f"{null}/entropy"], wanted, rtol=1e-6)
    images = nets.student.sets["train"]["images"][0]
    taught = teaching.Taught(nets.teacher.classifier)
    own, other = (
        distill.Teacher(taught, teachers[seed])({"images": images}) for seed in (50, 60)
    )
    for null, expected in (("permuted", own), ("another-teacher", other)):
        teacher = found[null, 0].args[-1]
        np.testing.assert_allclose(teacher({"images": images}), expected, rtol=1e-5)
    there = np.asarray(own)[np.asarray(nets.student.sets["train"]["mask"][0])]
    np.testing.assert_allclose(
        wanted, mean_entropy(softmax(there, SMOKE.temperature)), rtol=1e-4
    )


def test_claims_on_nulls_appear_with_their_arms():
    without = {its.key for its in claims(dataclasses.replace(SMOKE, nulls=()))}
    found = {its.key: its for its in claims(SMOKE)}
    assert {*found} - without == {
        f"nulls/{null}/{what}" for null in NULLS for what in ("change", "accuracy")
    }
    assert not any(its.main for key, its in found.items() if key not in without)
    for name in ("smoke", "demo", "digits", "cifar10"):
        assert PRESETS[name].nulls == ()
    assert PRESETS["nulls"].seeds == 8
    assert PRESETS["nulls"].first_seed == 1000


@pytest.mark.long
def test_nulls_end_to_end(tmp_path):
    folder = launch.run(distillation.STUDY, SMOKE, tmp_path / "distillation")
    planned.check(distillation.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert set(results["entropies"]) == {"soft-5", *NULLS}
    values = {key: its["mean"] for key, its in results["entropies"].items()}
    for null in ("random-teacher", "smoothing", "permuted"):
        np.testing.assert_allclose(values[null], values["soft-5"], rtol=1e-6)
    accuracy = {
        arm: its["values"][0] for arm, its in results["final_test_accuracy"].items()
    }
    by_key = {claim["key"]: claim["values"] for claim in results["claims"]}
    for null in NULLS:
        expected = 100 * (accuracy["soft-5"] - accuracy[null])
        np.testing.assert_allclose(by_key[f"nulls/{null}/accuracy"], [expected])
        assert np.isfinite(by_key[f"nulls/{null}/change"]).all()


@pytest.mark.parametrize("logits", [np.zeros((4, 7)), np.full((4, 7), np.nan)])
def test_logits_that_no_factor_brings_to_an_entropy_are_refused(logits):
    with pytest.raises(ValueError, match="logits are equal or not finite; leave out"):
        nulls.scale_of(logits, 1.0, 5.0)


def test_a_claim_about_a_null_needs_its_student():
    config = dataclasses.replace(SMOKE, nulls=("smoothing", "random-teacher"))
    found = {its.key: its.trainings for its in distillation.STUDY.claims(config)}
    assert "smoothing" in found["nulls/smoothing/accuracy"]
    assert "smoothing" in found["nulls/smoothing/change"]
    assert "random-teacher" not in found["nulls/random-teacher/accuracy"]
