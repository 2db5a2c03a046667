"""Batches and views are the same under JAX's settings, and for numbers of any type."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import data
from kd_heuristics.data import order
from tests.modes import MODES, assert_same

STORED = np.random.RandomState(0).randint(0, 256, (10, 8, 8, 3), np.uint8)
SET = data.Dataset(STORED, np.arange(10, dtype=np.int32) % 3, 3)
PIXELS = jnp.asarray(STORED)


def key():
    return jax.random.key(1)


def view(name="mix", **options):
    made = data.views.create(name, teacher_size=6, student_size=4, **options)
    return made(PIXELS, key())


def targets():
    ensemble = data.views.create("fix/ic_ens", teacher_size=6)
    options = {"crops": 3, "batch_size": 4}
    return data.ensemble_targets(lambda p: p.mean((1, 2)), SET, ensemble, **options)


def batch(seed=3, step=7, batch_size=4, padding=2, make=data.train_batches):
    return make(SET, batch_size, padding=padding, flip=True, index=True)(seed, step)


FUNCTIONS = {
    "train_batches": batch,
    "eval_batches": lambda: data.eval_batches(SET, 4),
    "augment_batches": lambda: data.augment_batches(
        data.eval_batches(SET, 4), key(), padding=2, flip=True
    ),
    "permute": lambda: order.permute(key(), jnp.arange(10, dtype=jnp.int32), 10),
    "normalize": lambda: data.normalize(PIXELS, [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]),
    "mix": view,
    "beta": functools.partial(view, mixup=0.3),
    "ind/rc": functools.partial(view, "ind/rc"),
    "look": lambda: data.views.look(PIXELS, 5),
    "ensemble_targets": targets,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_change_nothing(name, mode):
    expected = FUNCTIONS[name]()
    with MODES[mode]():
        found = FUNCTIONS[name]()
    # Without jit sums are not fused: the last digits of pixels up to 255.
    assert_same(found, expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("mode", ["x64", "strict promotion"])
def test_integers_of_numpy_are_integers(dtype, mode):
    with MODES[mode]():
        assert_same(batch(*map(dtype, (3, 7, 4, 2))), batch())


def test_floats_are_no_integers():
    for wrong in (4.0, np.float64(4), "4"):
        for name in ("batch_size", "padding", "seed"):
            with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
                batch(**{name: wrong}, make=data.train_batches.__wrapped__)


@pytest.mark.parametrize("seed", [2**32 + 5, np.int64(2**32 + 5), -(2**31) - 1])
def test_a_seed_that_would_be_another_one_is_refused(seed):
    for call in (
        lambda: batch(seed=seed),
        lambda: data.batch_indices(seed, 0, 4, 2),
        lambda: data.ensemble_targets(
            lambda p: p, SET, data.views.create("fix/ic_ens", teacher_size=6), seed=seed
        ),
    ):
        with pytest.raises(
            ValueError, match=f"seed must be at (least|most) .* got {seed}"
        ):
            call()


@pytest.mark.parametrize("make", [key, lambda: jax.random.key_data(key())])
def test_keys_of_both_kinds(make):
    found = data.random_crop(PIXELS, make(), 2), data.random_flip(PIXELS, make())
    expected = data.random_crop(PIXELS, key(), 2), data.random_flip(PIXELS, key())
    assert_same(found, expected)
    made = data.views.create("ind/ic", teacher_size=4)
    assert_same(made(PIXELS, make()), made(PIXELS, key()))


# Shape annotations, which tests check, would be quicker than the sentences.
VIEW = data.views.create("mix", teacher_size=4)
CALLS = {
    "view": lambda images: type(VIEW).__call__.__wrapped__(VIEW, images, key()),
    "look": lambda images: data.views.look.__wrapped__(images, 4),
    "random_crop": lambda images: data.random_crop.__wrapped__(images, key(), 2),
    "random_flip": lambda images: data.random_flip.__wrapped__(images, key()),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_images_are_answered_in_a_sentence(name):
    with pytest.raises(ValueError, match=r"single image .*images\[None\]"):
        CALLS[name](PIXELS[0])
    with pytest.raises(ValueError, match=r"channels come first; .*transpose"):
        CALLS[name](PIXELS.transpose(0, 3, 1, 2))
    if name in ("view", "look"):
        with pytest.raises(ValueError, match=r"uint8 pixels, got float32; .*normalize"):
            CALLS[name](PIXELS.astype(jnp.float32))


def test_pixels_are_normalised_by_values_of_their_channels():
    first = PIXELS.transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match=r"mean has 3 values .* channels last"):
        data.normalize.__wrapped__(first, [1.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match="std has 2 values"):
        data.normalize.__wrapped__(PIXELS, [1.0] * 3, [1.0] * 2)
