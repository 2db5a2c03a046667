"""Batch by batch: the same values as in memory, merging, messages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kd_heuristics import similarity
from kd_heuristics.similarity import Accumulator
from tests.modes import enable_x64
from tests.similarity import oracles

N, BATCH = 96, 24


def layers(seed, offset=0.0):
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).normal(size=(2, N, 3))
    found = shared + rng.normal(size=shared.shape)
    # The mean differs from unit to unit, and drifts by half a spread over the data.
    found += offset * rng.normal(size=(2, 1, 3)) + 0.5 * np.linspace(0, 1, N)[:, None]
    return {"0_fc": np.float32(found[0]), "1_fc": np.float32(found[1])}


def batches(net, size=BATCH):
    return [
        {name: layer[start : start + size] for name, layer in net.items()}
        for start in range(0, N, size)
    ]


def accumulated(a, b, **options):
    acc = Accumulator.init(a, b, **options)
    for one, other in zip(batches(a), batches(b), strict=True):
        acc = acc.update(one, other)
    return acc


# A mean of 1,000 spreads, of which float32 keeps 4 digits of the deviations.
A, B = layers(1, 1000), layers(2, 1000)
WHOLE = accumulated(A, B, conv="mean", debiased=True)


@pytest.mark.parametrize(
    "options",
    [
        {"measure": "cca"},
        {"measure": "svcca"},
        {"measure": "pwcca"},
        {"measure": "cka"},
        {"measure": "cka", "debiased": True},
        {"measure": "google_cca"},
    ],
    ids=str,
)
def test_a_large_mean_costs_no_precision(options):
    streamed = WHOLE.result(**options)
    memory = similarity.matrix(A, B, **options)
    np.testing.assert_allclose(streamed, memory, atol=1e-5)
    if options == {"measure": "cca"}:
        exact = [
            [oracles.mean_cca(np.float64(x), np.float64(y)) for y in B.values()]
            for x in A.values()
        ]
        np.testing.assert_allclose(streamed, exact, atol=1e-5)


def test_spectra_of_maps_are_streamed():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(N, 4, 3, 2))
    x = np.float32(1000 + shared + rng.normal(size=shared.shape))
    # Maps that are flat hold frequency 0 alone: the rest is rounding.
    flat = np.broadcast_to(x[:, :1, :1], x.shape)
    y = np.float32(shared @ rng.normal(size=(2, 2)) + 0.5 * rng.normal(size=x.shape))
    acc = Accumulator.init({"0": x, "1": flat}, {"y": y})
    for start in range(0, N, BATCH):
        part = slice(start, start + BATCH)
        acc = acc.update({"0": x[part], "1": flat[part]}, {"y": y[part]})
    x, y = np.float64(x), np.float64(y)
    for measure, oracle in (("cca", oracles.mean_cca), ("pwcca", oracles.pwcca)):
        value = acc.result(measure)
        exact = oracles.over_frequencies(oracle, x, y)
        np.testing.assert_allclose(value[0, 0], exact, atol=1e-5)
        zeroth = oracle(x[:, 0, 0], y.mean((1, 2))) / 12
        np.testing.assert_allclose(value[1, 0], zeroth, atol=1e-5)


def test_debiased_cka_of_spectra_is_streamed_and_merged():
    rng = np.random.default_rng(7)
    shared = rng.normal(size=(N, 3, 4, 2))
    # A skewed map, far from 0: third moments and shifts count.
    x = np.float32(50 + np.exp(shared))
    y = np.float32(shared @ rng.normal(size=(2, 3)) + rng.normal(size=(N, 3, 4, 3)))
    a, b = {"0": x, "1": x[:, 0, 0]}, {"y": y}
    empty = Accumulator.init(a, b, debiased=True)
    first, second = empty, empty
    for index, start in enumerate(range(0, N, BATCH)):
        parts = (
            {k: v[start : start + BATCH] for k, v in net.items()} for net in (a, b)
        )
        if index % 3:
            first = first.update(*parts)
        else:
            second = second.update(*parts)
    value = first.merge(second).result("debiased_cka")

    def flat(of):
        spectrum = np.fft.fft2(np.float64(of), axes=(1, 2), norm="ortho")
        return np.moveaxis(spectrum, (1, 2), (0, 1)).reshape(-1, N, of.shape[-1])

    every = [unbiased_cka(*pair) for pair in zip(flat(x), flat(y), strict=True)]
    np.testing.assert_allclose(value[0, 0], np.mean(every), atol=1e-5)
    mean = unbiased_cka(x[:, 0, 0].astype(complex), y.mean((1, 2)).astype(complex))
    np.testing.assert_allclose(value[1, 0], mean, atol=1e-5)


def unbiased_cka(x, y):
    """From n x n matrices without their diagonals (Song et al. 2012, eq. 5)."""

    def hsic(k, m):
        k, m = (np.where(np.eye(N, dtype=bool), 0, g) for g in (k, m))
        total = np.trace(k @ m) + k.sum() * m.sum() / (N - 1) / (N - 2)
        return np.real(total - 2 * (k @ m).sum() / (N - 2))

    k, m = (z @ z.conj().T for z in (x - x.mean(0), y - y.mean(0)))
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_positions_are_examples():
    rng = np.random.default_rng(4)
    x = np.float32(rng.normal(size=(N, 2, 2, 2)) + 5)
    acc = Accumulator.init({"conv": x}, conv="positions")
    for batch in batches({"conv": x}):
        acc = acc.update(batch)
    memory = similarity.matrix({"conv": x}, measure="cka", conv="positions")
    np.testing.assert_allclose(acc.result("cka"), memory, atol=1e-5)


def repeated(acc, times):
    """The accumulator of the same examples, so many times each."""
    moments = acc.count, acc.side_a.own, acc.side_b.own, acc.pairs
    count, a, b, pairs = jax.tree.map(lambda leaf: leaf * times, moments)
    side_a = dataclasses.replace(acc.side_a, own=a)
    side_b = dataclasses.replace(acc.side_b, own=b)
    return dataclasses.replace(
        acc, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )


@pytest.mark.filterwarnings("error")  # a product that overflows is too few examples
@pytest.mark.parametrize("measure", ["cka", "cca"])
def test_more_positions_than_int32_counts(measure):
    rng = np.random.default_rng(4)
    drift = np.linspace(0, 3, N)[:, None, None, None]  # the halves' means differ
    x = np.float32(rng.normal(size=(N, 2, 2, 2)) + drift * [1, 0])
    y = np.float32(rng.normal(size=(N, 2, 2, 3)) + drift * [0, 1, 1])
    empty = Accumulator.init(x, y, conv="positions")
    halves = [
        repeated(empty.update(*part), 20_000_000)  # 3.8e9 positions each
        for part in zip(np.split(x, 2), np.split(y, 2), strict=True)
    ]
    memory = similarity.matrix({"": x}, {"": y}, measure, "positions")[0, 0]
    assert 0.1 < memory < 0.9
    found = halves[0].merge(halves[1]).result(measure)
    np.testing.assert_allclose(found, memory, atol=1e-5)


def test_merging_is_the_same_in_any_order_and_with_nothing():
    parts = [
        Accumulator.init(A, B, conv="mean", debiased=True).update(*pair)
        for pair in zip(batches(A), batches(B), strict=True)
    ]
    empty = Accumulator.init(A, B, conv="mean", debiased=True)
    merged = functools.reduce(Accumulator.merge, [*parts[::-1], empty], empty)
    assert merged.count == N
    for options in ({"measure": "cca"}, {"measure": "cka", "debiased": True}):
        value = merged.result(**options)
        np.testing.assert_allclose(value, WHOLE.result(**options), atol=1e-5)


def test_padding_rows_do_not_count():
    a, b = batches(A)[:2], batches(B)[:2]
    acc = Accumulator.init(A, B, conv="mean", debiased=True)
    mask = np.arange(BATCH) % 3 > 0
    for one, other in zip(a, b, strict=True):
        padded = {k: np.where(mask[:, None], x, np.nan) for k, x in one.items()}
        acc = acc.update(padded, other, mask)
    kept = [
        {k: np.concatenate([x[k][mask] for x in net]) for k in net[0]} for net in (a, b)
    ]
    assert acc.count == 2 * mask.sum()
    value = acc.result("cka", debiased=True)
    memory = similarity.matrix(*kept, "cka", debiased=True)
    np.testing.assert_allclose(value, memory, atol=1e-5)


def test_devices_merge_inside_shard_map():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def local(a, b):
        acc = Accumulator.init(a, b, conv="mean", debiased=True).update(a, b)
        return acc.merge_over("data")

    everywhere = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    acc = jax.jit(everywhere)(A, B)
    assert acc.count == N
    np.testing.assert_allclose(acc.result("cca"), WHOLE.result("cca"), atol=1e-5)


def test_batches_sharded_over_a_mesh_count_globally():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    acc = Accumulator.init(A, B, conv="mean", debiased=True)
    for one, other in zip(batches(A), batches(B), strict=True):
        acc = acc.update(*jax.device_put((one, other), rows))
    np.testing.assert_allclose(acc.result("cca"), WHOLE.result("cca"), atol=1e-5)


def test_memory_does_not_grow_with_the_examples():
    def sizes(acc):
        return [leaf.shape for leaf in jax.tree.leaves(acc)]

    empty = Accumulator.init(A, B, conv="mean", debiased=True)
    assert sizes(WHOLE) == sizes(empty)
    # Two layers a side of 3 units: 4 own and 4 pair matrices.
    assert sum(shape[1:] == (3, 3) for shape in sizes(empty)) == 3
    assert max(np.prod(shape) for shape in sizes(empty)) == 4 * 3 * 3


def test_traced_nan_reaches_the_result_of_its_layer():
    bad = A | {"1_fc": np.where(np.arange(3) == 1, np.nan, A["1_fc"])}

    @jax.jit
    def run(a, b):
        return Accumulator.init(a, b, conv="mean").update(a, b).result("cca")

    value = run(bad, B)
    np.testing.assert_array_equal(np.isnan(value), [[False, False], [True, True]])


def test_messages():
    acc = Accumulator.init(A, B, conv="mean")
    with pytest.raises(ValueError, match="at least 2 examples are needed, got 0"):
        acc.result("cca")
    bad = A | {"1_fc": np.where(np.arange(3) == 1, np.nan, A["1_fc"])}
    with pytest.raises(ValueError, match=r"^acts_a\['1_fc'\]: NaN or infinite"):
        acc.update(bad, B)
    with pytest.raises(ValueError, match=r"acts_a differs from what init was given"):
        acc.update({"0_fc": A["0_fc"]}, B)
    with pytest.raises(ValueError, match=r"acts_b\['0_fc'\] holds int64"):
        acc.update(A, {name: np.ones((N, 3), np.int64) for name in B})
    with pytest.raises(ValueError, match=r"has 96 examples and acts_a\['0_fc'\] 24"):
        acc.update(batches(A)[0], B)
    with pytest.raises(ValueError, match="give debiased=True"):
        acc.result("cka", debiased=True)
    with pytest.raises(ValueError, match="cannot merge"):
        acc.merge(Accumulator.init(A, B, conv="positions"))
    with pytest.raises(ValueError, match="complex"):
        Accumulator.init(np.ones((2, 3), np.complex64))


def test_too_few_examples_warn():
    acc = Accumulator.init(A, B, conv="mean", debiased=True)
    acc = acc.update(*({k: v[:5] for k, v in net.items()} for net in (A, B)))
    with pytest.warns(similarity.SaturationWarning, match="5 examples are too few"):
        acc.result("cca")


def test_float64_moments_see_weaker_directions():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(N, 3))
    x[:, 2] = x[:, 0] + 1e-5 * x[:, 2]
    assert Accumulator.init(np.float32(x)).update(np.float32(x)).result("cca") < 0.7
    with enable_x64(True):
        acc = Accumulator.init(np.float32(x), dtype=jnp.float64).update(x)
        np.testing.assert_allclose(acc.result("cca"), 1, atol=1e-5)
