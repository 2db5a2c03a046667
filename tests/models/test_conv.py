"""The convolution against direct sums in float64, and against `jax.lax`."""

import functools
import math

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kd_heuristics.models import conv
from tests.modes import enable_x64

LAYOUT = ("NHWC", "HWIO", "NHWC")
SAME, VALID = "SAME", "VALID"
ONE, TWO = (1, 1), (2, 2)

# (map, channels in and out, kernel, strides, padding); the CPU recipe each one takes
CASES = {
    "forward": ((8, 6), (5, 4), (3, 3), ONE, SAME),
    "forward_valid": ((7, 9), (5, 2), (3, 3), ONE, VALID),
    "forward_same_lower": ((6, 5), (5, 3), (2, 4), ONE, "SAME_LOWER"),
    "three_channels": ((8, 8), (3, 4), (3, 3), ONE, SAME),
    "stride_2": ((8, 8), (5, 4), (3, 3), TWO, SAME),
    "stride_2_odd": ((9, 7), (5, 4), (3, 3), TWO, ((1, 1), (1, 1))),
    "stride_2_unseen_rows": ((8, 10), (2, 3), (3, 3), (3, 4), VALID),
    "stem_7x7": ((16, 15), (3, 4), (7, 7), TWO, ((3, 3), (3, 3))),
    "lopsided": ((5, 4), (5, 4), (3, 2), (2, 1), ((2, 0), (0, 3))),
    "map_4x4": ((4, 4), (6, 5), (3, 3), ONE, SAME),
    "dense_3x3": ((3, 3), (4, 3), (3, 3), ONE, SAME),
    "dense_2x2": ((2, 2), (4, 3), (3, 3), ONE, SAME),
    "dense_2x2_stride_2": ((2, 2), (4, 3), (3, 3), TWO, SAME),
    "dense_2x3_uneven": ((2, 3), (4, 3), (3, 3), (2, 1), ((1, 2), (0, 1))),
    "dense_1x1": ((1, 1), (4, 3), (3, 3), ONE, SAME),
    "dense_7x7": ((4, 5), (2, 3), (7, 7), TWO, ((3, 3), (3, 3))),
    "wide_padding": ((1, 1), (2, 3), (3, 3), ONE, ((3, 3), (2, 4))),
    "pointwise": ((4, 5), (6, 3), (1, 1), ONE, VALID),
    "pointwise_stride_2": ((8, 7), (6, 3), (1, 1), TWO, SAME),
    "pointwise_padded": ((3, 4), (2, 3), (1, 1), TWO, ((1, 0), (0, 2))),
}
# One of each recipe, for what does not depend on the sizes.
RECIPES = ["forward", "stride_2", "dense_2x2", "pointwise_stride_2"]


def arrays(name, seed=0, images=2):
    """Standard normal x, kernel and output gradient of a case, float32."""
    size, (channels, features), kernel_size, strides, padding = CASES[name]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, *size, channels), dtype=np.float32)
    kernel = rng.standard_normal((*kernel_size, channels, features), np.float32)
    out = jax.eval_shape(
        functools.partial(reference, strides=strides, padding=padding), x, kernel
    )
    return x, kernel, rng.standard_normal(out.shape, dtype=np.float32)


def ours(x, kernel, strides, padding, **options):
    return conv.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=LAYOUT, **options
    )


def reference(x, kernel, strides, padding, **options):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=LAYOUT, **options
    )


def of_case(function, name, **options):
    *_, strides, padding = CASES[name]
    return functools.partial(function, strides=strides, padding=padding, **options)


def direct(x, kernel, dy, strides, padding):
    """Output and both gradients as plain sums over taps, float64."""
    x, kernel, dy = (np.asarray(a, np.float64) for a in (x, kernel, dy))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = dy.shape[1:3]
    out, dpadded, dkernel = np.zeros(dy.shape), np.zeros_like(padded), 0 * kernel
    for i, j in np.ndindex(*kernel.shape[:2]):
        rows = slice(i, i + (height - 1) * strides[0] + 1, strides[0])
        columns = slice(j, j + (width - 1) * strides[1] + 1, strides[1])
        window = padded[:, rows, columns]
        out += window @ kernel[i, j]
        dpadded[:, rows, columns] += dy @ kernel[i, j].T
        dkernel[i, j] = np.einsum("nyxc,nyxd->cd", window, dy)
    (top, _), (left, _) = padding
    dx = dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return out, dx, dkernel


def assert_close(actual, expected, rtol):
    """Largest error relative to the largest entry: sums of both signs cancel."""
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            np.asarray(a, np.float64),
            np.asarray(e, np.float64),
            rtol=0,
            atol=rtol * max(1.0, np.max(np.abs(np.asarray(e, np.float64)), initial=0)),
        ),
        actual,
        expected,
    )


def value_and_gradients(function, x, kernel, dy):
    out, pullback = jax.vjp(function, x, kernel)
    return out, *pullback(dy)


# Sums of at most 200 products of standard normals in float32.
FLOAT32 = 1e-5


@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_are_the_direct_sums(name):
    x, kernel, dy = arrays(name)
    function = jax.jit(functools.partial(value_and_gradients, of_case(ours, name)))
    assert_close(
        function(x, kernel, dy), direct(x, kernel, dy, *CASES[name][3:]), FLOAT32
    )


@pytest.mark.parametrize("name", ["forward", "dense_2x2"])
def test_eager_calls_agree(name):
    x, kernel, dy = arrays(name)
    actual = value_and_gradients(of_case(ours, name), x, kernel, dy)
    assert_close(actual, direct(x, kernel, dy, *CASES[name][3:]), FLOAT32)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_gradients_are_adjoint(data):
    """<conv(x, k), y> = <x, dx> = <k, dk> for any shapes."""
    side = st.integers(1, 6)
    size, kernel_size = data.draw(st.tuples(side, side)), (data.draw(side), 3)
    strides = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple((kernel_size[i] - 1, data.draw(st.integers(0, 2))) for i in (0, 1))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 3))
    kernel = rng.standard_normal((*kernel_size, 3, 2))
    with enable_x64(True):
        function = functools.partial(ours, strides=strides, padding=padding)
        dy = rng.standard_normal(jax.eval_shape(function, x, kernel).shape)
        out, dx, dkernel = jax.jit(functools.partial(value_and_gradients, function))(
            x, kernel, dy
        )
        assert out.dtype == dx.dtype == dkernel.dtype == np.float64
        form = np.vdot(out, dy)
        scale = np.linalg.norm(out) * np.linalg.norm(dy)
    np.testing.assert_allclose(np.vdot(x, dx), form, atol=1e-12 * scale)
    np.testing.assert_allclose(np.vdot(kernel, dkernel), form, atol=1e-12 * scale)


def nonlinear(function, x, kernel):
    return jnp.sum(jnp.sin(function(x, kernel)))


def gradient_of_gradient(function, x, kernel):
    def total(x, kernel):
        gradients = jax.grad(functools.partial(nonlinear, function), (0, 1))(x, kernel)
        return sum(jnp.sum(jnp.sin(g)) for g in gradients)

    return jax.grad(total, (0, 1))(x, kernel)


def jvp_of_gradient(function, x, kernel):
    gradient = jax.grad(functools.partial(nonlinear, function), (0, 1))
    return jax.jvp(gradient, (x, kernel), (jnp.cos(x), jnp.cos(kernel)))[1]


@pytest.mark.parametrize("derivative", [jvp_of_gradient, gradient_of_gradient])
@pytest.mark.parametrize("name", ["forward", "stride_2", "dense_2x2"])
def test_second_derivatives_are_those_of_lax(name, derivative):
    x, kernel, _ = arrays(name)
    actual, expected = (
        jax.jit(functools.partial(derivative, of_case(function, name)))(x, kernel)
        for function in (ours, reference)
    )
    assert_close(actual, expected, 10 * FLOAT32)  # several sums in a row


def test_hessian_is_the_finite_difference():
    """Of sum(sin(conv)) in input and kernel at once, on a 2x2 map, in float64."""
    rng = np.random.default_rng(1)
    point = rng.standard_normal(2 * 2 * 2 + 3 * 3 * 2)
    with enable_x64(True):

        def value(flat):
            x, kernel = flat[:8].reshape(1, 2, 2, 2), flat[8:].reshape(3, 3, 2, 1)
            return nonlinear(of_case(ours, "dense_2x2"), x, kernel)

        hessian = jax.jit(jax.hessian(value))(point)
        gradient, step = jax.jit(jax.grad(value)), 1e-5
        differences = [
            (gradient(point + step * e) - gradient(point - step * e)) / (2 * step)
            for e in np.eye(point.size)
        ]
    # Central differences: an error of step**2, and rounding 1e-16 / step.
    assert_close(hessian, np.stack(differences), 1e-8)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("in_axes", [(4, 1), (1, None), (None, 3)])
def test_vmap_over_images_kernels_and_both(name, in_axes):
    x, kernel, dy = arrays(name)
    operands = [
        a if axis is None else np.stack([a, 1 - a, 2 * a], axis)
        for a, axis in zip((x, kernel), in_axes, strict=True)
    ]
    function = functools.partial(value_and_gradients, of_case(ours, name))
    actual = jax.jit(jax.vmap(function, (*in_axes, None)))(*operands, dy)
    for i in range(3):
        x_i, kernel_i = (
            a if axis is None else np.take(a, i, axis)
            for a, axis in zip(operands, in_axes, strict=True)
        )
        expected = direct(x_i, kernel_i, dy, *CASES[name][3:])
        assert_close([a[i] for a in actual], list(expected), FLOAT32)


@pytest.mark.parametrize("outer", [(0, 0), (0, None), (None, 0)])
def test_vmap_of_vmap_over_both(outer):
    """Two networks of two: the outer axis is stacked, or folded into a stack."""
    x, kernel, dy = arrays("forward")
    scales = np.float32([[1, 2], [3, 4]])[:, :, None, None, None, None]
    xs, kernels = x * scales, kernel * (scales + 1)
    operands = [
        a if axis == 0 else a[0] for a, axis in zip((xs, kernels), outer, strict=True)
    ]
    function = functools.partial(value_and_gradients, of_case(ours, "forward"))
    batched = jax.vmap(jax.vmap(function, (0, 0, None)), (*outer, None))
    out, dx, dkernel = jax.jit(batched)(*operands, dy)
    for i, j in np.ndindex(2, 2):
        x_ij, kernel_ij = (
            a[i, j] if axis == 0 else a[j]
            for a, axis in zip(operands, outer, strict=True)
        )
        expected = direct(x_ij, kernel_ij, dy, *CASES["forward"][3:])
        assert_close((out[i, j], dx[i, j], dkernel[i, j]), expected, FLOAT32)


@pytest.mark.parametrize("name", ["forward", "dense_2x2"])
def test_training_inside_scan_and_while(name):
    x, kernel, dy = arrays(name)

    def step(function, kernel):
        def loss(kernel):
            return jnp.mean((function(x, kernel) - dy) ** 2)

        return kernel - 0.1 * jax.grad(loss)(kernel)

    def scanned(kernel):
        step_ours = functools.partial(step, of_case(ours, name))
        return lax.scan(lambda k, _: (step_ours(k), None), kernel, length=3)[0]

    def looped(kernel):
        def body(carry):
            return carry[0] + 1, step(of_case(ours, name), carry[1])

        return lax.while_loop(lambda c: c[0] < 3, body, (0, kernel))[1]

    expected = kernel
    for _ in range(3):
        expected = step(of_case(reference, name), expected)
    assert_close(jax.jit(scanned)(kernel), expected, FLOAT32)
    assert_close(jax.jit(looped)(kernel), expected, FLOAT32)


@pytest.mark.parametrize("name", ["stride_2", "dense_2x2"])
@pytest.mark.parametrize(
    ("dtype", "preferred", "rtol"),
    [
        (jnp.bfloat16, None, 2**-8),  # one rounding to 8 bits, of the result
        (jnp.bfloat16, jnp.float32, 2**-8),  # of the gradients
        (jnp.float16, None, 2**-11),
        (jnp.float32, jnp.float32, FLOAT32),
    ],
)
def test_types(name, dtype, preferred, rtol):
    x, kernel, dy = (jnp.asarray(a, dtype) for a in arrays(name))
    dy = dy if preferred is None else dy.astype(preferred)
    options = {"preferred_element_type": preferred, "precision": "highest"}
    function = of_case(ours, name, **options)
    actual = jax.jit(functools.partial(value_and_gradients, function))(x, kernel, dy)
    assert [a.dtype for a in actual] == [preferred or dtype, dtype, dtype]
    assert_close(actual, direct(x, kernel, dy, *CASES[name][3:]), rtol)


def test_default_precision_is_that_of_the_trace():
    x, kernel, _ = arrays("forward")
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(of_case(ours, "forward")).trace(x, kernel)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("HIGHEST") == 2


LAYERS = {
    "same": {"features": 4, "kernel_size": (3, 3)},
    "stride_2": {"features": 4, "kernel_size": (3, 3), "strides": 2, "padding": 1},
    "pointwise": {"features": 4, "kernel_size": (1, 1), "use_bias": False},
    "circular": {"features": 4, "kernel_size": (3, 3), "padding": "CIRCULAR"},
    "dilated_kernel": {"features": 4, "kernel_size": (3, 3), "kernel_dilation": 2},
    "dilated_input": {
        "features": 4,
        "kernel_size": (3, 3),
        "input_dilation": 2,
        "padding": 1,
    },
    "groups": {"features": 4, "kernel_size": (3, 3), "feature_group_count": 2},
    "bfloat16": {"features": 4, "kernel_size": (3, 3), "dtype": jnp.bfloat16},
    "one_dimension": {"features": 4, "kernel_size": (3,)},
}


@pytest.mark.parametrize("name", LAYERS)
def test_flax_layer_keeps_its_parameters_and_outputs(name):
    images = np.random.default_rng(3).standard_normal((2, 6, 6, 4), dtype=np.float32)
    theirs, mine = (
        nn.Conv(**LAYERS[name], **options)
        for options in ({}, {"conv_general_dilated": conv.conv_general_dilated})
    )
    key = jax.random.key(0)
    expected, variables = jax.jit(theirs.init_with_output)(key, images)
    assert jax.eval_shape(mine.init, key, images) == jax.eval_shape(lambda: variables)
    actual = jax.jit(mine.apply)(variables, images)
    assert actual.dtype == expected.dtype
    # bfloat16: each rounds its own float32 sum.
    assert_close(actual, expected, 2**-7 if name == "bfloat16" else FLOAT32)


def test_batch_groups_and_other_layouts_are_those_of_lax():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4, 3, 6, 6), dtype=np.float32)
    kernel = rng.standard_normal((2, 3, 3, 3), dtype=np.float32)
    for options in ({"batch_group_count": 2}, {"rhs_dilation": (2, 1)}):
        actual, expected = (
            function(x, kernel, ONE, SAME, **options)
            for function in (conv.conv_general_dilated, lax.conv_general_dilated)
        )
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "padding"),
    [
        ((0, 4, 4, 2), (3, 3, 2, 3), SAME),  # no images
        ((2, 4, 4, 0), (3, 3, 0, 3), SAME),  # no channels
        ((2, 4, 4, 2), (3, 3, 2, 3), ((-1, 0), (1, -1))),  # padding that cuts
        ((2, 4, 4, 2), (1, 1, 2, 3), ((-1, 0), (1, -1))),
        ((2, 3, 3, 2), (3, 3, 2, 3), ((-1, 2), (1, -1))),
        ((2, 2, 2, 2), (3, 3, 2, 3), VALID),  # no output
        ((1, 0, 4, 2), (3, 3, 2, 3), SAME),
    ],
)
def test_degenerate_shapes_are_those_of_lax(x_shape, kernel_shape, padding):
    x, kernel = np.ones(x_shape, np.float32), np.ones(kernel_shape, np.float32)
    actual, expected = (
        jax.value_and_grad(lambda x, k, f=f: jnp.sum(f(x, k, ONE, padding)), (0, 1))(
            x, kernel
        )
        for f in (ours, reference)
    )
    assert_close(actual, expected, FLOAT32)
    assert (
        ours(x, kernel, ONE, padding).shape == reference(x, kernel, ONE, padding).shape
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (np.ones((1, 4, 4, 2)), np.ones((3, 3, 5, 3)), ONE, SAME),  # channels
        (np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 3)), (1,), SAME),  # strides
        (np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 3)), ONE, "CIRCULAR"),
        (np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 3), np.float16), ONE, SAME),
        (np.ones((4, 4, 2)), np.ones((3, 3, 2, 3)), ONE, SAME),  # rank
    ],
)
def test_errors_are_those_of_lax(arguments):
    x, kernel = (jnp.asarray(a) for a in arguments[:2])
    with pytest.raises((TypeError, ValueError, RuntimeError)) as expected:
        reference(x, kernel, *arguments[2:])
    with pytest.raises(expected.type):
        ours(x, kernel, *arguments[2:])


def lowered_gradient(function, name, platforms):
    """StableHLO of the output and both gradients; a case with many images."""
    x, kernel, dy = arrays(name, images=64)
    function = functools.partial(value_and_gradients, of_case(function, name))
    exported = jax.export.export(jax.jit(function), platforms=platforms)
    return exported(x, kernel, dy).mlir_module()


def operations(text):
    return sorted(
        line.split('"stablehlo.')[-1]
        .split("stablehlo.")[-1]
        .split("(")[0]
        .split(" ")[0]
        for line in text.splitlines()
        if "stablehlo." in line
    )


def largest_tensor(text):
    shapes = (part.split(">")[0].split("x")[:-1] for part in text.split("tensor<")[1:])
    return max(math.prod(int(n) for n in shape) for shape in shapes)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", RECIPES)
def test_accelerators_get_lax_s_convolution_and_gradients(name, platform):
    text, expected = (
        lowered_gradient(function, name, [platform]) for function in (ours, reference)
    )
    assert operations(text) == operations(expected)
    assert operations(text).count("convolution") == 3
    assert not {"dot_general", "gather", "concatenate"} & {*operations(text)}
    # No patches: nothing is larger than the arrays themselves.
    assert largest_tensor(text) == max(a.size for a in arrays(name, images=64))


def test_cpu_gets_its_own_recipes():
    """So that the test above could fail."""
    dense = operations(lowered_gradient(ours, "dense_2x2", ["cpu"]))
    assert dense.count("dot_general") == 3
    assert "convolution" not in dense
    strided = lowered_gradient(ours, "stride_2", ["cpu"])
    assert operations(strided).count("dot_general") == 1
    assert largest_tensor(strided) > max(a.size for a in arrays("stride_2", images=64))


def test_one_program_for_all_platforms_and_batch_sizes():
    x, kernel, _ = arrays("dense_2x2", images=5)
    (images,) = jax.export.symbolic_shape("n")
    spec = jax.ShapeDtypeStruct((images, *x.shape[1:]), x.dtype)
    gradient = jax.jit(
        jax.grad(functools.partial(nonlinear, of_case(ours, "dense_2x2")), (0, 1))
    )
    exported = jax.export.export(gradient, platforms=["cpu", "cuda", "tpu"])(
        spec, kernel
    )
    found = {*operations(exported.mlir_module())}
    assert {"dot_general", "convolution"} <= found
    assert_close(list(exported.call(x, kernel)), list(gradient(x, kernel)), FLOAT32)


@pytest.mark.parametrize("name", RECIPES)
def test_only_the_operands_are_saved_for_the_backward_pass(name):
    x, kernel, _ = arrays(name)
    pullback = jax.eval_shape(
        lambda x, kernel: jax.vjp(of_case(ours, name), x, kernel)[1], x, kernel
    )
    saved = sorted(leaf.shape for leaf in jax.tree.leaves(pullback) if leaf.ndim)
    assert saved == sorted([x.shape, kernel.shape])


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((4,), ("data",), axis_types=(kind,))


@pytest.mark.parametrize("name", RECIPES)
def test_images_spread_over_devices(name):
    """By `jit` with shardings, and by `shard_map` with a replicated kernel."""
    x, kernel, dy = arrays(name, images=8)
    spread = PartitionSpec("data")
    function = functools.partial(value_and_gradients, of_case(ours, name))
    expected = direct(x, kernel, dy, *CASES[name][3:])

    on_devices = [jax.device_put(a, NamedSharding(mesh(), spread)) for a in (x, dy)]
    assert_close(
        jax.jit(function)(on_devices[0], kernel, on_devices[1]), expected, FLOAT32
    )
    mapped = jax.shard_map(
        function,
        mesh=mesh(),
        in_specs=(spread, PartitionSpec(), spread),
        out_specs=(spread, spread, PartitionSpec()),
    )
    assert_close(jax.jit(mapped)(x, kernel, dy), expected, FLOAT32)


def test_explicitly_sharded_images():
    x, kernel, dy = arrays("stride_2", images=8)
    explicit = mesh(AxisType.Explicit)

    def run(function):
        function = functools.partial(value_and_gradients, of_case(function, "stride_2"))
        with jax.set_mesh(explicit):
            spread = NamedSharding(explicit, PartitionSpec("data"))
            x_spread, dy_spread = (jax.device_put(a, spread) for a in (x, dy))
            return jax.jit(function)(x_spread, jnp.asarray(kernel), dy_spread)

    try:
        run(reference)
    except Exception as error:
        pytest.skip(f"this jax's own convolution cannot do it: {error}")
    assert_close(run(ours), direct(x, kernel, dy, *CASES["stride_2"][3:]), FLOAT32)
