"""Sharpness along the arms of the warmup study, against dense linear algebra."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import fields
from experiments.warmup import curvature
from experiments.warmup import study as warmup
from experiments.warmup.config import ARMS, PRESETS
from experiments.warmup.results import sharpness_statistics
from kd_heuristics import models, training
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.sharpness import hessian

SMOKE = dataclasses.replace(PRESETS["smoke"], sharpness_products=60).resolved
FC = ("last/bias", "last/kernel")


def init(key, images):
    keys = jax.random.split(key, 2)
    first = {"kernel": jax.random.normal(keys[0], (3, 4))}
    last = {"kernel": jax.random.normal(keys[1], (4, 5)), "bias": jnp.zeros(5)}
    return {"params": {"first": first, "last": last}}


def apply(variables, images):
    params = variables["params"]
    hidden = jnp.tanh(images.mean((1, 2)) @ params["first"]["kernel"])
    return hidden @ params["last"]["kernel"] + params["last"]["bias"][None]


NETWORK = models.Network(
    "small", init, apply, lambda v, images, key: (apply(v, images), {}), lambda *_: {}
)
CLASSIFIER = training.Classifier(NETWORK, (100.0,) * 3, (30.0,) * 3)


@pytest.fixture(scope="module")
def batches():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1, 12, 4, 4, 3), np.uint8)
    # Images differ in color, not in noise alone.
    images = images // 4 + random.integers(0, 190, (1, 12, 1, 1, 3), np.uint8)
    return {"images": images, "labels": random.integers(0, 5, (1, 12), np.int32)}


@pytest.fixture(scope="module")
def variables():
    return NETWORK.init(jax.random.key(1), jnp.zeros((1, 4, 4, 3)))


def dense(variables, batches):
    """The Hessian over all parameters, float64, and the path of each row."""
    leaves, structure = jax.tree.flatten(variables["params"])
    sizes = [leaf.size for leaf in leaves]
    names = [*leaf_names.flat(variables["params"])]
    batch = {name: jnp.asarray(values[0]) for name, values in batches.items()}

    def loss(vector):
        parts = jnp.split(vector, np.cumsum(sizes)[:-1])
        shaped = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
        logits = apply(
            {"params": structure.unflatten(shaped)}, CLASSIFIER.inputs(batch["images"])
        )
        rows = jnp.arange(len(batch["labels"]))
        return -jax.nn.log_softmax(logits)[rows, batch["labels"]].mean()

    vector = jnp.concatenate([leaf.ravel() for leaf in leaves])
    hessian = np.asarray(jax.jit(jax.hessian(loss))(vector), np.float64)
    return hessian, np.repeat(names, sizes)


@pytest.mark.parametrize(
    "rates",
    [
        {"first/kernel": 0.3, **dict.fromkeys(FC, 0.3)},
        {"first/kernel": 0.5, **dict.fromkeys(FC, 0.01)},
        {"first/kernel": 0.5, **dict.fromkeys(FC, 0.0)},
    ],
    ids=["one rate", "two rates", "frozen"],
)
def test_eigenvalues_are_those_of_the_dense_hessian(variables, batches, rates):
    hessian, paths = dense(variables, batches)
    found = curvature.blocks(CLASSIFIER, variables, batches, FC, rates, SMOKE)
    of_fc = np.isin(paths, FC)
    roots = np.sqrt([rates[path] for path in paths])
    scaled = roots[:, None] * hessian * roots

    def top(matrix):
        return np.linalg.eigvalsh((matrix + matrix.T) / 2).max()

    expected = {
        "eigenvalue_all": top(hessian),
        "eigenvalue_fc": top(hessian[np.ix_(of_fc, of_fc)]),
        "product_all": top(scaled),
        "product_fc": top(scaled[np.ix_(of_fc, of_fc)]),
    }
    assert {*found} == {*expected}
    for name, value in expected.items():  # float32
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-6)
    assert found["eigenvalue_all"] > 1.01 * found["eigenvalue_fc"] > 0


def test_a_diverged_network_has_no_eigenvalue(variables, batches):
    diverged = jax.tree.map(lambda leaf: leaf * jnp.nan, variables)
    rates = {"first/kernel": 0.5, **dict.fromkeys(FC, 0.01)}
    found = curvature.blocks(CLASSIFIER, diverged, batches, FC, rates, SMOKE)
    assert np.isnan([*found.values()]).all()


def test_a_diverging_network_has_no_eigenvalue_though_its_loss_is_finite(
    variables, batches, monkeypatch
):
    def top(*_, **__):
        raise hessian.NotFiniteError("the Hessian is not finite")

    monkeypatch.setattr(curvature.sharpness, "top", top)
    rates = {"first/kernel": 0.5, **dict.fromkeys(FC, 0.01)}
    found = curvature.blocks(CLASSIFIER, variables, batches, FC, rates, SMOKE)
    assert np.isnan([*found.values()]).all()


@pytest.mark.parametrize("arm", ARMS)
def test_rates_of_an_arm_are_those_of_its_steps(arm):
    """A layer has rate 0 while it is frozen, as the optimiser leaves it."""
    tasks = warmup.make_tasks(SMOKE)
    its = tasks[warmup.group_of(arm)]
    fc, params = its.classifier_paths, its.start(0)[0]
    length = warmup.warmup_steps(SMOKE, tasks)
    tables = SMOKE.rates(arm, its.steps_per_epoch)
    for step in (length - 1, length):
        found = curvature.rates_of(SMOKE, its, arm, params, step, length)
        assert {*found} == {*leaf_names.flat(params)}
        for path, rate in found.items():
            kind = "fc" if path in fc else "rest"
            assert rate in (0.0, tables[kind][step])
        frozen = {path for path, rate in found.items() if rate == 0}
        if step == length:
            assert not frozen
        elif arm == "freeze_fc":
            assert frozen == {*fc}
        elif arm == "freeze_conv":
            assert frozen == {*found} - {*fc}
        else:
            assert bool(frozen) == (arm == "freeze_random")
            assert not frozen & {*fc}


def test_statistics_of_made_up_eigenvalues():
    """In doublings; a dead network's eigenvalue of 0 counts for no step."""
    config = dataclasses.replace(
        SMOKE, arms=("large", "warmup"), warmup_epochs=2, sharpness_steps=(1, 3, 4, 5)
    )
    assert config.sharpness_early == [0, 1]  # two steps an epoch
    arrays = {
        "large/eigenvalue_all": np.array([[64.0, 0.0], [np.nan, np.nan]]),
        "large/eigenvalue_fc": np.array([[16.0, 0.0], [np.nan, np.nan]]),
        "large/product_all": np.array([[8.0, 0.0], [np.nan, np.nan]]),
        "warmup/eigenvalue_all": np.array([[64.0, 8.0], [4.0, 8.0]]),
        "warmup/eigenvalue_fc": np.array([[64.0, 4.0], [4.0, 8.0]]),
        "warmup/product_all": np.array([[0.25, 0.5], [0.5, 4.0]]),
    }
    # From the end of the warmup on, where frozen layers thaw, nothing is read.
    arrays = {k: np.hstack([v, np.full((2, 2), 1e9)]) for k, v in arrays.items()}
    found = sharpness_statistics(config, arrays)
    expected = {
        "large above 2": [2, np.nan],
        "warmup below 2": [2, -1],
        "warmup falls": [3, -1],
        "large fc minus all": [-2, np.nan],
        "warmup fc minus all": [-0.5, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[f"sharpness, {name}"], values, err_msg=name)
    sources = {c.source for c in warmup.claims(config) if c.key.startswith("sharpness")}
    assert sources <= {*found}
    assert len(sources) == 4  # of two arms


def test_the_lens_is_off_by_default_and_its_claims_are_secondary():
    for name, config in PRESETS.items():
        found = warmup.claims(fields.resolved(config))
        own = [claim for claim in found if claim.key.startswith("sharpness")]
        assert len(own) == (5 if name in ("smoke", "lenses") else 0)
        assert not any(claim.main for claim in own)
    lenses, digits = (PRESETS[name].resolved for name in ("lenses", "digits"))
    assert lenses.sharpness_steps == (1, 3, 19, 79, 159)  # of 160
    changed = ("seeds", "looks", "first_seed", "sharpness_steps")
    same = {name: getattr(lenses, name) for name in changed}
    assert dataclasses.replace(digits, **same) == lenses
    assert lenses.first_seed >= 1000
    assert warmup.STUDY.leans_on(lenses) == "cifar10"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sharpness_steps": (0,)}, r"sharpness_steps must be within 1\.\.5, got 0"),
        ({"sharpness_steps": (6,)}, r"sharpness_steps must be within 1\.\.5, got 6"),
        ({"sharpness_steps": (2, 1)}, "sharpness_steps must ascend"),
        ({"sharpness_products": 0}, "sharpness_products must be at least 1"),
        ({"sharpness_examples": 161}, "sharpness_examples must be at most .* 160 tr"),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)
