"""FSP against a matrix by hand, float64 loops, and what others compute instead."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick

STUDENT, TEACHER = oracles.pairs(0), oracles.pairs(1)
# Sums of up to 24 float32 products, each within 1e-7 of its size.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}

fsp_matrix = quick(distill.fsp_matrix, static_argnames=("pool", "windows"))
fsp_matrices = quick(distill.fsp_matrices)
fsp_loss = quick(distill.fsp_loss, static_argnames=("reduction", "pool"))
fsp_distance = quick(distill.fsp_distance)
shuffled = quick(distill.shuffled)

# h = w = 2 and m = 2 against n = 1; by hand:
# G[0, 0] = (1*1 + 2*0 + 0*3 - 1*2) / 4, G[1, 0] = (0*1 + 1*0 + 1*3 + 2*2) / 4
F1 = np.float32([[[[1, 0], [2, 1]], [[0, 1], [-1, 2]]]])
F2 = np.float32([[[[1], [0]], [[3], [2]]]])
BY_HAND = [[[-0.25], [1.75]]]


def test_a_matrix_by_hand():
    assert fsp_matrix(F1, F2).tolist() == BY_HAND
    # Each entry of the larger map twice or not the largest: pooling finds F2.
    larger = np.repeat(np.repeat(F2, 2, 1), 3, 2)
    larger[:, ::2, ::3] -= 5
    assert fsp_matrix(F1, larger).tolist() == BY_HAND
    # (-0.25 - 1)^2 + (1.75 - 1)^2: squares, summed; not their mean, not their root.
    found = fsp_distance([np.float32(BY_HAND)], [np.ones((1, 2, 1))])
    assert found.tolist() == [2.125]


@pytest.mark.parametrize(
    "sizes",
    [((4, 4), (4, 4)), ((8, 4), (2, 4)), ((3, 3), (9, 6)), ((4, 2), (2, 4))],
)
def test_matrices_of_any_two_sizes(sizes):
    rng = np.random.default_rng(0)
    f1, f2 = (
        rng.normal(size=(2, *size, c)).astype(np.float32)
        for size, c in zip(sizes, (3, 5), strict=True)
    )
    found = fsp_matrix(f1, f2)
    assert found.shape == (2, 3, 5)
    np.testing.assert_allclose(found, oracles.fsp_matrix(f1, f2), **CLOSE)


def adaptive(maps, size, pool):
    """Pools windows that cover the map, as the docstring says, window by window."""
    maps, (h, w) = np.float64(maps), size
    out = np.empty((len(maps), h, w, maps.shape[-1]))
    rows, columns = maps.shape[1:3]
    for i in range(h):
        for j in range(w):
            top, bottom = i * rows // h, math.ceil((i + 1) * rows / h)
            left, right = j * columns // w, math.ceil((j + 1) * columns / w)
            out[:, i, j] = pool(maps[:, top:bottom, left:right], (1, 2))
    return out


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize(
    "sizes",
    [((33, 33), (17, 17)), ((30, 15), (7, 4)), ((33, 30), (30, 33)), ((8, 4), (2, 4))],
)
def test_adaptive_windows_pool_maps_that_do_not_halve(sizes, pool):
    rng = np.random.default_rng(0)
    maps = [
        rng.normal(size=(2, *size, c)).astype(np.float32)
        for size, c in zip(sizes, (2, 3), strict=True)
    ]
    small = np.minimum(*sizes)
    pooled = [adaptive(x, small, getattr(np, pool)) for x in maps]
    found = fsp_matrix(*maps, pool=pool, windows="adaptive")
    np.testing.assert_allclose(found, oracles.fsp_matrix(*pooled), **CLOSE)
    if sizes[0] == (8, 4):  # where tiles fit, they are these windows, to the bit
        np.testing.assert_array_equal(found, fsp_matrix(*maps, pool=pool))
    else:
        with pytest.raises(ValueError, match=r"no multiple of .*windows='adaptive'"):
            distill.fsp_matrix(*maps, pool=pool)


def test_adaptive_windows_reach_the_loss():
    rng = np.random.default_rng(0)
    one, two = ([rng.normal(size=(1, n, n, 2)) for n in (9, 5)] for _ in range(2))
    one, two = ([np.float32(x) for x in pair] for pair in (one, two))
    found = distill.fsp_loss([one], [two], windows="adaptive")
    matrices = [
        oracles.fsp_matrix(adaptive(first, (5, 5), np.max), second)
        for first, second in (one, two)
    ]
    expected = ((matrices[0] - matrices[1]) ** 2).sum((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_loss_is_the_papers_sum():
    found = fsp_loss(STUDENT, TEACHER)
    expected = oracles.fsp_loss(STUDENT, TEACHER)
    assert found.shape == (oracles.BATCH,)
    np.testing.assert_allclose(found, expected, **CLOSE)
    weighted = fsp_loss(STUDENT, TEACHER, weights=[0.5, 2.0])
    expected = oracles.fsp_loss(STUDENT, TEACHER, [0.5, 2.0])
    np.testing.assert_allclose(weighted, expected, **CLOSE)
    tripled = fsp_loss(STUDENT, TEACHER, weights=3.0)
    np.testing.assert_allclose(tripled, 3 * found, **CLOSE)


def test_gradient_is_that_of_the_formula():
    # With f2 fixed and no pooling the loss is quadratic in f1:
    # dL/df1[s, t, i] = 2 / (h w) * sum_j (G_s - G_t)[i, j] f2[s, t, j].
    (f1, f2), teacher = STUDENT[0], TEACHER[0]
    difference = oracles.fsp_matrix(f1, f2) - oracles.fsp_matrix(*teacher)
    expected = 2 / 16 * np.einsum("bij,bstj->bsti", difference, f2)
    found = quick(jax.grad(lambda f: distill.fsp_loss([(f, f2)], [teacher]).sum()))(f1)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_a_teacher_with_other_map_sizes_and_stored_matrices():
    rng = np.random.default_rng(2)
    teacher = [
        tuple(rng.normal(size=(oracles.BATCH, 8, 8, c)).astype(np.float32) for c in cs)
        for cs in ((2, 3), (3, 5))
    ]
    found = fsp_loss(STUDENT, teacher)
    np.testing.assert_allclose(found, oracles.fsp_loss(STUDENT, teacher), **CLOSE)
    stored = fsp_matrices(teacher)
    assert [matrix.shape for matrix in stored] == [(5, 2, 3), (5, 3, 5)]
    again = fsp_distance(fsp_matrices(STUDENT), stored)
    np.testing.assert_array_equal(again, found)


def test_other_reductions_by_name():
    students, teachers = (
        [oracles.fsp_matrix(*pair) for pair in pairs] for pairs in (STUDENT, TEACHER)
    )
    differences = [s - t for s, t in zip(students, teachers, strict=True)]
    for reduction, expected in {
        "mean": sum((d**2).mean((1, 2)) for d in differences),
        "column_norms": sum(np.linalg.norm(d, axis=1).sum(-1) for d in differences),
    }.items():
        found = fsp_loss(STUDENT, TEACHER, reduction=reduction)
        np.testing.assert_allclose(found, expected, **CLOSE)


def test_mean_pooling_by_name():
    f1, f2 = STUDENT[1]
    pooled = np.float64(f1).reshape(5, 2, 2, 2, 3, 3).mean((2, 4))
    found = fsp_matrix(f1, f2, pool="mean")
    np.testing.assert_allclose(found, oracles.fsp_matrix(pooled, f2), **CLOSE)


def test_column_norms_of_equal_matrices_have_a_gradient():
    def loss(f1):
        pairs = [(f1, STUDENT[0][1])]
        return distill.fsp_loss(pairs, [STUDENT[0]], reduction="column_norms").sum()

    assert not quick(jax.grad(loss))(STUDENT[0][0]).any()


def test_bfloat16_maps_are_summed_in_float32():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(1, 32, 32, 4)).astype(jnp.bfloat16) for _ in range(2)]
    found = fsp_matrix(*maps)
    assert found.dtype == jnp.float32
    # Products of bfloat16 are exact in float32; a bfloat16 sum would be 4e-3 off.
    np.testing.assert_allclose(found, oracles.fsp_matrix(*maps), atol=1e-5)


def test_products_are_not_rounded_on_accelerators():
    # Their default precision rounds float32 factors; a CPU has no such difference.
    assert "HIGHEST" in str(jax.make_jaxpr(distill.fsp_matrix)(F1, F2))


def test_shuffling_permutes_what_it_says_and_keeps_the_set_of_entries():
    matrices = fsp_matrices(TEACHER[:1])
    orders = distill.channel_orders(jax.random.key(0), matrices)
    found = shuffled(matrices, orders)
    for matrix, (rows, columns), out in zip(matrices, orders, found, strict=True):
        np.testing.assert_array_equal(
            out, np.asarray(matrix)[:, rows][:, :, np.asarray(columns)]
        )
        assert sorted(out.ravel().tolist()) == sorted(matrix.ravel().tolist())
    # The teacher with its channels in that order has these very matrices.
    (rows, columns), (f1, f2) = orders[0], TEACHER[0]
    moved = fsp_matrix(f1[..., rows], f2[..., columns])
    np.testing.assert_allclose(moved, found[0], **CLOSE)


def test_each_student_has_its_own_order_and_keeps_it():
    shapes = [jax.ShapeDtypeStruct((1, 16, 32), "float32")] * 2
    drawn = [
        np.concatenate([np.concatenate(pair) for pair in orders])
        for key in (0, 0, 1)
        for orders in [distill.channel_orders(jax.random.key(key), shapes)]
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(drawn[0] != drawn[2])
    assert np.any(drawn[0][:48] != drawn[0][48:])


def without(pairs, position):
    return [pair for index, pair in enumerate(pairs) if index != position]


MAP = np.zeros((5, 4, 4, 2), np.float32)
BAD = [
    (distill.fsp_matrix, (MAP, MAP[:, :3]), r"4x4 and 3x4.*4 is no multiple of 3"),
    (distill.fsp_matrix, (MAP, MAP[0]), r"f2 has shape \(4, 4, 2\); wanted"),
    (distill.fsp_matrix, (MAP, MAP[:4]), r"5 examples and f2 4"),
    (distill.fsp_matrix, (MAP[:, :0], MAP), r"f1 has shape \(5, 0, 4, 2\)"),
    (distill.fsp_matrix, (MAP, MAP.astype(int)), r"f2 holds int32"),
    (distill.fsp_matrices, ([],), r"at least one"),
    (distill.fsp_matrices, ([(MAP, MAP), (MAP, MAP[0])],), r"pair 1: f2 has shape"),
    (distill.fsp_loss, (STUDENT, without(TEACHER, 1)), r"has 2 pairs.*teacher 1"),
    (
        distill.fsp_loss,
        (STUDENT, TEACHER[::-1]),
        r"pair 0 must have one shape, got \(5, 2, 3\) and \(5, 3, 5\).*channels",
    ),
    (distill.fsp_distance, ([], []), r"0 pairs"),
    (distill.fsp_distance, ([MAP], [MAP]), r"pair 0 have shape \(5, 4, 4, 2\); wanted"),
    (
        distill.shuffled,
        ([np.zeros((1, 2, 3))], [(np.arange(3), np.arange(2))]),
        r"matrix 0 has shape \(1, 2, 3\)",
    ),
    (distill.shuffled, ([np.zeros((1, 2, 3))], []), r"1 matrices have 0 orders"),
]


@pytest.mark.parametrize(("function", "arguments", "words"), BAD)
def test_what_is_wrong_is_said(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "men"}, r"unknown reduction 'men'; did you mean 'mean'"),
        ({"pool": "avg"}, r"unknown pool 'avg'"),
        ({"windows": "adaptve"}, r"unknown windows 'adaptve'; did you mean 'adaptive'"),
        ({"weights": [1.0]}, r"1 for 2 pairs"),
        ({"weights": [1.0, -2.0]}, r"weights\[1\] must be at least 0.*-2"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(options, words):
    with pytest.raises(ValueError, match=words):
        distill.fsp_loss(STUDENT, TEACHER, **options)


def test_the_slope_of_a_pooled_maximum_survives_rounding():
    """Unoptimised, XLA computes the pooled map twice, and not to the same bits."""
    random = np.random.default_rng(0)
    images, scale, shift, taught = (
        jnp.asarray(random.normal(size=shape), jnp.float32)
        for shape in ((4, 8, 8, 3), (3,), (3,), (4, 4, 4, 3))
    )

    def loss(scale, shift):
        centred = images - images.mean((0, 1, 2), keepdims=True)
        variance = jnp.square(centred).mean((0, 1, 2), keepdims=True)
        large = centred * jax.lax.rsqrt(variance + 1e-5) * scale + shift
        large = jax.nn.relu(large.reshape(images.shape))
        return distill.fsp_loss(
            [(large, large[:, ::2, ::2] / 2)], [(taught, taught)]
        ).mean()

    scale, shift = (value.reshape(1, 1, 1, 3) for value in (scale, shift))
    expected, found = (
        jax.jit(
            jax.grad(loss, (0, 1)),
            compiler_options={"xla_backend_optimization_level": level},
        )(scale, shift)
        for level in (2, 0)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected
    )
