import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from kd_heuristics import data
from kd_heuristics.data import digits, photo

# SHA-256 of images and of labels (little-endian): the same bytes on every machine.
DIGESTS = {
    ("digits_photo", "train"): (
        "f5d1e1f3f46420bfa865b47a051d07bc405ec612976e427e61fc3469af464907",
        "9a8afbf0f68352b4c56d5e50c46102770de1668f79e1f58274b291fd2cb3b1da",
    ),
    ("digits_photo", "validation"): (
        "5d815208f6d9d94e2daaeb93af3660a2d45a3c1f75c086166642cede9bb04d63",
        "9f9e0f0ee351475b9771de562d9f95f3ab00d2f60ecd33ec93ce084bd1dc90d7",
    ),
    ("digits_photo", "test"): (
        "b8cc314b447b3dc57ffb7b5b2c7a7384194b04a596c92123ebbe83e52c991ab0",
        "4093208d510cac47a8de46932ffb349e1af8780d2e178a08fc8b3e0f9e9eade0",
    ),
    ("photo_patches", "train"): (
        "12dd895e83e8a31654172723c667abf50c7e2fb038cda0b1b3d4fb9ad70dd710",
        "73d8465cd5f88e1aadb80d645ebe0de53d76d252027d7ab61ff2034a2d9b6460",
    ),
    ("photo_patches", "validation"): (
        "8edf11788650b0eb60acd1a1f6a002d9c65105c0f40bfb1cca5da397566949bd",
        "b525f810c446206769ba0487f0c80c32eeb4e232548bb8dd8f4bab48c16fb14d",
    ),
    ("photo_patches", "test"): (
        "8568e4fd9291e397641bd31dcfe7e58f190d1a29e2f3bb7584daf1b34b3cfddc",
        "e202c0cf84a7cd41ca821495e47ca8ebdc68b32b8c6f4ea1724e6b64fcda46c2",
    ),
}
COUNTS = {"train": 4788, "validation": 800, "test": 1600}


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_bytes(name, split):
    dataset = data.load(name, split)
    digests = (dataset.images, dataset.labels.astype("<i4"))
    digests = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in digests)
    assert digests == DIGESTS[name, split]
    assert dataset.images.shape == (COUNTS[split], 32, 32, 3)
    assert dataset.name == name


@pytest.mark.parametrize("size", [32, 50])
def test_an_image_is_the_distance_of_its_patch_and_its_digit(size):
    blended = data.load("digits_photo", "validation", size)
    patches = data.load("photo_patches", "validation", size).images.astype(int)
    drawn = data.load("digits", "validation", size)
    expected = np.abs(patches - np.tile(drawn.images, (4, 1, 1, 1)).astype(int))
    np.testing.assert_array_equal(blended.images, expected)
    np.testing.assert_array_equal(blended.labels, np.tile(drawn.labels, 4))


def test_a_digit_gets_another_patch_each_time():
    patches = data.load("photo_patches", "test").images.reshape(4, 400, -1)
    assert all((a != b).any(1).all() for a, b in itertools.pairwise(patches))


def test_patches_have_no_labels():
    patches = data.load("photo_patches", "test")
    assert (patches.num_classes, set(patches.labels.tolist())) == (0, {data.UNLABELLED})


def test_splits_share_no_pixel_and_fit_the_largest_size():
    for name, pixels in photo.photographs().items():
        seen = np.zeros(pixels.shape[:2], int)
        for parts in photo.PARTS.values():
            seen[parts[name]] += 1
            assert min(seen[parts[name]].shape) >= photo.SIZES[-1]
        assert seen.max() == 1


@pytest.mark.parametrize("split", COUNTS)
def test_a_split_reads_its_own_part_only(split, monkeypatch):
    expected = data.load("photo_patches", split, 40).images
    outside = {name: pixels.copy() for name, pixels in photo.photographs().items()}
    for name, pixels in outside.items():
        inside = pixels[photo.PARTS[split][name]].copy()
        pixels[:] = 0
        pixels[photo.PARTS[split][name]] = inside
    monkeypatch.setattr(photo, "photographs", lambda: outside)
    np.testing.assert_array_equal(
        data.load("photo_patches", split, 40).images, expected
    )


def test_patches_lie_everywhere_in_both_photographs(monkeypatch):
    rows, columns = np.mgrid[:427, :640]
    where = {
        name: np.stack([rows // 2, columns // 3, np.full_like(rows, number)], -1)
        for number, name in enumerate(("china", "flower"))
    }
    where = {name: grid.astype(np.uint8) for name, grid in where.items()}
    monkeypatch.setattr(photo, "photographs", lambda: where)
    corner = data.load("photo_patches", "train", 96).images[:, 0, 0].astype(int)
    for number, (name, (rows, columns)) in enumerate(photo.PARTS["train"].items()):
        mine = corner[corner[:, 2] == number]
        assert 0.45 < len(mine) / len(corner) < 0.55, name  # 7 standard deviations
        ends = [part.stop - 96 for part in (rows, columns)]
        # 2,400 patches: the first and the last few pixels are met, and none beyond.
        for axis, (part, end, unit) in enumerate(
            zip((rows, columns), ends, (2, 3), strict=True)
        ):
            assert part.start // unit <= mine[:, axis].min() <= part.start // unit + 1
            assert end // unit - 1 <= mine[:, axis].max() <= end // unit


@pytest.mark.parametrize("size", [8, 96, 128])
def test_other_sizes(size):
    assert (
        data.load("digits_photo", "validation", size).images.shape[1:3] == (size,) * 2
    )


def test_the_head_of_a_split_has_distinct_digits():
    labels = data.load("digits_photo", "train").labels
    np.testing.assert_array_equal(labels[:1197], digits.raw("train")[1])


def test_photographs_are_small_and_their_licence_is_with_them():
    folder = Path(photo.__file__).parent / "assets"
    assert sum(path.stat().st_size for path in folder.glob("*.png")) < 2_000_000
    licence = (folder / "LICENSE-photos.txt").read_text()
    assert all(word in licence for word in ("CC BY 2.0", "danielbuechele", "vultilion"))
