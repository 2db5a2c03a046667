"""Planes through three networks against float64 NumPy and the paper's coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import landscape

AXES = ("pca", "gram_schmidt")


def tree(seed, scale=1.0):
    numbers = np.random.default_rng(seed)
    return {
        "kernel": jnp.asarray(numbers.normal(size=(30, 4)) * scale, jnp.float32),
        "half": jnp.asarray(numbers.normal(size=5) * scale, jnp.bfloat16),
        "complex": jnp.asarray(numbers.normal(size=2) + 1j, jnp.complex64),
        "step": jnp.int32(7),
        "key": jax.random.key(3),
    }


def flat(network):
    parts = (network["kernel"], network["half"], network["complex"])
    wide = [np.asarray(part).astype(complex).ravel() for part in parts]
    values = np.concatenate(wide)
    return np.concatenate([values.real, values.imag])


NETWORKS = [tree(seed) for seed in range(3)]
PLANES = {axes: landscape.plane(*NETWORKS, axes=axes) for axes in AXES}
OTHER = tree(9)


def oracle_axes(axes):
    """Origin and unit vectors, by singular vectors or Gram-Schmidt in NumPy."""
    a, b, c = rows = np.stack([flat(network) for network in NETWORKS])
    if axes == "gram_schmidt":
        u = (b - a) / np.linalg.norm(b - a)
        v = (c - a) - u * (u @ (c - a))
        return a, u, v / np.linalg.norm(v)
    mean = rows.mean(0)
    u, v = np.linalg.svd(rows - mean)[2][:2]
    return mean, u * np.sign(u @ (a - mean)), v * np.sign(v @ (c - mean))


def assert_same_bits(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("axes", AXES)
def test_anchors_are_exact_and_come_back_to_the_bit(axes):
    plane = PLANES[axes]
    origin, u, v = oracle_axes(axes)
    at = jax.jit(plane.at)
    for network, anchor in zip(NETWORKS, plane.anchors, strict=True):
        offset = flat(network) - origin
        # Both in float64.
        np.testing.assert_allclose(anchor, [u @ offset, v @ offset], atol=1e-12)
        assert_same_bits(plane.at(*anchor), network)
        assert_same_bits(at(*anchor), network)
        for method in ("affine", "span"):
            back = plane.project(network, method)
            assert [float(x) for x in back] == [np.float32(x) for x in anchor]
            assert_same_bits(plane.at(*back), network)


@pytest.mark.parametrize("axes", AXES)
def test_points_and_projection_equal_numpy(axes):
    plane = PLANES[axes]
    origin, u, v = oracle_axes(axes)
    for x, y in ((0.0, 0.0), (3.0, -4.5), tuple(plane.anchors[1] + [1e-3, 0])):
        expected = origin + x * u + y * v
        found = plane.at(x, y)
        assert found["half"].dtype == jnp.bfloat16
        assert found["step"] is NETWORKS[0]["step"]
        # float32 sums of values up to 10; bfloat16 has 8 bits.
        np.testing.assert_allclose(
            found["kernel"].ravel(), expected[:120], rtol=1e-5, atol=3e-6
        )
        np.testing.assert_allclose(
            np.asarray(found["half"], float), expected[120:125], rtol=2**-7, atol=1e-5
        )
    offset = flat(OTHER) - origin
    np.testing.assert_allclose(
        plane.project(OTHER), [u @ offset, v @ offset], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("axes", AXES)
def test_the_papers_projection_lets_the_weights_free(axes):
    plane = PLANES[axes]
    columns = np.stack([flat(network) for network in NETWORKS], axis=1)
    weights = np.linalg.lstsq(columns, flat(OTHER))[0]
    assert abs(weights.sum() - 1) > 0.1  # else it would be the affine one
    expected = weights @ plane.anchors
    found = plane.project(OTHER, "span")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    affine = plane.project(OTHER)
    assert np.abs(np.subtract(found, affine)).max() > 1e-2
    # A point of the plane has weights that sum to 1.
    plain = landscape.plane(*({"w": n["kernel"]} for n in NETWORKS), axes=axes)
    np.testing.assert_allclose(plain.project(plain.at(2, 1), "span"), [2, 1], rtol=1e-5)


@pytest.mark.parametrize("axes", AXES)
def test_project_inverts_at_under_jit_and_vmap(axes):
    plane = landscape.plane(*({"w": n["kernel"]} for n in NETWORKS), axes=axes)
    xs, ys = np.random.default_rng(0).normal(size=(2, 20)) * 8

    @jax.jit
    def there_and_back(plane, xs, ys):
        return jax.vmap(plane.project)(jax.vmap(plane.at)(xs, ys))

    # Each entry of a network is rounded by 6e-8 of its size, up to 10 here.
    np.testing.assert_allclose(
        there_and_back(plane, xs, ys), [xs, ys], rtol=1e-5, atol=1e-5
    )
    slopes = jax.jacfwd(lambda p: jnp.stack(plane.project(plane.at(*p))))(
        jnp.asarray(plane.anchors[1], jnp.float32)
    )
    np.testing.assert_allclose(slopes, np.eye(2), atol=1e-5)


def test_weights_sum_to_one_and_an_edge_is_not_taken_for_its_end():
    plane = PLANES["pca"]
    a, b, c = plane.anchors
    # a + (b - c) has weights 1, 1, -1: none of the networks alone.
    point = a + b - c
    np.testing.assert_allclose(plane.weights(*point), [1, 1, -1], atol=1e-5)
    kernels = [np.asarray(network["kernel"], float) for network in NETWORKS]
    np.testing.assert_allclose(
        plane.at(*point)["kernel"], kernels[0] + kernels[1] - kernels[2], atol=1e-5
    )


def test_the_papers_triangle():
    # Distances w70-w150 31.0, w70-theta 23.4 and w150-theta 22.4 (Gotmare et al. 2019,
    # Figure 3, read off) give the coordinates read off, to reading.
    long, left, right = 31.0, 23.4, 22.4
    x = (long**2 + left**2 - right**2) / (2 * long)
    corners = [(0, 0), (long, 0), (x, np.sqrt(left**2 - x**2))]
    plane = landscape.plane(*({"w": jnp.array(c, float)} for c in corners))
    expected = [(15.9, -5.15), (-15.1, -6.1), (-0.85, 11.2)]
    np.testing.assert_allclose(plane.anchors, expected, atol=0.15)


def test_small_steps_between_large_networks():
    base = np.random.default_rng(1).normal(size=10_000) * 100
    steps = np.random.default_rng(2).normal(size=(3, 10_000)) * 0.1
    three = [{"w": jnp.asarray(base + step, jnp.float32)} for step in steps]
    plane = landscape.plane(*three, axes="gram_schmidt")
    rows = np.stack([np.asarray(n["w"], np.float64) for n in three])
    np.testing.assert_allclose(
        plane.anchors[1, 0], np.linalg.norm(rows[1] - rows[0]), rtol=1e-12
    )
    # Entries of 100 are stored to 4e-6, of steps of 0.1; over 10^4 entries that is 4e-4
    # of a length of 10, of random sign.
    np.testing.assert_allclose(plane.project(plane.at(3.0, -2.0)), [3, -2], atol=1e-4)


W = {"w": jnp.array([1.0, 2.0, 3.0])}
V = {"w": jnp.array([1.0, 2.0, 4.0])}
THIRD = {"w": 0.3 * W["w"] + 0.7 * V["w"]}
DIFFERENT = {"w": jnp.array([0.0, 1.0, 0.0])}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: landscape.plane(W, V, THIRD), "lie on one line"),
        (lambda: landscape.plane(W, THIRD, V, axes="gram_schmidt"), "on one line"),
        (lambda: landscape.plane(W, W, V), "networks 0 and 1 are equal"),
        (lambda: landscape.plane(W, V, V), "networks 1 and 2 are equal"),
        (lambda: landscape.plane(W, V, W), "networks 0 and 2 are equal"),
        (lambda: landscape.plane(W, V, {"b": W["w"]}), "leaf 'w' is missing"),
        (lambda: landscape.plane(W, V, {"w": jnp.ones(2)}), r"leaf 'w' .* shape"),
        (
            lambda: landscape.plane(W, V, {"w": jnp.array([jnp.nan, 0, 1])}),
            "infinite or NaN",
        ),
        (
            lambda: landscape.plane(tree(0), tree(1), tree(2) | {"step": 8}),
            "leaf 'step'",
        ),
        (
            lambda: landscape.plane(
                tree(0), tree(1) | {"key": jax.random.key(4)}, tree(2)
            ),
            "leaf 'key'",
        ),
        (lambda: landscape.plane(W, V, DIFFERENT, axes="tsne"), "got 'tsne'"),
        (lambda: landscape.plane(W, V, DIFFERENT).project(V, "odd"), "got 'odd'"),
        (
            lambda: landscape.plane(W, V, DIFFERENT).project({"w": jnp.ones(2)}),
            "leaf 'w'",
        ),
        (
            lambda: landscape.plane(W, V, jax.tree.map(jnp.zeros_like, W)).project(
                V, "span"
            ),
            "passes through the zero network",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_collinear_networks_of_a_real_size_are_found():
    a, b = tree(0, 0.1), tree(1, 0.1)
    a, b = a | {"complex": b["complex"]}, b
    third = jax.tree.map(lambda x, y: x + 0.37 * (y - x), a["kernel"], b["kernel"])
    only = [{"w": a["kernel"]}, {"w": b["kernel"]}, {"w": third}]
    with pytest.raises(ValueError, match="lie on one line"):
        landscape.plane(*only)
    # A thousandth off the line is a plane.
    only[2] = {"w": third.at[0, 0].add(1e-3)}
    assert landscape.plane(*only).anchors.shape == (3, 2)
