"""What studies share along paths: chains' objectives, statistics, sets."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import paths
from kd_heuristics import curves, data, models, training
from kd_heuristics.models import normalization

IMAGES = np.random.RandomState(0).randint(0, 256, (3, 8, 4, 4, 3)).astype(np.uint8)
BATCHES = {
    "images": jnp.asarray(IMAGES),
    "labels": jnp.asarray(np.arange(24).reshape(3, 8) % 3),
    "mask": jnp.ones((3, 8), bool).at[2, 5:].set(False),
}


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(4)(images.mean((1, 2)))
        x = normalization.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(nn.relu(x)), {}


CLASSIFIER = training.Classifier(
    models.from_linen("tiny", Tiny()), (120.0,) * 3, (60.0,) * 3
)
A, B = (
    CLASSIFIER.network.init(jax.random.key(seed), jnp.zeros((1, 4, 4, 3)))
    for seed in (1, 2)
)
CHAIN = paths.Chain(epochs=1, rate=0.1, drops_epochs=())
KEY = jax.random.key(0)


def quadratic(params, batch_stats, batch, key):
    loss = jnp.square(params["kernel"]).sum() + params["bias"]
    return loss, (batch_stats, {"loss": loss})


ENDS = ({"kernel": jnp.ones(3), "bias": 1.0}, {"kernel": -jnp.ones(3), "bias": 2.0})
BEND = {"kernel": jnp.arange(3.0), "bias": 0.0}


def loss_of(objective):
    return objective(BEND, {}, None, KEY)[0]


def test_the_plain_chain_is_the_papers_one_t_a_step():
    t = jax.random.uniform(jax.random.split(KEY)[0])
    at = curves.polychain([ENDS[0], BEND, ENDS[1]]).at(t)
    expected = np.square(np.asarray(at["kernel"], float)).sum() + float(at["bias"])
    found = loss_of(CHAIN.objective(ENDS, quadratic))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_decays_and_points_reach_the_loss_and_the_optimiser():
    plain = loss_of(CHAIN.objective(ENDS, quadratic))
    t = jax.random.uniform(jax.random.split(KEY)[0])
    kernel = curves.polychain([ENDS[0], BEND, ENDS[1]]).at(t)["kernel"]
    decayed = paths.Chain(epochs=1, rate=0.1, drops_epochs=(), path_decay=0.5)
    found = loss_of(decayed.objective(ENDS, quadratic)) - plain
    np.testing.assert_allclose(found, 0.25 * np.square(kernel).sum(), rtol=1e-5)

    several = paths.Chain(
        epochs=1, rate=0.1, drops_epochs=(), num_t=3, stratified=True
    )  # fmt: skip
    ts = curves.sample_t(jax.random.split(KEY)[0], 3, stratified=True)
    points = [curves.polychain([ENDS[0], BEND, ENDS[1]]).at(t) for t in ts]
    losses = [quadratic(point, {}, None, None)[0] for point in points]
    found = loss_of(several.objective(ENDS, quadratic))
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-6)

    bend = paths.Chain(epochs=1, rate=0.1, drops_epochs=(), bend_decay=0.5)
    optimizer = bend.optimizer(10)
    zeros = jax.tree.map(jnp.zeros_like, BEND)
    updates, _ = optimizer.update(zeros, optimizer.init(BEND), BEND)
    np.testing.assert_allclose(updates["kernel"], -0.05 * BEND["kernel"], rtol=1e-6)
    assert updates["bias"] == 0


def test_a_rate_falls_along_a_cosine():
    chain = paths.Chain(epochs=2, rate=0.1, schedule="cosine", drops_epochs=())
    optimizer, rates = chain.optimizer(3), []
    state, ones = optimizer.init(BEND), jax.tree.map(jnp.ones_like, BEND)
    for _ in range(6):
        updates, state = optimizer.update(ones, state, BEND)
        rates.append(-float(updates["bias"]))
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(6) / 6))
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_statistics_of_one_batch_are_its_own():
    """The first examples' own moments normalise them, as in training mode."""
    train = data.Dataset(IMAGES.reshape(24, 4, 4, 3), np.arange(24) % 3, 3, "tiny")
    config = types.SimpleNamespace(first_seed=0, eval_batch_size=8)
    task = types.SimpleNamespace(
        start=lambda seed: (A["params"], A["batch_stats"]),
        classifier=CLASSIFIER,
        train=train,
    )
    found = paths.refresh(config, task, examples=10)(A["params"])
    x = (IMAGES.reshape(24, 4, 4, 3)[:10].mean((1, 2)) - 120.0) / 60.0
    dense = jax.tree.map(np.asarray, A["params"]["Dense_0"])
    (own,) = found.values()
    np.testing.assert_allclose(
        own["mean"], (x @ dense["kernel"] + dense["bias"]).mean(0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("method", ["exact", "pooled", "cumulative"])
def test_statistics_of_our_networks_along_a_curve(method):
    stats = A["batch_stats"]
    refresh = paths.statistics(CLASSIFIER, stats, BATCHES, method)
    found = jax.jit(refresh)(A["params"])["BatchNorm_0"]
    inputs = (IMAGES.reshape(24, 4, 4, 3).astype(float) - 120) / 60
    dense = jax.tree.map(lambda w: np.asarray(w, float), A["params"]["Dense_0"])
    x = inputs.mean((1, 2))[:21] @ dense["kernel"] + dense["bias"]
    variance = x.var(0)
    if method == "cumulative":
        parts = (x[:8], x[8:16], x[16:])
        variance = sum(len(part) * part.var(0) for part in parts) / 21
    np.testing.assert_allclose(found["mean"], x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["var"], variance, rtol=1e-5)
    if method == "exact":
        curve = curves.line(A["params"], B["params"])
        values = paths.evaluate(
            curve,
            [0.0, 1.0],
            {"train": BATCHES},
            CLASSIFIER.metric,
            refresh_stats=refresh,
        )
        own = jax.jit(refresh)(B["params"])
        alone = training.evaluate(CLASSIFIER.metric, B["params"], own, BATCHES)
        assert set(values) == {"train_loss", "train_accuracy"}
        np.testing.assert_allclose(values["train_loss"][1], alone["loss"], rtol=1e-5)


def test_nothing_to_refresh_without_batch_norm():
    assert paths.statistics(CLASSIFIER, {}, BATCHES, "exact") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"rate": 0.0}, "positive, got 0"),
        ({"bend_decay": -1.0}, "bend_decay must be at least 0, got -1"),
        ({"path_decay": -1.0}, "path_decay must be at least 0, got -1"),
        ({"num_t": 0}, "at least 1, got 0"),
    ],
)
def test_bad_chains(options, words):
    fields = {"epochs": 1, "rate": 0.1, "drops_epochs": ()} | options
    with pytest.raises(ValueError, match=words):
        paths.Chain(**fields)


def test_a_mistyped_method_is_answered():
    with pytest.raises(ValueError, match="did you mean 'pooled'"):
        paths.statistics(CLASSIFIER, A["batch_stats"], BATCHES, "poled")
