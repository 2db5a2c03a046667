"""Segments after alignment: what a permutation explains of a barrier, and claims."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import fields, paths
from experiments.common.study import StudyRun
from experiments.mode_connectivity import alignments, results
from experiments.mode_connectivity import study as mode_connectivity
from experiments.mode_connectivity.claims import claims
from experiments.mode_connectivity.config import PRESETS
from kd_heuristics import curves, models, points, runs, training
from tests.experiments.silent import Silent

SMOKE = dataclasses.replace(PRESETS["smoke"], modes=("G", "A"), perplexity=2.0)
SMOKE = SMOKE.resolved


@pytest.fixture(scope="module")
def its():
    return mode_connectivity.make_tasks(SMOKE)["sgd"]


class Copies:
    """In place of the trained modes: a network, and itself in another order."""

    def __init__(self, its):
        params, _ = its.start(0)
        # Larger than at a start, so that the midpoint's function is another.
        params = jax.tree.map(lambda leaf: 3 * leaf, params)
        order = np.random.default_rng(1).permutation(SMOKE.classifier_width)
        other = jax.tree.map(jnp.copy, params)
        other["fc_0"]["kernel"] = params["fc_0"]["kernel"][:, order]
        other["fc_0"]["bias"] = params["fc_0"]["bias"][order]
        other["fc_1"]["kernel"] = params["fc_1"]["kernel"][order]
        self.by_mode = {"G": params, "A": other}

    def variables(self, mode, seed):
        return {"params": self.by_mode[mode]}

    def mode(self, mode, seed):
        return self.by_mode[mode]


@pytest.fixture
def made(its, tmp_path):
    """The alignment of a network with its copy in another order."""
    by = mode_connectivity.compute
    config = dataclasses.replace(SMOKE, aligned=("weights", "activations"))
    run = StudyRun(config, runs.RunFolder(tmp_path), Silent(), by=by)
    return alignments.Aligned(run, its, Copies(its), alignments.spec(its, 0))


def test_a_permuted_copy_has_a_barrier_before_alignment_and_none_after(made, its):
    a, b = (made.nets.mode(mode, 0) for mode in "GA")
    t = paths.paper_t(2)
    own = training.evaluate(its.classifier.metric, a, {}, its.sets["train"])
    for kind in ("segment", "aligned-weights", "aligned-activations"):
        curve = curves.line(a, b) if kind == "segment" else made.curve(kind, "GA", 0)
        found = paths.evaluate(curve, t, its.sets, its.classifier.metric)
        losses = found["train_loss"]
        # The permuted network is the same function, up to the order of sums.
        np.testing.assert_allclose(losses[[0, -1]], own["loss"], rtol=1e-4)
        if kind == "segment":
            assert abs(losses[1] - own["loss"]) > 0.1
        else:
            np.testing.assert_allclose(losses, own["loss"], rtol=1e-4)
            assert points.barrier(losses) < 1e-3


def test_distances_are_those_after_alignment(made):
    found = mode_connectivity.aligned_distances(made.run, made, "aligned-weights")
    assert found["GA/distance"].shape == (1,)
    assert found["GA/distance"][0] < 1e-4
    a, b = (made.nets.mode(mode, 0) for mode in "GA")
    assert float(curves.distance(a, b)) > 1


def test_a_network_that_is_not_finite_stays_as_it_is(made):
    other = made.nets.by_mode["A"]
    other["fc_2"]["bias"] = other["fc_2"]["bias"].at[0].set(jnp.nan)
    assert made.end("aligned-weights", "GA", 0) is other


def test_a_network_without_units_to_permute_is_refused_in_words(its):
    def init(key, images):
        return {"params": {"kernel": jnp.zeros((images[0].size, 10))}}

    def apply(variables, images):
        return images.reshape(len(images), -1) @ variables["params"]["kernel"]

    line = models.Network("line", init, apply, lambda *_: None, lambda *_: {})
    own = dataclasses.replace(its.classifier, network=line)
    with pytest.raises(ValueError, match=r"line has none.*aligned=\(\)"):
        alignments.spec(dataclasses.replace(its, classifier=own), 0)


def made_up(segment, aligned, chain, accuracies):
    """Arrays of one pair and two seeds: losses and accuracies at t = 0, 1/2, 1."""
    arrays = {"t": np.array([0.0, 0.5, 1.0])}
    arrays["distances"] = np.zeros((2, 2, 2))
    for mode in "GA":
        for name in ("accuracy", "loss"):
            arrays[f"{mode}/test_{name}"] = np.ones((2, 1))
    middles = zip(("segment", "aligned-weights", "chain"), accuracies, strict=True)
    of_kind = {"segment": segment, "aligned-weights": aligned, "chain": chain}
    for kind, middle in middles:
        losses = np.array([[0.2, own, 0.4] for own in of_kind[kind]])
        accuracy = np.array([[0.9, middle, 0.8]] * 2)
        if kind == "chain":
            losses, accuracy = losses[:, None], accuracy[:, None]
        arrays |= {f"GA/{kind}/{part}_loss": losses for part in ("train", "test")}
        arrays[f"GA/{kind}/test_accuracy"] = accuracy
    return arrays | {"GA/aligned-weights/distance": np.array([3.0, 4.0])}


def test_statistics_of_made_up_segments():
    """Barriers above the worse end, .4: 2 before, .5 after; none in the second seed."""
    config = dataclasses.replace(SMOKE, kinds=("chain",), aligned=("weights",))
    arrays = made_up((2.4, 0.3), (0.9, 0.3), (0.4, 0.4), (0.2, 0.6, 0.75))
    found = results.results(config, arrays, [0, 1])
    values = found["statistics"]
    np.testing.assert_allclose(values["alignment/weights/barrier"], [75, np.nan])
    expected = {"worst-minus-segment": 40.0, "worst-minus-chain": -15.0}
    for name, value in expected.items():
        np.testing.assert_allclose(values[f"alignment/weights/{name}"], [value] * 2)
    assert found["pairs"]["GA"]["distance, aligned-weights"]["mean"] == 3.5
    assert {c.key for c in claims(config)} == {*values}


def test_the_lens_is_off_by_default_and_its_claims_are_secondary():
    for name, config in PRESETS.items():
        keys = {c.key for c in claims(fields.resolved(config)) if "alignment" in c.key}
        assert bool(keys) == (name in ("smoke", "lenses"))
    lenses, digits = (PRESETS[name].resolved for name in ("lenses", "digits"))
    changed = {"seeds", "looks", "first_seed", "aligned"}
    same = dataclasses.replace(digits, **{k: getattr(lenses, k) for k in changed})
    assert same == lenses
    assert lenses.first_seed >= 1000
    mine, theirs = ({c for c in claims(own) if c.main} for own in (lenses, digits))
    assert mine == theirs
    assert mode_connectivity.STUDY.leans_on(lenses) == "cifar10"


def test_each_way_is_named_once():
    with pytest.raises(ValueError, match="aligned must name each way once"):
        dataclasses.replace(SMOKE, aligned=("weights", "weights"))
    with pytest.raises(ValueError, match="aligned"):
        dataclasses.replace(SMOKE, aligned=("units",))
