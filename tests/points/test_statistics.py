"""Re-estimated batch statistics against NumPy over the whole set, in float64."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import curves, points
from kd_heuristics.points.evaluate import chunk_sums, refreshed
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.compiled import as_partial

X = (np.random.RandomState(0).normal(size=(23, 4)) * 2 + 1).astype(np.float32)


def batched(size):
    count = -(-len(X) // size)
    filled = np.full((count * size, 4), np.nan, np.float32)  # padding would spoil all
    filled[: len(X)] = X
    mask = np.arange(count * size) < len(X)
    return {
        "x": jnp.asarray(filled.reshape(count, size, 4)),
        "mask": jnp.asarray(mask.reshape(count, size)),
    }


BATCHES = batched(8)


class Net(nn.Module):
    """Two batch norms in a row, of different momenta."""

    @nn.compact
    def __call__(self, x, train):
        for name, units, momentum in (("one", 6, 0.9), ("two", 5, 0.97)):
            x = nn.Dense(units, name=f"fc_{name}")(x)
            x = nn.BatchNorm(not train, momentum=momentum, name=name)(x)
            x = nn.relu(x)
        return nn.Dense(3)(x)


NET = Net()
INIT = jax.jit(lambda key: NET.init(key, X, train=False))


def network(seed):
    """Parameters at random, biases and scales too."""
    noise = np.random.default_rng(seed)
    return jax.tree.map(
        lambda w: w + 0.3 * noise.normal(size=w.shape).astype(np.float32),
        INIT(jax.random.key(seed))["params"],
    )


A, B = network(1), network(2)
STATS = INIT(jax.random.key(0))["batch_stats"]


def apply(params, batch_stats, batch):
    variables = {"params": params, "batch_stats": batch_stats}
    return NET.apply(variables, batch["x"], train=False)


def train(params, batch_stats, batch):
    variables = {"params": params, "batch_stats": batch_stats}
    _, new = NET.apply(variables, batch["x"], train=True, mutable=["batch_stats"])
    return new["batch_stats"]


def metric(params, batch_stats, batch):
    loss = jnp.square(apply(params, batch_stats, batch)).sum(axis=1)
    return {"loss": loss, "mask": batch["mask"]}


def oracle_pass(params, groups):
    """Training mode in NumPy, each group one batch: moments of both layers' inputs."""
    params = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    moments = [[], []]
    for group in groups:
        x = np.asarray(group, np.float64)
        for k, name in enumerate(("one", "two")):
            x = x @ params[f"fc_{name}"]["kernel"] + params[f"fc_{name}"]["bias"]
            mean, var = x.mean(0), x.var(0)
            moments[k].append((len(x), mean, var))
            scale = params[name]["scale"] / np.sqrt(var + 1e-5)
            x = np.maximum((x - mean) * scale + params[name]["bias"], 0)
    return moments


def combined(groups, pool):
    sizes, means, variances = (np.array(values) for values in zip(*groups, strict=True))
    weights = (sizes / sizes.sum())[:, None]
    mean = (weights * means).sum(0)
    between = (means - mean) ** 2 if pool else 0
    return {"mean": mean, "var": (weights * (variances + between)).sum(0)}


def oracle(params, method, size=8):
    if method == "exact":
        groups = [X]
    else:
        groups = [X[i : i + size] for i in range(0, len(X), size)]
    one, two = oracle_pass(params, groups)
    pool = method != "cumulative"
    return {"one": combined(one, pool), "two": combined(two, pool)}


def refresher(method, batches=BATCHES):
    if method == "exact":
        return points.refit_exact(points.input_moments(apply), STATS, batches)
    return getattr(points, f"refit_{method}")(train, STATS, batches)


METHODS = ("exact", "pooled", "cumulative")


def assert_close(found, expected):
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        own = found[path[0].key][path[1].key]
        # float32 sums; 1 - m of momentum .97 keeps 2e-6.
        np.testing.assert_allclose(own, leaf, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_equals_numpy_with_a_ragged_last_batch(method):
    assert_close(refresher(method)(A), oracle(A, method))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("method", METHODS)
def test_statistics_in_half_precision_are_computed_in_float32(method, dtype):
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), STATS)

    def kept(params, batch_stats, batch):
        """Each statistic in its own type, as other libraries' layers have it."""
        new = train(params, batch_stats, batch)
        return jax.tree.map(lambda x, like: x.astype(like.dtype), new, batch_stats)

    if method == "exact":
        found = points.refit_exact(points.input_moments(apply), half, BATCHES)(A)
    else:
        found = getattr(points, f"refit_{method}")(kept, half, BATCHES)(A)
    for path, leaf in jax.tree_util.tree_leaves_with_path(oracle(A, method)):
        own = found[path[0].key][path[1].key]
        assert own.dtype == dtype
        # Rounded once; layer two of "exact" sees the first one's rounded statistics.
        rtol = float(jnp.finfo(dtype).eps)
        scale = 4 if method == "exact" else 1
        np.testing.assert_allclose(
            own.astype(jnp.float32), leaf, rtol=rtol * scale, atol=rtol
        )


def test_the_three_differ_as_they_should():
    found = {method: refresher(method)(A) for method in METHODS}
    exact, pooled, cumulative = (found[method] for method in METHODS)
    # The first layer's inputs depend on no statistics.
    np.testing.assert_allclose(exact["one"]["var"], pooled["one"]["var"], rtol=1e-5)
    assert np.abs(exact["two"]["var"] - pooled["two"]["var"]).max() > 1e-3
    assert (cumulative["one"]["var"] < pooled["one"]["var"]).all()


@pytest.mark.parametrize("method", ["exact", "pooled"])
def test_one_batch_of_the_whole_set_is_exact(method):
    whole = {"x": jnp.asarray(X)[None]}
    assert_close(refresher(method, whole)(B), oracle(B, "exact"))


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_the_ends_of_a_curve_are_the_networks_re_estimated(monkeypatch, strategy):
    monkeypatch.setattr(parallel, "strategies", lambda: {"points": strategy})
    curve = curves.bezier([A, network(3), B])
    refresh = refresher("exact")
    found = points.evaluate(curve.at, [0, 0.5, 1], BATCHES, metric, refresh, chunk=2)
    for value, params in ((found["loss"][0], A), (found["loss"][2], B)):
        stats = jax.tree.map(jnp.float32, oracle(params, "exact"))
        alone = points.evaluate(
            lambda _, own=params: own, [0.0], BATCHES, metric, batch_stats=stats
        )
        np.testing.assert_allclose(value, alone["loss"][0], rtol=1e-5)
    middle = curve.at(0.5)
    stats = jax.tree.map(jnp.float32, oracle(middle, "exact"))
    expected = np.square(apply(middle, stats, {"x": X})).sum(1, dtype=np.float64).mean()
    np.testing.assert_allclose(found["loss"][1], expected, rtol=1e-5)


def test_large_means_keep_their_variance():
    def moments(w, _, batch):
        inputs = w * batch["x"]
        return {"mean": inputs.mean(), "var": inputs.var()}

    x = 3000 + np.random.RandomState(2).normal(size=(300, 5)).astype(np.float32)
    stats = {"mean": jnp.float32(0), "var": jnp.float32(1)}
    found = points.refit_exact(moments, stats, {"x": jnp.asarray(x)})(jnp.float32(1))
    # A difference of mean squares would have nothing left: 3000^2 * 6e-8 = 0.5. The
    # means are known to 1e-4 each, and enter the variance by their differences.
    np.testing.assert_allclose(found["var"], x.var(dtype=np.float64), rtol=1e-3)


def test_other_leaves_stay_and_an_overflow_is_kept():
    def train_with_counter(w, stats, batch):
        inputs = w * batch["x"]
        moments = {"mean": inputs.mean(), "var": inputs.var()}
        new = {k: 0.5 * stats[k] + 0.5 * v for k, v in moments.items()}
        return new | {"count": stats["count"] + 1}

    stats = {"mean": jnp.zeros(()), "var": jnp.ones(()), "count": jnp.int32(7)}
    batches = {"x": jnp.arange(6.0).reshape(3, 2)}
    refresh = jax.jit(points.refit_pooled(train_with_counter, stats, batches))
    found = refresh(jnp.float32(2))
    assert found["count"] == 7
    np.testing.assert_allclose(found["mean"], 5, rtol=1e-6)
    np.testing.assert_allclose(found["var"], 4 * np.arange(6.0).var(), rtol=1e-6)
    assert not np.isfinite(refresh(jnp.float32(1e38))["var"])


@pytest.mark.parametrize("method", ["exact", "pooled"])
def test_a_chunk_lowers_for_gpu_and_tpu(method):
    shapes = jax.eval_shape(lambda: jax.tree.map(lambda w: jnp.stack([w] * 4), A))

    @jax.jit
    def chunk(params):
        stats = refreshed(refresher(method), params, "vmap")
        return chunk_sums(as_partial(metric), params, stats, {}, BATCHES, "vmap")

    exported = jax.export.export(chunk, platforms=["cuda", "tpu"])(shapes)
    assert {leaf.shape for leaf in exported.out_avals} == {(4, 3)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: points.refit_pooled(train, {}, BATCHES), "no statistics"),
        (
            lambda: points.refit_pooled(train, {"bn": {"mean": jnp.ones(2)}}, BATCHES),
            'named "mean" and "var" in pairs, got \'bn/mean\'',
        ),
        (
            lambda: points.refit_exact(train, {"scale": jnp.ones(2)}, BATCHES),
            "got 'scale'",
        ),
        (
            lambda: points.refit_pooled(
                train, STATS, BATCHES | {"mask": jnp.zeros((3, 8), bool)}
            ),
            "no example",
        ),
        (
            lambda: points.refit_pooled(lambda *_: STATS["one"], STATS, BATCHES)(A),
            "a tree like batch_stats",
        ),
        (
            lambda: points.evaluate(
                lambda _: A, [0.0], BATCHES, metric, refresher("pooled"),
                batch_stats=STATS,
            ),
            "not both",
        ),
        (
            lambda: points.evaluate(lambda _: A, [0.0], BATCHES, metric),
            "give refresh_stats .* or batch_stats .*one",
        ),
        (
            lambda: points.refit_exact(
                points.input_moments(jax.jit(lambda p, *_: p["Dense_0"]["bias"])),
                STATS,
                BATCHES,
            )(A),
            "no layer of batch_stats ran",
        ),
        (
            lambda: points.refit_exact(points.input_moments(train), STATS, BATCHES)(A),
            "'one' is in training mode",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_layer_called_twice_has_no_one_mean():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            norm = nn.BatchNorm(use_running_average=True, name="norm")
            return norm(norm(x))

    variables = Twice().init(jax.random.key(0), X)
    moments = points.input_moments(
        lambda params, stats, batch: Twice().apply(
            {"params": params, "batch_stats": stats}, batch["x"]
        )
    )
    with pytest.raises(ValueError, match="'norm' is called twice"):
        moments(variables["params"], variables["batch_stats"], {"x": X})
