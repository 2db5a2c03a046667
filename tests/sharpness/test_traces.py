"""Traces by group against dense linear algebra; the intervals' coverage."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from kd_heuristics import sharpness
from tests.sharpness import nets

KEY = jax.random.key(0)


def layer(name):
    return name.partition("/")[0]


def blocks(params, batch):
    """The true trace of each layer's block; leaves are in the order of the vector."""
    hessian, _ = nets.dense(nets.loss, params, batch)
    diagonal, found, start = np.diag(hessian), {}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        own = diagonal[start : start + leaf.size].sum()
        found[path[0].key] = found.get(path[0].key, 0.0) + own
        start += leaf.size
    return found


def test_intervals_cover_the_truth():
    params = nets.mlp(0, units=3, dtype=jnp.float32)
    batches = nets.batches(2, 32)
    whole = jax.tree.map(lambda leaf: leaf[0], nets.batches(1, 32))
    truth = blocks(params, whole)

    @jax.jit
    @jax.vmap
    def estimate(key):
        own = {"key": key, "num_samples": 20}
        by_layer = sharpness.trace(nets.loss, params, batches, group=layer, **own)
        return by_layer | sharpness.trace(nets.loss, params, batches, **own)

    found = estimate(jax.random.split(KEY, 100))
    assert [*found] == ["all", "hidden", "out"]
    width = scipy.stats.t.ppf(0.975, 19)
    for name, true in (truth | {"all": sum(truth.values())}).items():
        mean, error = map(np.asarray, found[name])
        covered = np.abs(mean - true) <= width * error
        # 90 of 100, as 95 % gives in 99 of 100 draws of the keys.
        assert covered.sum() >= 90, name
        assert (error > 0).all()
        assert error.mean() < true


def test_a_diagonal_hessian_has_no_error():
    def loss(params, batch):
        return sum((batch * leaf**2).sum() for leaf in params.values()) / 2

    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(1), "step": jnp.int32(1)}
    batches = np.float32([2.0, 4.0])
    found = sharpness.trace(
        lambda params, batch: loss({k: params[k] for k in "ab"}, batch),
        params,
        batches,
        key=KEY,
        group=lambda name: None if name == "b" else name,
        num_samples=3,
    )
    assert [*found] == ["a"]
    assert [float(value) for value in found["a"]] == [18.0, 0.0]
