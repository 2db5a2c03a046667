"""Batches of a dictionary of arrays, as of a data set."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import data

IMAGES = np.arange(7 * 4 * 4, dtype=np.uint8).reshape(7, 4, 4, 1)
LABELS = np.arange(7) % 2
ARRAYS = {"tokens": np.arange(21).reshape(7, 3), "weights": np.linspace(0, 1, 7)}


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_batch_has_the_examples_of_its_seed_and_step(step):
    rows = np.asarray(data.batch_indices(3, step, 7, 2))
    batch = data.train_batches(ARRAYS, 2, index=True)(3, step)
    assert {*batch} == {"tokens", "weights", "index"}
    np.testing.assert_array_equal(batch["tokens"], ARRAYS["tokens"][rows])
    np.testing.assert_allclose(batch["weights"], ARRAYS["weights"][rows], rtol=1e-6)
    same = {"images": IMAGES, "labels": jnp.asarray(LABELS)}
    for options in ({}, {"padding": 1, "flip": True}):
        one, two = (
            data.train_batches(its, 2, **options)(3, step)
            for its in (data.Dataset(IMAGES, LABELS, 2), same)
        )
        for key in ("images", "labels"):
            np.testing.assert_array_equal(one[key], two[key])


def test_evaluation_has_each_example_once():
    found = data.eval_batches(ARRAYS, 3)
    assert found["mask"].tolist() == [[True] * 3, [True] * 3, [True, False, False]]
    kept = np.asarray(found["tokens"])[np.asarray(found["mask"])]
    np.testing.assert_array_equal(kept, ARRAYS["tokens"])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "a set is a data.Dataset or a dictionary of arrays"),
        ({"x": np.ones(3), "mask": np.ones(3)}, '"mask" is the name of the padding'),
        ({"x": np.ones(3), "y": np.ones(2)}, "equal numbers of examples"),
        ({"x": np.ones(0)}, "at least 1, got {'x': 0}"),
        ({"x": np.array(1.0)}, "at least 1, got {'x': None}"),
    ],
)
@pytest.mark.parametrize("batches", [data.train_batches, data.eval_batches])
def test_what_is_no_set_is_refused(batches, arrays, words):
    with pytest.raises(ValueError, match=words):
        batches(arrays, 1)


def test_only_images_are_cropped():
    with pytest.raises(
        ValueError, match="padding and flip are for images, but the set"
    ):
        data.train_batches(ARRAYS, 2, padding=1)
