"""Streaming over a data set: each example once, in blocks of the map, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from kd_heuristics.runtime import parallel
from kd_heuristics.similarity import over_data

IMAGES = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def test_streaming_counts_every_example_once():
    ours, theirs = jnp.ones((6, 3)) + jnp.eye(6, 3), jnp.arange(12.0).reshape(6, 2) % 5

    def features(weights, images):
        return {"tanh": jnp.tanh(images @ weights), "raw": images @ weights}

    a, b = (similarity.capture(features, weights) for weights in (ours, theirs))
    # 50 examples: the last batch of 16 overlaps the one before.
    acc = similarity.stream(a, b, IMAGES, batch_size=16, conv="mean")
    assert acc.count == 50
    # A compiled dictionary is sorted.
    assert acc.names_a == ("raw", "tanh")
    memory = similarity.matrix(*(jax.jit(net)(IMAGES) for net in (a, b)), "cka")
    np.testing.assert_allclose(acc.result("cka"), memory, atol=1e-5)
    itself = similarity.stream(a, None, IMAGES, batch_size=64, conv="mean")
    assert itself.count == 50
    np.testing.assert_allclose(jnp.diagonal(itself.result("cka")), 1, atol=1e-5)


def test_a_map_in_blocks_is_the_map(monkeypatch):
    rng = np.random.default_rng(1)
    weights = [jnp.asarray(rng.normal(size=(6, k)), jnp.float32) for k in (5, 4)]

    def features(images):
        return {f"{i}": jnp.tanh(images @ w) for i, w in enumerate(weights)}

    def other(images):
        return {"only": images[:, :4]}

    passes = []
    whole = over_data.stream

    def counted(*args, **options):
        passes.append(1)
        return whole(*args, **options)

    monkeypatch.setattr(over_data, "stream", counted)
    memory = similarity.matrix(features(IMAGES), other(IMAGES), "cka")
    assert abs(memory[0] - memory[1]).max() > 0.01
    for limit, count in ((2**31, 1), (1, 3)):
        value = similarity.stream_matrix(
            features, other, IMAGES, "cka", conv="mean", max_bytes=limit
        )
        np.testing.assert_allclose(value, memory, atol=1e-5)
        assert len(passes) == count


def test_devices_that_share_examples_and_layers_out_find_the_same():
    weights = [jnp.eye(6, k) + 0.1 * jnp.arange(k)[None] for k in (5, 5, 4)]

    def features(images):
        return {f"{i}": jnp.tanh(images @ w) for i, w in enumerate(weights)}

    mesh = parallel.mesh(4)
    images = parallel.replicate(jnp.asarray(IMAGES), mesh)
    how = {"batch_size": 16, "conv": "mean"}
    found = similarity.stream_matrix(features, None, images, "cca", mesh=mesh, **how)
    alone = similarity.stream_matrix(features, None, IMAGES, "cca", **how)
    np.testing.assert_allclose(found, alone, atol=2e-6)
    # 4 devices do not divide 50 examples.
    found = similarity.stream_matrix(
        features, None, images, "cca", mesh=mesh, conv="mean"
    )
    np.testing.assert_allclose(found, alone, atol=2e-6)


@pytest.mark.parametrize("limit", [1, 7, 40, 1000])
def test_blocks_cover_the_map_once(limit):
    sizes = np.random.default_rng(2).integers(1, 9, size=(7, 5))

    def size(rows, columns):
        return sizes[rows, columns].sum()

    seen = np.zeros_like(sizes)
    for block in over_data._blocks(size, limit, slice(0, 7), slice(0, 5)):
        seen[block] += 1
        assert size(*block) <= limit or seen[block].size == 1
    np.testing.assert_array_equal(seen, 1)


def test_streaming_says_what_is_wrong():
    def features(images):
        return {"twice": 2 * images}

    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        similarity.stream(features, None, IMAGES, batch_size=0)
    with pytest.raises(ValueError, match=r"images must be arrays.*got \[3, 50\]"):
        similarity.stream(features, None, (IMAGES, IMAGES[:3]))
    bad = np.where(np.arange(6) == 2, np.nan, IMAGES)
    acc = similarity.stream(features, None, bad, batch_size=16)
    with pytest.raises(ValueError, match=r"^acts_a\['twice'\]: NaN or infinite"):
        acc.result("cka")


TOKENS = np.random.default_rng(3).integers(0, 9, (30, 5))
MASK = np.arange(5)[None] < (1 + np.arange(30) % 5)[:, None]


def token_layers(weights, seen):
    hidden = jnp.tanh(weights[seen])
    return {"0_all": hidden, "1_first": hidden[:, 0]}


def test_streaming_leaves_padding_out():
    nets = [np.random.default_rng(i).normal(size=(9, 4)) for i in range(2)]
    a, b = (similarity.capture(token_layers, jnp.float32(net)) for net in nets)
    # Each sequence by itself, without padding.
    rows = []
    for net in nets:
        hidden = [np.tanh(net[row[m]]) for row, m in zip(TOKENS, MASK, strict=True)]
        layers = {"all": [x.mean(0) for x in hidden], "first": [x[0] for x in hidden]}
        rows.append({k: np.float32(np.stack(x)) for k, x in layers.items()})
    expected = similarity.matrix(*rows, "cka")
    how = {"batch_size": 16, "mask": MASK}
    found = similarity.stream_matrix(a, b, TOKENS, "cka", max_bytes=1, **how)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(similarity.stream_matrix(a, b, TOKENS, "cka") - expected).max() > 0.02
    # B sees the same sequences with the padding in front.
    both = {"a": TOKENS, "b": TOKENS[:, ::-1]}
    a, b = (
        similarity.capture(lambda net, x, s=side: {"all": jnp.tanh(net[x[s]])}, net)
        for side, net in zip("ab", map(jnp.float32, nets), strict=True)
    )
    found = similarity.stream(a, b, both, mask=(MASK, MASK[:, ::-1])).result("cka")
    np.testing.assert_allclose(found[0, 0], expected[0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK[:29], r"mask is bool \(29, 5\); wanted bool \[30, tokens\]"),
        (MASK.astype(int), r"mask is int64 \(30, 5\); wanted bool"),
        (MASK[:, :4], r"mask is bool \(30, 4\), acts\['0_all'\] wants bool \(30, 5\)"),
        (MASK & (np.arange(30) != 3)[:, None], "no token of example 3 .*0 more"),
        ((MASK, MASK, MASK), "a pair of them for two networks, got 3"),
        ((MASK, ~MASK), "a pair of them for two networks, got 2 for 1"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(mask, message):
    features = similarity.capture(token_layers, jnp.ones((9, 4)))
    with pytest.raises(ValueError, match=message):
        similarity.stream(features, None, TOKENS, mask=mask)
