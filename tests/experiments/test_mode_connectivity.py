"""Mode connectivity: what each mode changes, the curves, numbers, claims, figures."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import figures, launch, paths
from experiments.common.study import StudyRun
from experiments.mode_connectivity import optimizers
from experiments.mode_connectivity import results as module
from experiments.mode_connectivity import study as mode_connectivity
from experiments.mode_connectivity.claims import claims
from experiments.mode_connectivity.config import KINDS, MODES, PRESETS
from experiments.mode_connectivity.networks import Networks
from kd_heuristics import curves, models, runs, training
from tests.experiments import planned
from tests.experiments.silent import Silent

SMOKE = PRESETS["smoke"].resolved
PAPER = PRESETS["cifar10"]
STEPS = 500  # an epoch of CIFAR-10 at batch 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return launch.run(
        mode_connectivity.STUDY,
        SMOKE,
        tmp_path_factory.mktemp("smoke") / "mode_connectivity",
    )


@pytest.fixture(scope="module")
def its():
    return mode_connectivity.make_tasks(SMOKE)["sgd"]


@pytest.fixture(scope="module")
def nets(folder):
    by = mode_connectivity.compute
    run = StudyRun(SMOKE, runs.RunFolder(folder), Silent(), by=by)
    return Networks(run, mode_connectivity.make_tasks(SMOKE))


def test_leaves_numbers_claims_and_figures(folder):
    planned.check(mode_connectivity.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert list(results["modes"]) == ["G", "A", "D", "E"]
    assert list(results["pairs"]) == ["GA", "GD", "GE"]
    assert len(results["pairs"]["GA"]["worst accuracy, chain"]) == 2  # curve epochs
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    assert len(results["claims"]) == 2 + 3 + 1 + 3 + 3 + 3 + 3
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    figures = {f"figure{number}" for number in (1, 7, 8, 9, 10)}
    assert names == figures | {"kinds", "epochs", "alignment"}


def test_curves_end_at_the_networks_own_metrics(folder, its, nets):
    with np.load(folder / "arrays.npz") as arrays:
        for pair in SMOKE.pairs:
            for index, params in (
                (0, nets.ends(pair, 0)[0]),
                (-1, nets.ends(pair, 0)[1]),
            ):
                own = training.evaluate(
                    its.classifier.metric, params, {}, its.sets["test"]
                )
                along = [arrays[f"{pair}/segment/test_loss"][0, index]]
                for kind in KINDS:
                    along += list(arrays[f"{pair}/{kind}/test_loss"][0, :, index])
                np.testing.assert_allclose(along, own["loss"], rtol=1e-6)


def test_distances_are_those_of_the_networks(folder, nets):
    a, b = (
        np.concatenate(
            [np.ravel(leaf) for leaf in jax.tree.leaves(params)], dtype=float
        )
        for params in nets.ends("GE", 0)
    )
    results = json.loads((folder / "results.json").read_text())
    found = results["pairs"]["GE"]["distance"]["mean"]
    np.testing.assert_allclose(found, np.linalg.norm(a - b), rtol=1e-5)


def test_curves_pass_where_they_should_at_one_half(folder, its, nets):
    """The chain through its bend; the Bezier through (a + 2 bend + b) / 4."""
    a, b = nets.ends("GA", 0)
    with np.load(folder / "arrays.npz") as arrays:
        half = int(np.searchsorted(arrays["t"], 0.5))
        for kind in KINDS:
            bend = nets.bend(kind, "GA", 0, epoch=2)
            at = bend
            if kind == "bezier":
                at = jax.tree.map(lambda x, y, z: (x + 2 * y + z) / 4, a, bend, b)
            own = training.evaluate(its.classifier.metric, at, {}, its.sets["train"])
            found = arrays[f"GA/{kind}/train_loss"][0, 1, half]
            np.testing.assert_allclose(found, own["loss"], rtol=1e-5)  # other rounding


def test_a_decayed_bend_is_that_of_a_chain_fitted_alone_with_decay(its, nets):
    """Fitted with the others it has their program and its own decay."""
    strong = dataclasses.replace(SMOKE.curve, bend_decay=SMOKE.bend_decay)
    ends = nets.ends("GD", 0)
    objective = jax.tree_util.Partial(its.classifier.supervised)
    state = training.fit(
        strong.objective(ends, objective),
        curves.midpoint(*ends),
        {},
        strong.optimizer(its.steps_per_epoch),
        its.batches,
        num_steps=2 * its.steps_per_epoch,
        seed=0,
    )
    decayed, plain = (nets.bend(kind, "GD", 0, 2) for kind in ("decayed", "chain"))

    def largest(other):
        pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(other), strict=True)
        return max(float(jnp.abs(a - b).max()) for a, b in pairs)

    # Sums in another order: float32 rounding of weights of order 1. The decay moves
    # them by 8 steps * rate 0.05 * decay 5e-4, with momentum some times more.
    assert largest(decayed) < 3e-6 < 3e-5 < largest(plain)


def test_modes_of_the_paper():
    """Section 2.1: each mode changes one thing."""
    trace = {mode: PAPER.rates(mode, STEPS)[::STEPS] for mode in MODES}
    epochs = [0, 59, 60, 119, 120, 159, 160, 199]
    expected = [0.05, 0.05, 0.01, 0.01, 0.002, 0.002, 0.0004, 0.0004]
    for mode in "GADEF":
        np.testing.assert_allclose(trace[mode][epochs], expected, rtol=1e-6)
    np.testing.assert_allclose(trace["C"], 0.05 * (1 - np.arange(200) / 200), rtol=1e-5)
    assert PAPER.rates("C", STEPS)[1] < trace["C"][0]  # set every step
    assert trace["B"][0] == np.float32(1e-3)
    assert [PAPER.decay(mode) for mode in "GD"] == [5e-4, 5e-6]
    assert [PAPER.largest_norm(mode) for mode in "GE"] == [np.inf, 1.0]
    assert len(PAPER.rates("A", 12)) == 2400


def test_adam_of_mode_b():
    """Two steps against Kingma and Ba 2015, algorithm 1, clipped and then decayed."""
    rates, decay, largest = np.array([0.1, 0.05]), 0.5, 1.0
    optimizer = optimizers.adam(SMOKE)(*map(jnp.float32, (rates, decay, largest)))
    gradients = [np.array([3.0, -4.0]), np.array([0.3, 0.1])]
    params = {"kernel": jnp.array([1.0, 2.0])}
    state = optimizer.init(params)
    weights, first, second = np.array([1.0, 2.0]), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(
            {"kernel": jnp.array(gradient)}, state, params
        )
        params = jax.tree.map(jnp.add, params, updates)
        norm = np.linalg.norm(gradient)
        g = gradient * min(1, largest / norm) + decay * weights
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        mean = first / (1 - 0.9 ** (step + 1))
        square = second / (1 - 0.999 ** (step + 1))
        weights = weights - rates[step] * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(params["kernel"], weights, rtol=1e-5)  # float32


def test_only_mode_e_starts_wide(its):
    wide = models.create(SMOKE.model, 10, init_factor=1.5, **SMOKE.model_options)
    seed = mode_connectivity.member_seed("E", 0)
    images = jnp.zeros((1, 32, 32, 3))
    expected = wide.init(jax.random.key(seed), images)["params"]
    found = mode_connectivity.start(SMOKE, its, "E", 0)[0]
    # One rounding more than a draw at the wider scale.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
    )
    first, other = (
        mode_connectivity.start(SMOKE, its, mode, 0)[0]["fc_0"]["kernel"]
        for mode in "GD"
    )
    np.testing.assert_allclose(first.std(), other.std(), rtol=0.1)
    assert not np.array_equal(first, other)


def test_modes_may_share_their_start(its):
    config = dataclasses.replace(SMOKE, same_start=True)
    starts = [mode_connectivity.start(config, its, mode, 0)[0] for mode in "GF"]
    jax.tree.map(np.testing.assert_array_equal, *starts)
    of_batches = [mode_connectivity.member_seed(mode, 0) for mode in "GF"]
    assert of_batches[0] != of_batches[1]


def test_batches_of_the_modes():
    config = dataclasses.replace(SMOKE, modes=("G", "A", "F"))
    tasks = mode_connectivity.make_tasks(config)
    first, large, plain = (
        tasks[group].batches(0, 0)["images"] for group in ("sgd", "large", "plain")
    )
    assert len(first) == SMOKE.batch_size
    assert len(large) == SMOKE.large_batch_size
    known = {image.tobytes() for image in tasks["sgd"].train.images}
    assert all(np.asarray(image).tobytes() in known for image in plain)
    assert not all(np.asarray(image).tobytes() in known for image in first)


def test_mode_a_keeps_its_last_batch():
    """13 steps an epoch on CIFAR-10; here 1,000 images in batches of 400."""
    (large,) = (
        its
        for its in mode_connectivity.STUDY.plan(PAPER.resolved).trainings
        if its.batch_size == 4000
    )
    assert large.steps == 200 * 13
    config = dataclasses.replace(
        SMOKE, modes=("G", "A"), perplexity=2.0, train_examples=100, large_batch_size=40
    )
    its = mode_connectivity.make_tasks(config)["large"]
    assert its.steps_per_epoch == 3
    assert len(config.rates("A", its.steps_per_epoch)) == 3 * config.epochs
    labels = np.sort(its.train.labels)
    seen = [its.batches(0, step)["labels"] for step in range(3)]
    once = np.concatenate([*seen[:2], seen[2][:20]])
    np.testing.assert_array_equal(np.sort(once), labels)
    np.testing.assert_array_equal(seen[2][:20], seen[2][20:])


def test_train_metrics_on_augmented_images(its):
    config = dataclasses.replace(SMOKE, train_metrics="augmented")
    other = mode_connectivity.make_tasks(config)["sgd"]
    mine, seen = its.sets["train"], other.sets["train"]
    np.testing.assert_array_equal(mine["labels"], seen["labels"])
    changed = (mine["images"] != seen["images"]).any(axis=(2, 3, 4))
    assert changed.mean() > 0.9
    np.testing.assert_array_equal(
        its.sets["test"]["images"], other.sets["test"]["images"]
    )


def arrays_of(values):
    """Made-up arrays of one pair, two seeds, two curve epochs and t = 0, 1/2, 1."""
    along = np.array(values["accuracy"])  # [curve epochs, t]
    arrays = {
        "t": np.array([0.0, 0.5, 1.0]),
        "distances": np.array([[[0.0, 4.0], [4.0, 0.0]]] * 2),
        "GA/segment/test_accuracy": np.array([values["segment"]] * 2),
    }
    for mode in "GA":
        arrays |= {
            f"{mode}/test_{name}": np.zeros((2, 1)) for name in ("accuracy", "loss")
        }
    for kind in KINDS:
        shift = 0.1 if kind == "bezier" else 0.0
        loss = np.array(values["loss"]) - (0.5 if kind == "decayed" else 0.0)
        arrays[f"GA/{kind}/test_accuracy"] = np.stack([along, along + shift])
        arrays[f"GA/{kind}/test_loss"] = np.stack([loss, loss])
        arrays[f"GA/{kind}/train_loss"] = np.stack([loss, loss])
    return arrays


def test_statistics_of_made_up_curves():
    config = dataclasses.replace(SMOKE, modes=("G", "A"), perplexity=2.0, aligned=())
    arrays = arrays_of(
        {
            "segment": [0.9, 0.3, 0.8],
            "accuracy": [[0.9, 0.6, 0.8], [0.9, 0.75, 0.8]],
            "loss": [[0.1, 1.0, 0.2], [0.1, 3.0, 0.2]],
        }
    )
    results = module.results(config, arrays, [0, 1])
    values = results["statistics"]
    expected = {
        "worst-minus-end": [-5, -5],
        "worst-minus-end/GA": [-5, -5],
        "worst-minus-segment": [45, 45],
        "worst-minus-segment/GA": [45, 45],
        "worst-minus-end/bezier": [-5, 5],
        "worst-by-epochs": [15, 15],
        "bend-loss/epochs": [2.0, 2.0],
        "bend-loss/decay": [0.5, 0.5],
        "accuracy/G/A": values["accuracy/G/A"],
    }
    assert set(values) == set(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(values[name], numbers, atol=1e-12, err_msg=name)
    assert results["pairs"]["GA"]["distance"]["mean"] == 4.0

    alone = dataclasses.replace(config, kinds=("chain",))
    chains = {k: v for k, v in arrays.items() if "bezier" not in k and "dec" not in k}
    found = module.results(alone, chains, [0, 1])["statistics"]
    of_others = {"worst-minus-end/bezier", "bend-loss/decay"}
    assert set(found) == set(values) - of_others
    for name, own in found.items():
        np.testing.assert_array_equal(own, values[name])


def test_the_papers_numbers_stand_beside_the_claims():
    """Minima at curve epoch 80 less the worse visible end, from Figure 1."""
    found = {claim.key: claim.paper for claim in claims(PAPER)}
    worst = [found[f"worst-minus-end/{pair}"] for pair in PAPER.pairs]
    np.testing.assert_allclose(worst, [0.0, -0.04, -2.13, -0.45, -0.47, 0.0], atol=1e-2)
    grown = [
        8641 - 8178,
        8620 - 7925,
        9080 - 8363,
        9040 - 8330,
        7743 - 6871,
        9070 - 8615,
    ]
    np.testing.assert_allclose(
        found["worst-by-epochs"],
        np.mean(grown) / 1e2,
        atol=0.1,
    )


@pytest.mark.parametrize(("dataset", "hidden"), [("cifar10", 0), ("svhn", 4)])
def test_the_papers_curves_lie_behind_a_cifar10_figure(
    folder, tmp_path, dataset, hidden
):
    copy = tmp_path / "mode_connectivity"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checkpoints"))
    described = json.loads((copy / "config.json").read_text())
    described["config"] |= {"dataset": dataset, "modes": ["G", "A"]}
    (copy / "config.json").write_text(json.dumps(described))
    (panel,) = figures.described(mode_connectivity.STUDY, copy)["figure1"].panels
    papers = [series for series in panel.series if series.paper]
    assert len(papers) == 4
    assert sum(series.hidden for series in papers) == hidden


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modes": ("G", "H")}, "unknown mode 'H'"),
        ({"modes": ("A", "B")}, "modes must be G and then others"),
        ({"modes": ("G",)}, "modes must be G and then others"),
        ({"modes": ("G", "A", "A")}, "each once"),
        ({"kinds": ("bezier",)}, "kinds must be chain and then others"),
        ({"kinds": ("chain", "line")}, "unknown kind of curve"),
        ({"curve_epochs": (1,)}, "to the curve's last epoch, 2, got \\(1,\\)"),
        ({"curve_epochs": (2, 1)}, "must ascend"),
        ({"perplexity": 7.0}, "number of points, 7"),
        ({"large_batch_size": 0}, "large_batch_size must be at least 1, got 0"),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)


def test_paths_chain_fits_a_bezier_too():
    """The objective is the loss at phi(t) of the curve that is asked for."""
    ends, bend = (jnp.float32(1), jnp.float32(2)), jnp.float32(5)
    chain = paths.Chain(epochs=1, rate=0.1, drops_epochs=())
    key = jax.random.key(0)
    t = float(jax.random.uniform(jax.random.split(key)[0]))

    def identity(w, batch_stats, batch, key):
        return w, (batch_stats, {"loss": w})

    found = chain.objective(ends, identity, "bezier")(bend, {}, None, key)[0]
    expected = (1 - t) ** 2 * 1 + 2 * t * (1 - t) * 5 + t**2 * 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)
