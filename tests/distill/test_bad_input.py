"""Bad numbers and arrays, over all functions that take such an argument."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.distill.oracles import LABELS

S, T = oracles.logits(0), oracles.logits(1)
MAPS = np.zeros((5, 4, 4, 2), np.float32)
BANK = distill.init_bank(jax.random.key(0), 9, 7)
NEGATIVES = np.arange(10).reshape(5, 2) % 9


def identity(x):
    return x


def step(*arguments):
    return arguments[0], {}


# Valid arguments of each function that takes a temperature.
TEMPERED = {
    "contrastive": (S, T, LABELS, BANK, NEGATIVES),
    "dist": (S, T),
    "dkd": (S, T, LABELS),
    "fitnet_loss": (S, T, LABELS, 1.0),
    "fitnet_stage": (step, identity, identity),
    "hinton": (S, T, LABELS),
    "joint_stage": (step, identity, distill.regressor(MAPS, MAPS), identity),
    "js": (S, T),
    "kl": (S, T),
    "mean_of_probabilities": ([identity],),
    "reverse_kl": (S, T),
    "soft_cross_entropy": (S, T),
    "store": (identity, S[None]),
    "stored": (S,),
}
# Functions of two networks' outputs, beside the first two of which nothing differs.
PAIRED = {
    name: arguments
    for name, arguments in {
        **TEMPERED,
        "agreement": (S, T),
        "fidelity": (S, T, LABELS),
        "fsp_loss": ([(MAPS, MAPS)], [(MAPS, MAPS)]),
        "hint_loss": (MAPS, MAPS),
        "l2": (S, T),
        "logit_matching": (S, T),
    }.items()
    if name
    not in ("fitnet_stage", "joint_stage", "mean_of_probabilities", "store", "stored")
}
LABELLED = ("contrastive", "dkd", "fidelity", "fitnet_loss", "hinton")


def test_the_tables_have_every_function():
    takes = {
        name
        for name in distill.__all__
        if inspect.isfunction(getattr(distill, name))
        and "temperature" in inspect.signature(getattr(distill, name)).parameters
    }
    assert takes == set(TEMPERED)


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_that_are_none(name, value):
    with pytest.raises(ValueError, match=rf"temperature must be .*got {value:g}"):
        getattr(distill, name)(*TEMPERED[name], temperature=value)


@pytest.mark.parametrize("name", PAIRED)
def test_other_shapes(name):
    student, teacher, *rest = PAIRED[name]
    fewer = jax.tree.map(lambda leaf: leaf[..., :-1], teacher)
    with pytest.raises(ValueError, match=r"\(5, .* and .*\(5, "):
        getattr(distill, name)(student, fewer, *rest)


@pytest.mark.parametrize("name", PAIRED)
def test_integers_in_place_of_outputs(name):
    student, teacher, *rest = PAIRED[name]
    whole = jax.tree.map(lambda leaf: leaf.astype(np.int32), teacher)
    with pytest.raises(ValueError, match=r"holds int32; wanted real floating-point"):
        getattr(distill, name)(student, whole, *rest)


@pytest.mark.parametrize("name", ["contrastive", "dkd"])
@pytest.mark.parametrize("wrong", [-1, 9, 2**32])
def test_indices_outside(name, wrong):
    student, teacher, labels, *rest = TEMPERED[name]
    labels = np.where(np.arange(5) == 2, wrong, labels)
    with pytest.raises(
        ValueError, match=r"(index|labels) must lie in \[0, (9|7)\), got"
    ):
        getattr(distill, name)(student, teacher, labels, *rest)


@pytest.mark.parametrize("wrong", [-1, 7])
def test_labels_outside_are_nan_under_jit(wrong):
    labels = jnp.where(jnp.arange(5) == 2, wrong, jnp.asarray(LABELS))
    for name in ("dkd", "hinton", "hard_labels"):
        arguments = (S, labels) if name == "hard_labels" else (S, T, labels)
        found = quick(getattr(distill, name))(*arguments)
        assert np.isnan(found).tolist() == [False, False, True, False, False], name


@pytest.mark.parametrize("name", LABELLED)
def test_absent_labels(name):
    student, teacher, labels, *rest = PAIRED[name]
    for wrong in (labels[:-1], labels[:0], labels / 2):
        with pytest.raises(ValueError, match=r"wanted (integers|shares)"):
            getattr(distill, name)(student, teacher, wrong, *rest)


def test_banks_smaller_than_the_batch():
    small = distill.init_bank(jax.random.key(0), 4, 7)
    with pytest.raises(ValueError, match=r"4 rows for a batch of 5; .*init_bank"):
        distill.contrastive(S, T, LABELS % 4, small, NEGATIVES % 4)


def test_masks_without_an_example():
    for call in (
        lambda mask: distill.masked_mean(S[:, 0], mask),
        lambda mask: distill.calibration_error(S, LABELS, mask=mask),
        lambda mask: distill.fidelity(S, T, LABELS, mask=mask),
    ):
        with pytest.raises(ValueError, match=r"mask \[5\] is false everywhere"):
            call(np.zeros(5, bool))


@pytest.mark.parametrize("number", [0, -1, 8])
def test_more_logits_than_classes(number):
    with pytest.raises(ValueError, match=rf"largest must be .*got {number}; .*7 class"):
        distill.stored(S, largest=number)


def test_a_mask_that_the_batch_lacks():
    def student(params, batch_stats, batch, key):
        return params, batch_stats

    objective = distill.matching_stage(student, lambda b: T, distill.kl, mask="mask")
    with pytest.raises(ValueError, match=r"unknown mask 'mask'.*tokens"):
        objective(S, {}, {"tokens": LABELS}, None)
