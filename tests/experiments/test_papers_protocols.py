"""Gotmare et al. 2019, point by point, in the presets that carry their numbers."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.distillation.config import PRESETS as DISTILLATION
from experiments.mode_connectivity.config import PRESETS as MODES
from experiments.sgdr.config import PRESETS as SGDR
from experiments.warmup.claims import claims as warmup_claims
from experiments.warmup.config import PRESETS as WARMUP

STEPS = 500  # an epoch of CIFAR-10 at batch 100
PAPERS = {
    "sgdr": SGDR["cifar10"].resolved,
    "mode_connectivity": MODES["cifar10"].resolved,
    "warmup": WARMUP["cifar10"].resolved,
    "distillation": DISTILLATION["cifar10"].resolved,
}


def by_epoch(arm, config=PAPERS["sgdr"]):
    """The rate of each epoch, and whether it is constant within all."""
    rates = np.asarray(config.schedule(arm, STEPS)(np.arange(config.epochs * STEPS)))
    rates = rates.reshape(-1, STEPS)
    return rates[:, 0], bool((rates == rates[:, :1]).all())


def test_sgdr_is_measured_at_its_last_minimum():
    """Minima after epochs 10, 31, 72 and 153 (Figure 2); at 199 the rate is .041."""
    rates, _ = by_epoch("sgdr")
    low = np.flatnonzero(np.isclose(rates, 1e-6, rtol=1e-4))
    assert low.tolist() == [10, 31, 72, 153]
    assert PAPERS["sgdr"].last_minimum == 153
    np.testing.assert_allclose(rates[199], 0.041, atol=1e-3)
    exact = dataclasses.replace(SGDR["cifar10"], restarts="step")
    assert exact.resolved.last_minimum == 149  # cycles of 10, 20, 40, 80 epochs
    short = dataclasses.replace(SGDR["cifar10"], epochs=5, period_epochs=10)
    assert short.resolved.last_minimum == 4  # no cycle ends: at the end


def test_the_one_cosine_is_set_by_epoch_as_sgdr_is():
    rates, constant = by_epoch("cosine")
    assert constant
    assert by_epoch("sgdr")[1]
    expected = 1e-6 + (0.05 - 1e-6) * (1 + np.cos(np.pi * np.arange(200) / 199)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-9)  # float32


def test_the_papers_chain_has_a_constant_rate():
    """A step on a gradient of 1 is the rate: no momentum, no decay."""
    chain = PAPERS["sgdr"].chain
    optimizer = chain.optimizer(1)
    params = {"kernel": jnp.ones((1, 1))}
    state, seen = optimizer.init(params), []
    for _ in range(chain.epochs):
        updates, state = optimizer.update({"kernel": jnp.ones((1, 1))}, state, params)
        seen.append(float(updates["kernel"][0, 0]))
    np.testing.assert_allclose(seen, -0.1, rtol=1e-6)
    assert len(seen) == 101


@pytest.mark.parametrize("study", PAPERS)
def test_the_papers_presets_decay_all_parameters(study):
    tree = {"conv": {"kernel": 0, "bias": 0}, "bn": {"scale": 0}}
    every = {"conv": {"kernel": True, "bias": True}, "bn": {"scale": True}}
    assert PAPERS[study].decay_mask(tree) == every
    kernels = dataclasses.replace(PAPERS[study], decayed="kernels").decay_mask(tree)
    assert kernels == {"conv": {"kernel": True, "bias": False}, "bn": {"scale": False}}


@pytest.mark.parametrize("study", ["sgdr", "warmup", "distillation"])
def test_similarities_are_googles_mean(study):
    assert PAPERS[study].measure == "google_cca"


@pytest.mark.parametrize(
    ("name", "early", "frozen"),
    [
        ("cifar10_resnet18", 63.0 - 12.2, 67.0 - 63.0),
        ("cifar10_resnet32", 39.2 - 10.1, 61.4 - 39.2),
        ("cifar10", 50.65 - 11.25, 65.96 - 50.65),
    ],
)
def test_each_network_has_its_own_figures_values(name, early, frozen):
    """Figure 15 for the ResNets, Figure 4 for VGG-11; to a tenth of a point."""
    found = {claim.key: claim.paper for claim in warmup_claims(WARMUP[name])}
    # Each accuracy is rounded here to a tenth, so a difference is to 0.1.
    assert abs(found["early-accuracy/warmup/large"] - early) <= 0.1
    assert abs(found["early-accuracy/freeze_fc/warmup"] - frozen) <= 0.1


@pytest.mark.parametrize("epochs", [1, 4, 19, 20])
def test_a_short_warmup_rises_every_step(epochs):
    """With 20 epochs, as in the paper, once an epoch."""
    config = dataclasses.replace(
        WARMUP["cifar10"], epochs=40, warmup_epochs=epochs, drops_epochs=()
    ).resolved
    rates = config.rates("warmup", 10)["rest"]
    during, after = rates[: 10 * epochs], rates[10 * epochs :]
    np.testing.assert_allclose(after, 2.5)
    steps = np.arange(1, 10 * epochs + 1)
    line = 0.0005 + 2.4995 * steps / (10 * epochs)
    if epochs == 20:
        line = np.repeat(0.0005 + 2.4995 * np.arange(1, 21) / 20, 10)
    np.testing.assert_allclose(during, line, rtol=1e-5)
