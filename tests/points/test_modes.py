"""Curves and points under jax's modes and in any container: the same numbers."""

import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_heuristics import curves, points
from tests import modes

RNG = np.random.RandomState(4)
W = RNG.normal(size=(3, 4, 5))  # of three points
X = RNG.normal(size=(2, 6, 4))  # two batches
TS = [0.0, 0.25, 0.8, 1.0]

MODES = modes.MODES | {
    "strict promotion, x64": lambda: both(
        modes.enable_x64(True), jax.numpy_dtype_promotion("strict")
    ),
}
each_mode = pytest.mark.parametrize("mode", MODES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@contextlib.contextmanager
def both(first, second):
    with first, second:
        yield


def trees(dtype=np.float32):
    """Points with leaves of other types beside: an integer and half precision."""
    return [
        {"w": w.astype(dtype), "n": 3, "half": w[0].astype(jnp.bfloat16)} for w in W
    ]


def norms(a, b):
    """In float64, of the leaves as they are rounded."""
    leaves = [(a[k], b[k]) for k in ("w", "half")]
    leaves = [(np.float64(x), np.float64(y)) for x, y in leaves]
    return np.sqrt(sum(((x - y) ** 2).sum() for x, y in leaves))


def tolerance(mode, dtype):
    return 1e-13 if "x64" in mode and dtype == np.float64 else 2e-6


@each_mode
@dtypes
def test_curves(mode, dtype):
    given = trees(dtype)
    rtol = tolerance(mode, dtype)
    with MODES[mode]():
        line = curves.line(*given[:2])
        chain = curves.polychain(given)
        found = {
            "line": line.at(0.25)["w"],
            "integer t": line.at(np.int64(1))["w"],
            "NumPy t": line.at(np.float64(0.25))["w"],
            "middle": curves.midpoint(*given[:2])["w"],
            "bezier": curves.bezier(given).at(0.5)["w"],
            "distance": curves.distance(*given[:2]),
            "length": curves.length(chain),
            "equal steps": curves.uniform_t(chain, 5),
            "mean": curves.arc_integral([0.0, 0.5, 1.0], [1.0, 1.0, 5.0], chain),
        }
        found = jax.tree.map(np.asarray, found)
    w = [np.float64(tree["w"]) for tree in given]
    steps = [norms(*given[:2]), norms(*given[1:])]
    position = np.linspace(0, 1, 5) * sum(steps)
    expected = {
        "line": 0.75 * w[0] + 0.25 * w[1],
        "integer t": w[1],
        "NumPy t": 0.75 * w[0] + 0.25 * w[1],
        "middle": (w[0] + w[1]) / 2,
        "bezier": (w[0] + 2 * w[1] + w[2]) / 4,
        "distance": steps[0],
        "length": sum(steps),
        "equal steps": np.interp(position, [0, *np.cumsum(steps)], [0, 0.5, 1]),
        "mean": (steps[0] + 3 * steps[1]) / sum(steps),
    }
    for name, value in expected.items():
        # Half precision lies in the leaf "half" alone; sums over it are in float32.
        own = 2e-6 if name in ("distance", "length", "equal steps", "mean") else rtol
        own = rtol if "x64" in mode and dtype == np.float64 else own
        np.testing.assert_allclose(found[name], value, own, 1e-7, err_msg=name)


def objective(params, batch_stats, batch, key):
    value = jnp.square(batch @ params["w"]).mean()
    return value, (batch_stats, {"loss": value})


@each_mode
def test_the_loss_of_a_curve(mode):
    a, bend, b = trees()
    loss = curves.CurveLoss(num_t=4, stratified=True, weight_decay=0.5)
    with MODES[mode]():
        batch = jnp.asarray(X[0], jnp.float32)
        key = jax.random.key(1)
        ts = curves.sample_t(jax.random.split(key)[0], 4, stratified=True)
        value = loss((a, b), objective, (bend,), {}, batch, key)[0]
        ts, value = np.asarray(ts), float(value)
    chain = curves.polychain([a, bend, b])
    at = [chain.at(np.float32(t)) for t in ts]
    expected = [
        np.square(X[0] @ np.float64(p["w"])).mean()
        + 0.25 * sum(np.square(np.float64(p[k])).sum() for k in ("w", "half"))
        for p in at
    ]
    # Products of bfloat16 are the objective's own, as the mode asks.
    np.testing.assert_allclose(
        value, np.mean(expected), 2e-2 if "bfloat16" in mode else 2e-6
    )


def metric(params, batch_stats, batch):
    mean = batch_stats["bn"]["mean"][None] if batch_stats else 0
    with jax.default_matmul_precision("highest"):
        inputs = batch["x"] @ params["w"]
    return {"value": (inputs - mean).sum(-1), "mask": batch["mask"]}


def moments(params, batch_stats, batch):
    with jax.default_matmul_precision("highest"):
        inputs = batch["x"] @ params["w"]
    return {"bn": {"mean": inputs.mean((0,)), "var": inputs.var((0,))}}


def train(params, batch_stats, batch):
    own, old = moments(params, {}, batch)["bn"], batch_stats["bn"]
    return {"bn": {k: 0.9 * old[k] + 0.1 * own[k] for k in own}}


@each_mode
@dtypes
@pytest.mark.parametrize("method", ["exact", "pooled", "cumulative"])
def test_points(mode, dtype, method):
    a, b = ({"w": w.astype(dtype)} for w in W[:2])
    x = np.concatenate([X, X[:1] * 100]).astype(dtype)
    mask = np.array([[True] * 6, [True] * 6, [True] * 2 + [False] * 4])
    stats = {"bn": {"mean": np.zeros(5, dtype), "var": np.ones(5, dtype)}}
    step = moments if method == "exact" else train
    with MODES[mode]():
        batches = {"x": jnp.asarray(x), "mask": jnp.asarray(mask)}
        refresh = getattr(points, f"refit_{method}")(step, stats, batches)
        found = jax.tree.map(np.asarray, refresh(a))["bn"]
        plain = points.evaluate(curves.line(a, b).at, TS, batches, metric)
        refreshed = points.evaluate(curves.line(a, b).at, TS, batches, metric, refresh)
    rtol = tolerance(mode, dtype) * 50  # 0.9 + 0.1: momenta are found by division
    parts = [np.float64(x[i][m]) @ np.float64(a["w"]) for i, m in enumerate(mask)]
    share = mask.sum(1) / mask.sum()
    inputs = np.concatenate(parts)
    mean, var = inputs.mean(0), inputs.var(0)
    if method == "cumulative":
        var = sum(s * part.var(0) for s, part in zip(share, parts, strict=True))
    np.testing.assert_allclose(found["mean"], mean, rtol, rtol * np.abs(inputs).max())
    np.testing.assert_allclose(found["var"], var, rtol)
    examples = np.float64(x[mask])
    for t, value, without in zip(TS, plain["value"], refreshed["value"], strict=True):
        w = (1 - t) * np.float64(a["w"]) + t * np.float64(b["w"])
        size = np.abs(examples @ w).max()
        np.testing.assert_allclose(
            value, (examples @ w).sum(-1).mean(), rtol, rtol * size
        )
        np.testing.assert_allclose(without, 0, atol=rtol * size * 10)


class Named(NamedTuple):
    w: Any
    none: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Held:
    w: Any
    none: Any = None


class Module(nnx.Module):
    def __init__(self, w):
        self.w = nnx.Param(jnp.asarray(w))


def equinox(w):
    eqx = pytest.importorskip("equinox")

    class Dense(eqx.Module):
        w: jax.Array
        none: Any = None

    return Dense(jnp.asarray(w))


CONTAINERS = {
    "dict": lambda w: {"w": w, "none": None},
    "tuple": lambda w: (w, None),
    "NamedTuple": Named,
    "dataclass": Held,
    "nnx.State": lambda w: nnx.state(Module(w)),
    "one leaf": lambda w: w,
}


@pytest.mark.parametrize("kind", [*CONTAINERS, "Equinox"])
def test_containers(kind):
    make = equinox if kind == "Equinox" else CONTAINERS[kind]
    w = [np.float32(value) for value in W]
    if kind == "Equinox":
        given = [make(w[0])]
        given += [jax.tree.map(lambda _, v=v: jnp.asarray(v), given[0]) for v in w[1:]]
    else:
        given = [make(value) for value in w]
    line = curves.line(*given[:2])
    (leaf,) = jax.tree.leaves(line.at(0.25))
    np.testing.assert_allclose(leaf, 0.75 * w[0] + 0.25 * w[1], 1e-6)
    assert jax.tree.structure(line.at(0.25)) == jax.tree.structure(given[0])
    expected = np.linalg.norm(np.float64(w[0]) - w[1])
    np.testing.assert_allclose(curves.distance(*given[:2]), expected, 1e-6)
    np.testing.assert_allclose(curves.length(line), expected, 1e-6)

    def value(params, _, batch):
        return {"v": jnp.square(batch["x"] @ jax.tree.leaves(params)[0]).sum(-1)}

    batches = {"x": X.astype(np.float32)}
    found = points.evaluate(line.at, TS, batches, value)["v"]
    for t, one in zip(TS, found, strict=True):
        at = (1 - t) * np.float64(w[0]) + t * np.float64(w[1])
        np.testing.assert_allclose(one, np.square(X @ at).sum(-1).mean(), 1e-5)


class Tensor:
    """An array of another framework, as PyTorch's: shape, dtype and `__array__`."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, f"other.{values.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize(
    "call", [curves.line, curves.distance, curves.midpoint, lambda *a: curves.bezier(a)]
)
def test_arrays_of_another_framework_are_named(call):
    a = {"layer": {"w": Tensor(W[0])}}
    with pytest.raises(TypeError, match=r"leaf 'layer/w' is a .*Tensor; give NumPy"):
        call(a, a)
    with pytest.raises((TypeError, ValueError), match="layer/w"):
        call({"layer": {"w": W[0]}}, a)
