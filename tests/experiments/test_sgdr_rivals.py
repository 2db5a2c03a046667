"""What restarts may be good for besides: twins, averages, schedules of equal cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import fields, paths, task
from experiments.common.study import StudyRun
from experiments.sgdr import averages, twins
from experiments.sgdr import study as sgdr
from experiments.sgdr.config import PRESETS
from experiments.sgdr.iterates import Iterates
from kd_heuristics import runs, training
from tests.experiments.silent import Silent

SMOKE = PRESETS["smoke"].resolved
T = paths.paper_t(2)


@pytest.fixture(scope="module")
def its():
    return task.make(SMOKE)


def trained(path, config, its):
    """A run's population, trained, and the numbers of its twins."""
    run = StudyRun(config, runs.RunFolder(path), Silent(), by=sgdr.compute)
    nets = Iterates(run, its)
    sgdr.train(run, its, nets)
    rates = sgdr.learning_rates(config, its)["sgdr"]
    return run, nets, twins.compare_all(run, its, nets, rates, T)


def test_a_twin_of_the_same_batches_ends_where_its_run_does(its, tmp_path):
    """With one batch for all steps, momentum and rates alone tell a twin from its run.

    With other batches it ends elsewhere.
    """
    plain = dataclasses.replace(SMOKE, more_arms=()).resolved
    config = dataclasses.replace(plain, twin_epochs=(0, 1)).resolved
    batch = its.batches(0, 0)
    same = dataclasses.replace(its, batches=lambda seed, step: batch)
    _, nets, arrays = trained(tmp_path / "same", config, same)
    for epochs in (0, 1):
        np.testing.assert_array_equal(arrays[f"twin{epochs}/distance"], [0.0])
        losses = arrays[f"twin{epochs}/segment/train_loss"]
        np.testing.assert_allclose(losses, losses[:, :1].repeat(3, 1), rtol=1e-6)
        length = config.last_minimum + 1 - epochs
        assert arrays[f"twin{epochs}/test_loss"].shape == (1, length)
    start, end = (nets.at("sgdr", 0, epoch) for epoch in (0, config.last_minimum))
    moved = [
        float(abs(a - b).max())
        for a, b in zip(*map(jax.tree.leaves, (start, end)), strict=True)
    ]
    assert max(moved) > 1e-3
    _, _, arrays = trained(tmp_path / "other", plain, its)
    assert arrays["twin1/distance"][0] > 1e-3
    assert not {*map(twins.seed_of, range(12))} & {*range(2000)}  # of any study


class Two:
    """In place of the trained runs: the starts of two seeds."""

    def __init__(self, its, seeds, epochs=SMOKE.minima):
        starts = [training.with_stats(*its.start(seed)) for seed in seeds]
        self.by_epoch = dict(zip(epochs, starts, strict=True))

    def variables(self, arm, seed, epoch):
        return self.by_epoch[epoch]


def averaged(its, path, seeds):
    config = dataclasses.replace(SMOKE, more_arms=()).resolved
    run = StudyRun(config, runs.RunFolder(path), Silent(), by=sgdr.compute)
    return averages.evaluate(run, its, Two(its, seeds), 0)


def test_averages_of_equal_networks_are_the_network(its, tmp_path):
    found = averaged(its, tmp_path, (3, 3))
    own = training.evaluate(its.classifier.metric, *its.start(3), its.test)
    for kind in averages.KINDS:
        for name, value in own.items():
            np.testing.assert_allclose(found[f"{kind}/test_{name}"], value, rtol=1e-6)


def test_averages_of_two_networks_against_numpy(its, tmp_path):
    found = averaged(its, tmp_path, (3, 4))
    mask = np.asarray(its.test["mask"]).ravel()
    images = np.asarray(its.test["images"])
    images = images.reshape(-1, *images.shape[2:])[mask]
    labels = np.asarray(its.test["labels"]).ravel()[mask]

    def shares(params):
        apply = its.classifier.network.apply
        logits = apply({"params": params}, its.classifier.inputs(jnp.asarray(images)))
        powers = np.exp(np.asarray(logits, np.float64))
        return powers / powers.sum(1, keepdims=True)

    first, second = (its.start(seed)[0] for seed in (3, 4))
    middle = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    expected = {
        "last": shares(second),
        "ensemble": (shares(first) + shares(second)) / 2,
        "average": shares(middle),
    }
    for kind, probability in expected.items():
        loss = -np.log(probability[np.arange(len(labels)), labels]).mean()
        accuracy = (probability.argmax(1) == labels).mean()
        np.testing.assert_allclose(found[f"{kind}/test_loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(found[f"{kind}/test_accuracy"], accuracy, rtol=1e-5)
    assert len({round(float(found[f"{kind}/test_loss"]), 4) for kind in expected}) == 3


def test_further_schedules_end_with_sgdr():
    config = PRESETS["lenses"].resolved
    assert config.arms == ("sgdr", "step", "cosine", "wsd", "linear", "fge")
    assert (config.minima, config.cooldown_epochs) == ((7, 23, 55), 11)
    steps = np.arange(560)
    wsd, line = (
        np.asarray(jax.vmap(config.schedule(arm, 10))(steps))
        for arm in ("wsd", "linear")
    )
    peak, end = config.peak_rate, config.end_rate
    done = np.clip((steps - 450) / 110, 0, 1)
    constant = end + (peak - end) * (1 - np.sqrt(done))
    np.testing.assert_allclose(wsd[40:], constant[40:], rtol=1e-4, atol=1e-6)
    falling = peak + (end - peak) * steps / 560
    np.testing.assert_allclose(line[40:], falling[40:], rtol=1e-4, atol=1e-6)
    paper = dataclasses.replace(PRESETS["cifar10"], more_arms=("linear",))
    assert paper.last_minimum == 153  # cycles of 11, 21, 41 and 81 epochs
    rate = paper.schedule("linear", 1)
    np.testing.assert_allclose(float(rate(154)), paper.end_rate, rtol=1e-5)
    assert float(rate(153)) > 2 * paper.end_rate


@pytest.mark.parametrize("steps", [10, 7])
def test_short_cycles_have_the_rates_of_their_paper(steps):
    """Iteration i of the cycles, from 1, has the rate alpha(i) of Garipov et al. 2018.

    The last one of a minimum's epoch has the lowest, if the cycle's steps are odd, too.
    """
    changes = {"fge_epochs": 1, "fge_minima": 4}
    config = dataclasses.replace(PRESETS["lenses"], **changes).resolved
    assert config.short_minima == (52, 53, 54, 55)
    rates = np.asarray(jax.vmap(config.schedule("fge", steps))(np.arange(56 * steps)))
    high, low = 0.2 * 0.3, 0.01 * 0.3
    start = 56 * steps - 3.5 * steps
    first = int(np.ceil(start))
    t = np.mod(np.arange(first, 56 * steps) + 1 - start, steps) / steps
    early, late = (1 - 2 * t) * high + 2 * t * low, (2 - 2 * t) * low
    expected = np.where(t <= 0.5, early, late + (2 * t - 1) * high)
    np.testing.assert_allclose(rates[first:], expected, rtol=1e-4)
    minima = [(epoch + 1) * steps - 1 for epoch in config.short_minima]
    np.testing.assert_allclose(rates[minima], low, rtol=1e-4)
    # Before: warmup, a constant, and a line to the highest rate of the cycles.
    warm, flat = 4 * steps, 5 / 8 * start
    before = np.arange(warm, first)
    fall = np.clip((before - flat) / (start - flat), 0, 1)
    np.testing.assert_allclose(rates[warm:first], 0.3 - (0.3 - high) * fall, rtol=1e-5)


def test_the_ensemble_of_short_cycles_is_of_their_minima(its, tmp_path):
    config = dataclasses.replace(SMOKE, more_arms=()).resolved
    cycles = dataclasses.replace(SMOKE, fge_minima=2).resolved
    assert cycles.short_minima == (1, 2)
    assert config.short_minima == ()
    nets = Two(its, (3, 4), epochs=(1, 2))
    nets.by_epoch |= dict.fromkeys(cycles.minima, nets.by_epoch[2])
    run = StudyRun(cycles, runs.RunFolder(tmp_path), Silent(), by=sgdr.compute)
    found = averages.evaluate(run, its, nets, 0)
    together = averaged(its, tmp_path / "other", (3, 4))["ensemble/test_loss"]
    np.testing.assert_allclose(found["fge/test_loss"], together, rtol=1e-6)
    assert abs(found["ensemble/test_loss"] - together) > 1e-3
    assert not any(name.startswith("fge") for name in averages.kinds(config))


def test_the_lenses_are_off_by_default_and_their_claims_are_secondary():
    lens = ("averages", "instability", "final-accuracy/wsd", "final-accuracy/linear")
    for name, config in PRESETS.items():
        found = sgdr.claims(fields.resolved(config))
        keys = {claim.key for claim in found if claim.key.startswith(lens)}
        assert len(keys) == {"smoke": 8, "lenses": 11}.get(name, 0)
        assert not any(claim.main for claim in found if claim.key in keys)
    lenses, digits = (PRESETS[name].resolved for name in ("lenses", "digits"))
    changed = ("seeds", "looks", "first_seed", "more_arms", "twin_epochs", "averaged")
    same = {name: getattr(lenses, name) for name in changed}
    assert dataclasses.replace(digits, **same) == lenses
    assert lenses.twin_epochs == (0, 8, 24)
    assert (lenses.fge_epochs, lenses.fge_minima) == (2, 6)
    assert lenses.first_seed >= 1000
    assert sgdr.STUDY.leans_on(lenses) == "cifar10"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"twin_epochs": (3,)}, "twin_epochs must lie within SGDR's epochs .* 2, got"),
        ({"twin_epochs": (2, 1)}, "twin_epochs must ascend"),
        ({"cooldown_epochs": 4}, "cooldown_epochs must lie within"),
        ({"more_arms": ("wsd", "wsd")}, "more_arms must name each once"),
        ({"more_arms": ("wsdd",)}, "more_arms"),
        ({"fge_minima": 4}, "fge_minima must fit .* 3 epochs: .* take 3.5; give"),
        ({"fge_epochs": 0}, "fge_epochs must be at least 1, got 0"),
        ({"fge_rates": (0.1, 0.2)}, "fge_rates must be the higher rate, then .* got"),
        ({"averaged": False}, "averaged must be set for the arm fge"),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)
