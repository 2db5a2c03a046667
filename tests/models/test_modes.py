"""Convolutions, pools and networks are the same under JAX's settings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from kd_heuristics.models import pool
from kd_heuristics.models.conv import conv_general_dilated
from kd_heuristics.models.depthwise import depthwise
from kd_heuristics.runtime import compilation
from tests.modes import MODES, assert_same
from tests.selection import LARGE, some_long

RANDOM = np.random.RandomState(0)
IMAGES, KERNEL, OWN = (
    RANDOM.standard_normal(shape).astype(np.float32)
    for shape in ((2, 8, 8, 3), (3, 3, 3, 4), (3, 3, 1, 3))
)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(stride):
    def apply(x, kernel):
        strides = (stride, stride)
        return conv_general_dilated(
            x, kernel, strides, "SAME", dimension_numbers=LAYOUT
        )

    return apply


LAYERS = {
    "conv": (conv(1), IMAGES, KERNEL),
    "conv, stride 2": (conv(2), IMAGES, KERNEL),
    "conv, dense": (conv(1), IMAGES[:, :3, :3], KERNEL),
    "conv, 1x1": (conv(1), IMAGES, KERNEL[:1, :1]),
    "conv, members": (jax.vmap(conv(1)), IMAGES[None], KERNEL[None]),
    "depthwise": (depthwise, IMAGES, OWN),
    "max_pool_2x2": (lambda x, _: pool.max_pool_2x2(x), IMAGES, OWN),
    "max_pool_3x3": (lambda x, _: pool.max_pool_3x3(x), IMAGES, OWN),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_settings_change_no_layer(name, mode):
    apply, *operands = LAYERS[name]
    operands = [jnp.asarray(operand) for operand in operands]

    def run():
        gradient = jax.grad(lambda *x: jnp.square(apply(*x)).sum(), (0, 1))
        return apply(*operands), gradient(*operands)

    expected = run()
    with MODES[mode]():
        found = run()
    assert_same(found, expected, rtol=1e-5, atol=1e-5)


SMALL = {"width": 0.1}
NETWORKS = {
    "vgg11_bn": SMALL | {"classifier_width": 8},
    "resnet8": {"width": 0.25, "input_batch_norm": True},
    "shallow": SMALL | {"classifier_width": 8},
    "bit_tiny": {"width": 0.25},
    "mobilenet_tiny": {"width": 0.5},
}
INPUT = jnp.asarray(RANDOM.standard_normal((2, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize("name", some_long(models.names(), LARGE.fullmatch))
def test_parameters_are_float32_under_x64(name):
    network = models.create(name, 3)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with MODES["x64"]():
        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def first_run(name):
    network = models.create(name, 3, **NETWORKS[name])
    variables = network.init(jax.random.key(0), INPUT)
    return variables, network.apply(variables, INPUT)


# Operation by operation, a MobileNet is half a minute of compilation; its depthwise
# convolution is among the layers above.
SHORT = {("mobilenet_tiny", "x64"), ("resnet8", "disable_jit")}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(*case, marks=[pytest.mark.long] * (case not in SHORT))
        for case in itertools.product(NETWORKS, ("x64", "disable_jit"))
    ],
)
def test_settings_change_no_network(name, mode):
    expected = first_run(name)
    with MODES[mode]():
        found = first_run(name)
    assert_same(found, expected, rtol=1e-5, atol=1e-5)


def test_keys_of_both_kinds_start_the_same_network():
    network = models.create("shallow", 3, **NETWORKS["shallow"])
    found = network.init(jax.random.PRNGKey(5), INPUT)
    assert_same(found, network.init(jax.random.key(5), INPUT))


@pytest.mark.parametrize("name", models.names())
def test_the_same_name_and_options_are_one_network(name):
    options = {"width": 0.5, "dtype": jnp.bfloat16}
    first, second = (models.create(name, 3, **options) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    numpys = models.create(name, np.int64(3), **options | {"width": np.float64(0.5)})
    assert numpys == first
    for other in (
        models.create(name, 4, **options),
        models.create(name, 3, **options | {"width": 0.25}),
        models.create(name, 3, **options | {"dtype": jnp.float32}),
    ):
        assert other != first


def test_the_same_network_is_compiled_once():
    traces = []

    @jax.jit
    def call(apply, variables):
        traces.append(1)
        return apply(variables, INPUT)

    def run():
        network = models.create("shallow", 3, width=0.05, classifier_width=4)
        variables = network.init(jax.random.key(0), INPUT)
        return call(jax.tree_util.Partial(network.apply), variables)

    run()
    with compilation.counted() as count:
        run()
    assert (len(traces), count.programs) == (1, 0)


def test_images_with_their_channels_first_are_answered():
    network = models.create("shallow", 3)
    with pytest.raises(ValueError, match=r"channels come first; .*transpose"):
        network.init(jax.random.key(0), INPUT.transpose(0, 3, 1, 2))
