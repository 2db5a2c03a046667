"""All layers against all layers: every entry, options, messages."""

import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kd_heuristics import similarity
from kd_heuristics.runtime import parallel
from kd_heuristics.similarity import comparing, positions, slots
from tests.similarity import oracles

N = 60


def networks():
    """Two networks of layers of many shapes that share directions."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(N, 4, 4, 3))
    conv = shared + 0.7 * rng.normal(size=shared.shape)
    flat = np.concatenate([shared.mean((1, 2)), rng.normal(size=(N, 2))], axis=1)
    small = oracles.area_mean(shared, (3, 2)) @ rng.normal(size=(3, 2))
    small += 0.3 * rng.normal(size=small.shape)
    a, b = (
        {"0_conv": conv, "1_fc": flat},
        {"0_pool": small, "1_fc": flat @ flat.T[:, :4]},
    )
    return [{k: np.float32(layer) for k, layer in net.items()} for net in (a, b)]


def plain(seed):
    """Two layers of one shape, which makes for a small program."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).normal(size=(2, N, 3))
    layers = np.float32(shared + rng.normal(size=shared.shape))
    return {"0_fc": layers[0], "1_fc": layers[1]}


A, B = networks()
P, Q = plain(1), plain(2)
ORACLES = {
    "cca": oracles.mean_cca,
    "svcca": oracles.svcca,
    "pwcca": oracles.pwcca,
    "cka": oracles.cka,
    "google_cca": oracles.google_mean,
}


def as_maps(x):
    return x.astype(np.float64).reshape(len(x), *(x.shape[1:-1] or (1, 1)), -1)


def expected(measure, conv, x, y):
    """One entry, the long way round."""
    x, y = as_maps(x), as_maps(y)
    if conv == "dft":
        return oracles.over_frequencies(ORACLES[measure], x, y)
    size = (1, 1) if conv == "mean" else np.minimum(x.shape[1:3], y.shape[1:3])
    flat = [oracles.area_mean(z, size).reshape(-1, z.shape[-1]) for z in (x, y)]
    return ORACLES[measure](*flat)


@pytest.mark.parametrize(
    ("measure", "conv"),
    [
        ("cca", "dft"),
        ("pwcca", "dft"),
        ("cka", "dft"),
        ("google_cca", "dft"),
        ("svcca", "positions"),
        ("pwcca", "mean"),
    ],
)
def test_every_entry_is_that_of_its_two_layers(measure, conv):
    value = similarity.matrix(A, B, measure, conv)
    for (i, x), (j, y) in itertools.product(
        enumerate(A.values()), enumerate(B.values())
    ):
        # float32 on well-conditioned data.
        np.testing.assert_allclose(
            value[i, j], expected(measure, conv, x, y), atol=1e-4, err_msg=f"{i}, {j}"
        )


RNG = np.random.default_rng(5)
SHARED = RNG.normal(size=(200, 3, 2, 2))
KINDS = {  # a map, a sequence far from 0, and units
    "0_map": np.float32(SHARED + RNG.normal(size=SHARED.shape)),
    "1_tokens": np.float32(
        100 + SHARED.reshape(200, 6, 2) + RNG.normal(size=(200, 6, 2))
    ),
    "2_units": np.float32(SHARED.mean((1, 2)) + RNG.normal(size=(200, 2))),
}
SEEN = {"0_map": "dft", "1_tokens": "mean", "2_units": "none"}


def test_auto_is_chosen_by_what_an_axis_is():
    assert similarity.treatments(KINDS) == SEEN
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in KINDS.items()}
    assert similarity.treatments(shapes, "auto") == SEEN
    for conv in ("dft", "positions", "mean"):
        named = {"0_map": conv, "1_tokens": conv, "2_units": "none"}
        assert similarity.treatments(KINDS, conv) == named
    with pytest.raises(ValueError, match="unknown treatment of layers with positions"):
        similarity.treatments(KINDS, "tokens")
    with pytest.raises(ValueError, match=r"acts\['x'\] has shape \(3,\)"):
        similarity.treatments({"x": np.ones(3)})


@pytest.mark.parametrize("measure", ["cca", "cka"])
def test_auto_takes_frequencies_of_maps_and_means_of_sequences(measure):
    value = similarity.matrix(KINDS, None, measure)
    seen = KINDS | {"1_tokens": KINDS["1_tokens"].astype(np.float64).mean(1)}
    for (i, x), (j, y) in itertools.product(enumerate(seen.values()), repeat=2):
        np.testing.assert_allclose(
            value[i, j], expected(measure, "dft", x, y), atol=1e-4, err_msg=f"{i}, {j}"
        )
    acc = similarity.Accumulator.init(KINDS)
    for part in (slice(0, 120), slice(120, None)):
        acc = acc.update({name: layer[part] for name, layer in KINDS.items()})
    np.testing.assert_allclose(acc.result(measure), value, atol=1e-4)
    streamed = similarity.stream_matrix(dict, None, KINDS, measure, batch_size=64)
    np.testing.assert_allclose(streamed, value, atol=1e-4)
    key = jax.random.key(0)
    tested = similarity.permutation_test(KINDS, None, measure, 19, key=key)
    np.testing.assert_allclose(tested.value, value, atol=1e-5)
    # Maps by themselves: what "dft" gives, to the bit.
    maps = {name: KINDS[name] for name in ("0_map", "2_units")}
    same = (similarity.matrix(maps, None, measure, conv) for conv in ("auto", "dft"))
    np.testing.assert_array_equal(*same)


def test_dft_cca_is_the_entry_of_the_map():
    whole = similarity.matrix(A, B, "cca", "dft")
    one = similarity.dft_cca(A["0_conv"], B["0_pool"])
    np.testing.assert_allclose(one, whole[0, 0], atol=1e-6)
    # Circular shifts turn the phases of all channels alike.
    moved = np.roll(A["0_conv"], (1, 2), (1, 2))
    shifted = similarity.dft_cca(moved, B["0_pool"])
    np.testing.assert_allclose(shifted, one, atol=1e-5)


def test_many_shapes_in_one_program():
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(300, 4))
    layers = {
        f"{w:02d}": latent @ rng.normal(size=(4, w)) + rng.normal(size=(300, w))
        for w in (1, 7, 20)
    }
    value = similarity.matrix(layers, measure="cca")
    rows = [[oracles.mean_cca(x, y) for y in layers.values()] for x in layers.values()]
    np.testing.assert_allclose(value, rows, atol=1e-4)


def test_each_layer_is_prepared_once_and_equal_shapes_together():
    shapes = tuple((1, 512) for _ in range(16))
    layout = slots.make(shapes, shapes[:9], "dft")
    # 16 + 9 layers in one stack a side, 144 pairs in one.
    (one,), (other,) = layout.groups_a, layout.groups_b
    assert [len(one.layers), len(other.layers)] == [16, 9]
    assert [len(group.slot_a) for group in layout.pair_groups] == [16 * 9]
    maps = slots.make(((1, 4, 4, 8), (1, 2, 2, 8)), None, "dft")
    # The larger map's spectrum serves at the smaller one's frequencies too.
    large, small = (set(positions.half_spectrum((k, k))) for k in (4, 2))
    assert len(maps.groups_a[0].layers) == len(large | small) + len(small)


def test_mirrored_upper_triangle_is_an_option():
    full = np.asarray(similarity.matrix(P, Q, "pwcca"))
    mirrored = np.asarray(similarity.matrix(P, Q, "pwcca", mirror=True))
    upper = np.triu_indices(2)
    np.testing.assert_allclose(mirrored[upper], full[upper], atol=1e-6)
    np.testing.assert_array_equal(mirrored, mirrored.T)
    assert abs(full - full.T).max() > 1e-3
    one = {"0_fc": Q["0_fc"]}
    with pytest.raises(ValueError, match="equal numbers of layers, got 2 and 1"):
        similarity.matrix(P, one, "pwcca", mirror=True)


def test_checkpoints_against_checkpoints():
    run = [P, Q, plain(3)]
    whole = similarity.matrix(run, [Q, P], "cka")
    assert whole.shape == (3, 2, 2, 2)
    for t, s in ((0, 0), (2, 0), (2, 1)):
        one = similarity.matrix(run[t], (Q, P)[s], "cka")
        np.testing.assert_allclose(whole[t, s], one, atol=1e-6)
    mixed = jax.eval_shape(lambda a, b: similarity.matrix(a, b, "cka"), run, P)
    assert mixed.shape == (3, 2, 2)
    itself = similarity.matrix([P, Q], measure="cka")
    one = similarity.matrix(P, Q, "cka")
    np.testing.assert_allclose(itself[0, 1], one, atol=1e-6)
    np.testing.assert_allclose(itself[1, 0], one.T, atol=1e-6)
    mirrored = similarity.matrix([P, Q], measure="cka", mirror=True)
    np.testing.assert_allclose(jnp.triu(mirrored), jnp.triu(itself), atol=1e-6)


def test_a_network_against_itself_is_half_the_work_and_the_same():
    itself = similarity.matrix(P, measure="cca")
    np.testing.assert_allclose(jnp.diagonal(itself), 1, atol=1e-5)
    np.testing.assert_array_equal(itself, itself.T)
    again = similarity.matrix(P, {**P}, "cca")
    np.testing.assert_allclose(itself, again, atol=1e-5)


def test_jit_vmap_grad_and_a_mesh_give_the_same():
    expected = similarity.matrix(P, Q, "cca")

    def both(a, b):
        return similarity.matrix(a, b, "cca"), jax.grad(
            lambda a: similarity.matrix(a, b, "cca").sum()
        )(a)

    stacked = [jax.tree.map(lambda x: np.stack([x, 2 * x]), net) for net in (P, Q)]
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec(None, "data"))
    value, slope = jax.jit(jax.vmap(both))(*jax.device_put(stacked, rows))
    for found in value:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for leaf in slope.values():
        assert np.isfinite(leaf).all()
        # Twice the activations: half the derivative.
        np.testing.assert_allclose(leaf[0], 2 * leaf[1], atol=1e-5)
        assert leaf.any()


@pytest.mark.parametrize("measure", ["svcca", "pwcca", "cka"])
def test_devices_that_share_the_layers_out_find_the_same(measure):
    mesh = parallel.mesh(4)
    nets = parallel.replicate((P, Q), mesh)
    value = similarity.matrix(*nets, measure, mesh=mesh)
    np.testing.assert_allclose(value, similarity.matrix(P, Q, measure), atol=1e-6)
    assert value.is_fully_replicated


@pytest.mark.parametrize(("count", "part"), [(1, 1), (5, 2), (8, 2)])
def test_each_device_has_its_part_of_the_layers(count, part):
    parts = []

    def function(item):
        return item["x"].sum() + item["y"]

    def counted(items):
        parts.append(len(items["x"]))
        return jax.vmap(function)(items)

    items = {"x": jnp.ones((count, 3)), "y": jnp.arange(float(count))}
    mesh = parallel.mesh(4) if count > 1 else None
    found = jax.jit(lambda items: parallel.by_parts(counted, items, mesh))(items)
    np.testing.assert_array_equal(found, 3 + np.arange(count))
    assert parts == [part]
    mapped = comparing.mapped(function, items, 2**22, mesh=parallel.mesh(4))
    np.testing.assert_array_equal(mapped, 3 + np.arange(count))


def test_traced_nan_stays_with_its_layer():
    bad = P | {"1_fc": np.where(np.arange(3) == 1, np.nan, P["1_fc"])}
    value = jax.jit(lambda a: similarity.matrix(a, Q, "cca"))(bad)
    np.testing.assert_array_equal(np.isnan(value), [[False, False], [True, True]])


def test_messages_name_the_layer():
    bad = P | {"1_fc": np.where(np.arange(3) == 1, np.inf, P["1_fc"])}
    with pytest.raises(ValueError, match=r"^acts_a\['1_fc'\]: NaN or infinite"):
        similarity.matrix(bad, Q, "cca")
    short = Q | {"1_fc": Q["1_fc"][:50]}
    message = r"acts_b\['1_fc'\] has 50 examples and acts_a\['0_fc'\] 60"
    with pytest.raises(ValueError, match=message):
        similarity.matrix(P, short)
    with pytest.raises(ValueError, match=r"acts_a\['0_fc'\] holds uint8"):
        similarity.matrix(P | {"0_fc": np.zeros((N, 3), np.uint8)}, Q)
    with pytest.raises(ValueError, match=r"acts_a\[1\] has other layers"):
        similarity.matrix([P, {"0_fc": P["0_fc"]}], Q)
    with pytest.raises(ValueError, match="acts_a holds no checkpoint"):
        similarity.matrix([])
    with pytest.raises(ValueError, match="acts_a holds no layer"):
        similarity.matrix({}, Q)
    with pytest.raises(ValueError, match="'ckaa'; did you mean 'cka'"):
        similarity.matrix(P, Q, "ckaa")
    with pytest.raises(ValueError, match="'position'; did you mean 'positions'"):
        similarity.matrix(P, Q, "cca", "position")


def test_too_few_examples_name_the_worst_pair():
    rng = np.random.default_rng(5)
    a = {"narrow": rng.normal(size=(20, 3)), "wide": rng.normal(size=(20, 12))}
    message = r"20 examples are too few for acts_a\['wide'\] .12 directions. against "
    message += r"acts_b\['wide'\] .12.*at least 5 correlations are 1"
    with pytest.warns(similarity.SaturationWarning, match=message):
        value = similarity.matrix(a, {**a}, "cca")
    assert np.isfinite(value).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        similarity.matrix(a, measure="cka")


def test_every_platform_lowers_it():
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (A, B))

    def everything(a, b):
        return jax.grad(lambda a: similarity.matrix(a, b, "pwcca", "dft").sum())(a)

    exported = jax.export.export(jax.jit(everything), platforms=["cuda", "tpu"])
    text = exported(*shapes).mlir_module()
    assert "lapack" not in text
    assert re.search(r"cusolver|cu_sol|syev|gesv|Eigh|qdwh|ProductOfElementary", text)
