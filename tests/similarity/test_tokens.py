"""Sequences with masks and heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 5, 2, 3)).astype(np.float32)
LENGTHS = 1 + np.arange(30) % 5
MASK = np.arange(5)[None] < LENGTHS[:, None]
# What padding holds must not count, whatever it is.
PADDED = np.where(MASK[:, :, None, None], X, np.nan)


def test_means_and_rows_of_what_counts():
    mean = similarity.tokens({"h": PADDED}, MASK)["h"]
    expected = [x[:n].mean(0).ravel() for x, n in zip(X, LENGTHS, strict=True)]
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    rows = similarity.tokens({"h": PADDED}, MASK, take="each")["h"]
    expected = [x[:n].reshape(n, 6) for x, n in zip(X, LENGTHS, strict=True)]
    np.testing.assert_array_equal(rows, np.concatenate(expected))
    traced = jax.jit(lambda x, m: similarity.tokens({"h": x}, m)["h"])(PADDED, MASK)
    np.testing.assert_allclose(traced, mean, atol=1e-6)
    slope = jax.grad(lambda x: similarity.tokens({"h": x}, MASK)["h"].sum())(
        jnp.asarray(PADDED)
    )
    assert np.isfinite(slope).all()


def test_heads_apart_are_layers_and_the_default_is_all_tokens():
    apart = similarity.tokens({"a": X, "b": X[:, :, 0]}, heads="apart")
    assert list(apart) == ["a/0", "a/1", "b"]
    np.testing.assert_allclose(apart["a/1"], X[:, :, 1].mean(1), atol=1e-6)
    found = similarity.matrix(apart, None, "cka")
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[0, 2], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (MASK[:, :4], {}, r"mask is bool \(30, 4\), acts\['h'\] wants bool \(30, 5\)"),
        (MASK.astype(int), {}, r"mask is int64 .* wants bool"),
        (MASK & (np.arange(30) != 3)[:, None], {}, "no token of example 3 .*0 more"),
        (np.zeros((30, 5), bool), {"take": "each"}, "mask leaves 0 tokens"),
        (MASK, {"take": "all"}, "unknown take 'all'.*alid: mean, each"),
        (MASK, {"heads": "mean"}, "unknown heads 'mean'.*alid: together, apart"),
    ],
)
def test_bad_masks_are_named(mask, options, message):
    with pytest.raises(ValueError, match=message):
        similarity.tokens({"h": X}, mask, **options)


def test_what_has_no_tokens_and_what_cannot_be_traced():
    with pytest.raises(ValueError, match=r"acts\['h'\] has shape \(30, 5\)"):
        similarity.tokens({"h": X[:, :, 0, 0]})
    with pytest.raises(ValueError, match="needs a mask that is not traced"):
        jax.jit(lambda m: similarity.tokens({"h": X}, m, take="each"))(MASK)
