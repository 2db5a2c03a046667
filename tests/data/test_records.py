import pathlib
import pickle
import shutil

import numpy as np
import pytest
from etils import epath

from kd_heuristics import data
from kd_heuristics.data import records
from kd_heuristics.data.prepared import SETS
from tests.data import prepared_fixture as fixture

SIZES = {  # what the papers and tfds say, train, validation and test
    "oxford_flowers102": (1020, 1020, 6149),
    "oxford_iiit_pet": (3312, 368, 3669),
    "food101": (68_175, 7_575, 25_250),
    "sun397": (76_128, 10_875, 21_750),
    "imagenet2012": (1_255_544, 25_623, 50_000),
    "imagenet2012_code": (1_255_544, 12_812, 50_000),
    "caltech_birds2011": (5994, None, 5794),
    "caltech_birds2011_holdout": (5395, 599, 5794),
    "cifar10": (50_000, None, 10_000),
    "cifar10_holdout": (45_000, 5_000, 10_000),
    "cifar100": (50_000, None, 10_000),
    "cifar100_holdout": (45_000, 5_000, 10_000),
}
STORED = {  # by tfds
    "oxford_flowers102": {"train": 1020, "validation": 1020, "test": 6149},
    "oxford_iiit_pet": {"train": 3680, "test": 3669},
    "food101": {"train": 75_750, "validation": 25_250},
    "sun397": {"train": 76_128, "validation": 10_875, "test": 21_750},
    "imagenet2012": {"train": 1_281_167, "validation": 50_000},
    "caltech_birds2011": {"train": 5994, "test": 5794},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
}


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def numbers_in_order(found, numbers):
    """Which fixture's image each pixel array is, by its colours."""
    pictures = {fixture.picture(number).tobytes(): number for number in numbers}
    return [pictures[pixels.tobytes()] for pixels, _ in found]


def lossless(number):
    return fixture.encode(fixture.picture(number), form="PNG")


@pytest.mark.parametrize("name", SETS)
def test_the_splits_hold_as_many_as_published(name):
    from tensorflow_datasets.core import splits

    stored = {
        split: splits.SplitInfo(
            name=split, shard_lengths=[count], num_bytes=1, filename_template=None
        )
        for split, count in STORED[SETS[name].base].items()
    }
    for split, count in zip(("train", "validation", "test"), SIZES[name], strict=True):
        if count is None:
            assert split not in SETS[name].splits
        else:
            spec = splits.ReadInstruction.from_spec(SETS[name].splits[split])
            (part,) = spec.to_absolute(stored)
            whole = STORED[SETS[name].base][part.splitname]
            end = whole if part.to is None else part.to
            assert end - (part.from_ or 0) == count


@pytest.mark.parametrize("name", [n for n, entry in SETS.items() if n == entry.base])
def test_each_set_is_read_with_its_true_features(name, data_dir):
    # 2 % of ImageNet's training images must be one.
    train = 60 if name == "imagenet2012" else 20
    splits = {"train": train, "validation": 5, "test": 4}
    fixture.write(data_dir, name, {s: splits[s] for s in STORED[name]})
    for split in SETS[name].splits:
        found = records.Records(name, split)
        pairs = [found[index] for index in range(len(found))]
        assert all(pixels.dtype == np.uint8 for pixels, _ in pairs)
        dataset = data.load(name, split)
        assert dataset.labels.tolist() == [label for _, label in pairs]
        assert dataset.images.shape[1:] == (SETS[name].size, SETS[name].size, 3)
        assert dataset.num_classes == SETS[name].num_classes


def test_held_out_images_are_those_that_train_lacks(data_dir):
    # PNGs, to be known again; the builder of these two would make JPEGs of them.
    fixture.write(data_dir, "food101", {"train": 20, "validation": 3}, lossless)
    parts = {}
    for split in ("train", "validation"):
        found = records.Records("food101", split)
        found = [found[index] for index in range(len(found))]
        parts[split] = numbers_in_order(found, range(20))
    assert len(parts["train"]) == 18
    assert sorted(parts["train"] + parts["validation"]) == list(range(20))


def test_records_can_be_sent_to_another_process(data_dir):
    fixture.write(data_dir, "caltech_birds2011", {"train": 4, "test": 2}, lossless)
    first = records.Records("caltech_birds2011", "train")
    first[0]
    sent = pickle.dumps(first)
    assert len(sent) < 300
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again[1][0], first[1][0])
    with pytest.raises(IndexError, match="4 examples, so no example 4"):
        first[4]


def test_grey_images_are_repeated(data_dir):
    grey = fixture.picture(0)[..., 0]

    def encoded(number):
        return fixture.encode(grey, "L", "PNG")

    fixture.write(data_dir, "food101", {"train": 10, "validation": 2}, encoded)
    pixels, _ = records.Records("food101", "train")[0]
    np.testing.assert_array_equal(pixels, np.stack([grey] * 3, -1))


@pytest.mark.parametrize(
    ("bad_bytes", "words"),
    [
        (lambda good: good[:60], "OSError"),
        (
            lambda good: bytes(60),
            r"UnidentifiedImageError: cannot identify image file)",
        ),
    ],
)
def test_a_bad_record_is_named_by_file_and_number(data_dir, bad_bytes, words):
    def encoded(number):
        return bad_bytes(lossless(number)) if number == 2 else lossless(number)

    folder = fixture.write(data_dir, "food101", {"train": 10, "validation": 6}, encoded)
    found = records.Records("food101", "test")
    bad = []
    for index in range(6):
        try:
            found[index]
        except data.BadRecordError as error:
            bad.append((index, str(error)))
    ((index, message),) = bad
    shard, record = divmod(index, 3)
    file = f"food101-validation.array_record-0000{shard}-of-00002"
    assert f"record {record} of {folder}/{file} (example {index})" in message
    assert words in message
    assert " at 0x" not in message
    # In memory a set is whole or not there.
    with pytest.raises(data.MissingDatasetError, match=f"record {record} of"):
        data.load("food101", "test", 32)


def test_another_number_of_classes_is_refused(data_dir, monkeypatch):
    folder = epath.Path(
        fixture.write(data_dir, "food101", {"train": 10, "validation": 2})
    )
    monkeypatch.setitem(SETS, "food101", SETS["sun397"])
    monkeypatch.setattr("kd_heuristics.data.tfds.find", lambda *_: folder)
    with pytest.raises(
        ValueError, match=r"labels of 101 classes, not 397.*move it away"
    ):
        data.load("food101", "test")


def test_what_does_not_fit_into_memory_is_streamed(data_dir, monkeypatch):
    fixture.write(data_dir, "food101", {"train": 10, "validation": 2})
    monkeypatch.setattr(records, "LARGEST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"9 images of food101 at 128 .*data\.stream"):
        data.load("food101", "train")


def test_a_set_that_is_not_prepared(data_dir):
    with pytest.raises(data.MissingDatasetError, match="prepare sun397") as caught:
        data.load("sun397", "train")
    assert str(data_dir / "sun397" / "tfds") in str(caught.value)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("damage", [pathlib.Path.unlink, cut_short])
def test_a_file_that_cannot_be_opened_is_no_bad_record(damage, data_dir):
    folder = fixture.write(data_dir, "food101", {"train": 10, "validation": 6})
    file = pathlib.Path(folder) / "food101-validation.array_record-00001-of-00002"
    found = records.Records("food101", "test")
    found[0]
    damage(file)
    for fresh in (found, records.Records("food101", "test")):
        with pytest.raises(
            data.MissingDatasetError, match=r"prepare food101"
        ) as caught:
            [fresh[index] for index in range(6)]
        assert file.name in str(caught.value)


def test_a_file_that_has_too_few_records_is_no_bad_record(data_dir, tmp_path_factory):
    folder = fixture.write(data_dir, "food101", {"train": 10, "validation": 6})
    other = fixture.write(
        tmp_path_factory.mktemp("other"), "food101", {"train": 10, "validation": 4}
    )
    name = "food101-validation.array_record-00001-of-00002"
    shutil.copy(pathlib.Path(other) / name, pathlib.Path(folder) / name)
    found = records.Records("food101", "test")
    with pytest.raises(data.MissingDatasetError, match="has 2 records, so no record 2"):
        [found[index] for index in range(6)]
