"""Targets of many crops of a prepared set's originals."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import data, distill
from kd_heuristics.data import rectangles
from tests.data import prepared_fixture as fixture

NAME, CROPS, SIZE, SEED = "oxford_flowers102", 3, 4, 7
VIEW = data.views.create("fix/ic_ens", teacher_size=SIZE, area=(0.3, 1.0))
WEIGHTS = np.random.default_rng(1).normal(size=(SIZE * SIZE * 3, 5)) / 300


def linear(weights, pixels):
    return pixels.reshape(len(pixels), -1) @ weights


TEACHER = distill.Teacher(linear, jnp.asarray(WEIGHTS, jnp.float32))


def compute(**options):
    return data.ensemble_targets_of_originals(
        TEACHER,
        NAME,
        "train",
        VIEW,
        crops=CROPS,
        temperature=2.0,
        seed=SEED,
        **{"batch_size": 4, **options},
    )


def prepare(folder, monkeypatch, encoded):
    fixture.write(folder, NAME, {"train": 5, "validation": 2, "test": 2}, encoded)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))


def lossless(number):
    return fixture.encode(fixture.picture(number), form="PNG")


def expected(pixels, place):
    """The mean prediction of an image, by hand; whether a crop leaves its square."""
    height, width, _ = pixels.shape
    total, leaves = np.zeros(5), False
    for number in range(CROPS):
        words = np.random.PCG64((SEED, place, number)).random_raw(5)
        draws = (words >> np.uint64(11)) / 2.0**53
        box = rectangles.rectangle(
            "inception", draws[:4], height, width, area=VIEW.area
        )
        crop = rectangles.cut_on_host(pixels, box, SIZE).astype(np.float64)
        crop = crop[:, ::-1] if draws[4] < 0.5 else crop
        odds = np.exp(crop.reshape(-1) @ WEIGHTS / 2.0)
        total += odds / odds.sum() / CROPS
        side = min(height, width)
        leaves |= box[0] < (height - side) / 2 or box[1] < (width - side) / 2
    return total, leaves


def test_the_mean_prediction_of_crops_of_the_whole_image(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, lossless)
    found = compute(path=tmp_path / "targets.npz")
    assert found.dtype == np.float32
    odds = np.exp(np.asarray(found, np.float64) / 2.0)
    records = data.records.Records(NAME, "train")
    leaves = False
    for place in range(5):
        own, left = expected(records[place][0], place)
        leaves |= left
        np.testing.assert_allclose(odds[place] / odds[place].sum(), own, rtol=2e-5)
    assert leaves  # else central squares would have done
    np.testing.assert_array_equal(compute(path=tmp_path / "targets.npz"), found)
    np.testing.assert_allclose(compute(batch_size=7), found, rtol=1e-5, atol=1e-6)


def test_a_bad_record_stops_or_has_no_target(tmp_path, monkeypatch):
    prepare(
        tmp_path,
        monkeypatch,
        lambda number: lossless(number)[: 60 if number == 3 else None],
    )
    with pytest.raises(data.BadRecordError):
        compute()
    found = compute(on_bad="skip")
    assert np.isnan(found).all(-1).sum() == 1
    assert np.isfinite(found).all(-1).sum() == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"on_bad": "drop"}, "answer to a bad record"),
    ],
)
def test_bad_numbers_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        compute(**options)
