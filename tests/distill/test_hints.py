"""Hints: the loss, regressors by shape, the annealed weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from kd_heuristics.models import conv
from tests.distill import oracles
from tests.distill.nets import quick
from tests.distill.oracles import LABELS

CLOSE = 2e-6
STUDENT, TEACHER = oracles.logits(0), oracles.logits(1)


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def test_hint_loss_is_half_the_square_summed_over_units():
    student, teacher = (oracles.pairs(seed)[0][0] for seed in (0, 1))
    square = oracles.square(student, teacher)
    np.testing.assert_allclose(distill.hint_loss(student, teacher), square / 2, CLOSE)
    mean = distill.hint_loss(student, teacher, reduction="mean")
    np.testing.assert_allclose(mean, square / 32, CLOSE)


def test_fitnet_loss_is_the_papers_sum_without_t_squared():
    hard = oracles.hard_labels(STUDENT, LABELS)
    soft = oracles.soft_cross_entropy(STUDENT, TEACHER, 3.0)
    found = quick(distill.fitnet_loss)(STUDENT, TEACHER, LABELS, 4.0)
    np.testing.assert_allclose(found, np.float64(hard + 4 * soft), rtol=CLOSE)


def test_the_weight_goes_from_four_to_one_on_a_line():
    steps = np.arange(1000)
    found = quick(jax.vmap(distill.annealed_weight(1000)))(steps)
    np.testing.assert_allclose(found, 4 - 3 * steps / 999, rtol=1e-6)
    assert (found[0], found[-1]) == (4, 1)
    assert distill.annealed_weight(10, 2.0, 0.5)(10**6) == 0.5


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((2, 4, 4, 3), (2, 4, 4, 5), None, (1, 1, 3, 5)),
        ((2, 6, 5, 3), (2, 4, 4, 2), None, (3, 2, 3, 2)),
        ((2, 4, 4, 3), (2, 8, 8, 2), "dense", (48, 128)),
        ((2, 7), (2, 3), None, (7, 3)),
        ((2, 4, 4, 3), (2, 3), None, (48, 3)),
    ],
)
def test_a_regressor_has_the_shape_of_the_hint_and_is_linear(
    student, teacher, kind, kernel
):
    layer = distill.regressor(struct(*student), struct(*teacher), kind)
    params = layer.init(jax.random.key(0))
    assert params["kernel"].shape == layer.kernel_shape == kernel
    params["bias"] = params["bias"] + jnp.arange(kernel[-1])
    x = np.random.default_rng(0).normal(size=student).astype(np.float32)
    found = quick(layer.apply)(params, x)
    assert found.shape == teacher
    weights = np.asarray(params["kernel"], np.float64)
    if len(kernel) == 2:
        expected = (x.reshape(len(x), -1) @ weights).reshape(teacher)
    else:
        expected = np.zeros(teacher)
        height, width = teacher[1:3]
        for a in range(kernel[0]):
            for b in range(kernel[1]):
                expected += x[:, a : a + height, b : b + width] @ weights[a, b]
    bias = np.arange(kernel[-1]).reshape(teacher[1:] if len(kernel) == 2 else (-1,))
    # Sums of up to 48 products.
    np.testing.assert_allclose(found, expected + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [None, "positions"])
def test_a_regressor_of_tokens_maps_each_position_alike(kind):
    layer = distill.regressor(struct(2, 9, 4), struct(2, 9, 3), kind)
    params = layer.init(jax.random.key(0))
    assert params["kernel"].shape == (4, 3)
    params["bias"] = params["bias"] + jnp.arange(3)
    x = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
    expected = np.stack(
        [np.float64(x[:, i]) @ np.float64(params["kernel"]) for i in range(9)], 1
    )
    found = quick(layer.apply)(params, x)
    np.testing.assert_allclose(found, expected + np.arange(3), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(2, 8, 4\) do not fit"):
        layer.apply(params, x[:, :8])
    # Asked for, one kernel for all positions together.
    flat = distill.regressor(struct(2, 9, 4), struct(2, 9, 3), "dense")
    assert flat.kernel_shape == (36, 27)


def test_a_regressor_starts_with_outputs_of_the_inputs_size():
    layer = distill.regressor(struct(1, 1000), struct(1, 500))
    params = layer.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(4, 1000)).astype(np.float32)
    # 2000 outputs: their standard deviation is known to 2 %.
    np.testing.assert_allclose(quick(layer.apply)(params, x).std(), 1, atol=0.08)
    assert not params["bias"].any()


def test_a_regressor_takes_our_convolution_and_other_types():
    layer = distill.regressor(
        struct(2, 6, 6, 3), struct(2, 4, 4, 2), convolution=conv.conv_general_dilated
    )
    params = layer.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(jnp.bfloat16)
    plain = distill.regressor(struct(2, 6, 6, 3), struct(2, 4, 4, 2))
    found, expected = (quick(each.apply)(params, x) for each in (layer, plain))
    assert found.dtype == expected.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_is_wrong_is_said():
    hint = np.zeros((5, 4, 4, 2))
    with pytest.raises(ValueError, match=r"\(5, 4, 4\) and \(5, 4, 4, 2\).*regressor"):
        distill.hint_loss(hint[..., 0], hint)
    with pytest.raises(ValueError, match=r"unknown reduction 'maen'"):
        distill.hint_loss(hint, hint, reduction="maen")
    with pytest.raises(ValueError, match=r"weight must be at least 0.*got -1"):
        distill.fitnet_loss(STUDENT, TEACHER, LABELS, -1.0)
    with pytest.raises(ValueError, match=r"num_steps must be at least 2, got 1"):
        distill.annealed_weight(1)
    with pytest.raises(ValueError, match=r"unknown kind 'linear'"):
        distill.regressor(hint, hint, "linear")
    with pytest.raises(ValueError, match=r"\(5, 4, 4\) and .*kind='dense'"):
        distill.regressor(hint[..., 0], hint, "conv")
    for other in (np.zeros((5, 4, 3, 2)), np.zeros((5, 2))):
        with pytest.raises(ValueError, match=r"same positions.*kind='dense'"):
            distill.regressor(hint, other, "positions")
    with pytest.raises(ValueError, match=r"4x4 is smaller than the teacher's of 5x4"):
        distill.regressor(hint, np.zeros((5, 5, 4, 2)))
    for layer, wrong in (
        (distill.regressor(hint, hint), hint[:, :3]),
        (distill.regressor(hint, hint, "dense"), hint[:, :3]),
    ):
        with pytest.raises(ValueError, match=r"\(5, 3, 4, 2\) do not fit"):
            layer.apply(layer.init(jax.random.key(0)), jnp.asarray(wrong))
