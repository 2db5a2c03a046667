"""Reads examples of a prepared set by index and decodes them without TensorFlow."""

import dataclasses
import functools
import itertools
import os
from typing import Any

import numpy as np

from kd_heuristics.data import described, tfds
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.images import central_square, decode
from kd_heuristics.data.prepared import Prepared
from kd_heuristics.runtime.errors import first_line

# The largest set that is loaded into memory; use `data.stream` for larger sets.
LARGEST_BYTES = 32 * 2**30


class BadRecordError(Exception):
    """Reports a record that is not a labelled image; names the file and record."""


@dataclasses.dataclass(frozen=True)
class Records:
    """Reads the examples of one split by index; `records[i]` is `(pixels, label)`.

    Pixels are uint8 [height, width, 3]; see `images.decode`. It can be pickled for
    another process, which opens the files at its first read.

    Attributes:
      name: as `described.entry` takes it.
      split: "train", "validation" or "test", if the set has it.

    Raises, when first used:
      MissingDatasetError: the set was not prepared, or not as array_record, or one of
        its files is missing or cannot be opened.
      ValueError: the set has another number of classes than expected.
      BadRecordError: this record cannot be decoded; others may be readable.
    """

    name: str
    split: str

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < len(self):
            raise IndexError(
                f"{self.name} {self.split} has {len(self)} examples, so no example "
                f"{index}"
            )
        try:
            example = self._source[index]
            pixels, label = decode(example["image"]), int(example["label"])
        # array_record, tfds and Pillow have no common error for damaged records.
        except Exception as error:
            self._check_file(index)
            raise BadRecordError(
                f"{self.where(index)} cannot be used ({first_line(error)})"
            ) from error
        if not 0 <= label < self.entry.num_classes:
            raise BadRecordError(
                f"{self.where(index)} has the label {label}, but {self.name} has "
                f"{self.entry.num_classes} classes"
            )
        return pixels, label

    def where(self, index: int) -> str:
        """Describes the file and record of an example."""
        file, record = self._place(index)
        return f"record {record} of {file} (example {index})"

    def __getstate__(self):
        return {"name": self.name, "split": self.split}  # without open readers

    def __setstate__(self, state):
        self.__dict__.update(state)

    @functools.cached_property
    def entry(self) -> Prepared:
        """The description of the set."""
        return described.entry(self.name)

    @functools.cached_property
    def directory(self) -> Any:
        """The folder of the prepared set."""
        return tfds.find(self.entry.base, self.entry.config)

    @functools.cached_property
    def _builder(self) -> Any:
        """The tfds builder of the set, with a checked number of classes."""
        import tensorflow_datasets  # a second of import, for these sets only

        with tfds.reading(self.entry.base, self.directory):
            builder = tensorflow_datasets.builder_from_directory(self.directory)
            found = builder.info.features["label"].num_classes
        expected = self.entry.num_classes
        if found != expected:
            raise ValueError(
                f"{self.name} in {self.directory} has labels of {found} classes, not "
                f"{expected}: it is another set or version; move it away and prepare "
                f"it again:\n{tfds.remedy(self.entry.base)}"
            )
        return builder

    @functools.cached_property
    def _source(self) -> Any:
        """The random-access source of encoded examples."""
        from tensorflow_datasets import decode, features

        builder = self._builder
        # Images and masks stay encoded: tfds would decode them with OpenCV, or warn
        # that OpenCV is missing.
        decoders: Any = {
            name: decode.SkipDecoding()
            for name, feature in builder.info.features.items()
            if isinstance(feature, features.Image)
        }
        with tfds.reading(self.entry.base, self.directory):
            self._check_files()
            return builder.as_data_source(split=self._tfds_split, decoders=decoders)

    def _check_files(self):
        """Raises FileNotFoundError if a file of the split is missing."""
        found = {path.name for path in self.directory.iterdir()}
        names = [os.path.basename(part.filename) for part in self._instructions]
        missing = [name for name in names if name not in found]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} files of the split {self.split} are "
                f"missing, the first is {missing[0]}"
            )

    def _check_file(self, index):
        """Raises MissingDatasetError if an example's file, not its record, is bad."""
        from array_record.python import array_record_module

        file, record = self._place(index)
        with tfds.reading(self.entry.base, self.directory):
            try:
                reader = array_record_module.ArrayRecordReader(file)
                count = reader.num_records()
                reader.close()
            except Exception as error:
                raise ValueError(f"{file} cannot be opened: {error}") from error
            if record >= count:
                raise ValueError(f"{file} has {count} records, so no record {record}")

    def _place(self, index: int) -> tuple[str, int]:
        """Finds the file of an example and its record number there."""
        ends = itertools.accumulate(part.take for part in self._instructions)
        part, end = next(
            (part, end)
            for part, end in zip(self._instructions, ends, strict=True)
            if index < end
        )
        return os.fspath(part.filename), part.skip + index - (end - part.take)

    @property
    def _tfds_split(self) -> str:
        """The split's name in tfds."""
        return self.entry.splits[self.split]

    @functools.cached_property
    def _instructions(self):
        """The files of the split and the range of records that it takes from each."""
        return self._builder.info.splits[self._tfds_split].file_instructions


def load(name: str, split: str, size: int) -> Dataset:
    """Loads one split of a prepared set into memory.

    An image of another size is cropped to its central square and resized; see
    `images.central_square`.

    Args:
      name: as `described.entry` takes it.
      split: one of its splits.
      size: side in pixels.

    Raises:
      MissingDatasetError: the set was not prepared, was prepared in another format, or
        is damaged.
      ValueError: the pixels exceed `LARGEST_BYTES`, or the set has another number of
        classes than expected.
    """
    records = Records(name, split)
    needed = len(records) * size**2 * 3
    if needed > LARGEST_BYTES:
        raise ValueError(
            f"{len(records):,} images of {name} at {size} x {size} are "
            f"{needed / 2**30:.0f} GiB; read them with data.stream, or at a smaller "
            "size"
        )
    images = np.empty((len(records), size, size, 3), np.uint8)
    labels = np.empty(len(records), np.int32)
    with tfds.reading(records.entry.base, records.directory):
        for index in range(len(records)):
            pixels, labels[index] = records[index]
            images[index] = central_square(pixels, size)
    return Dataset(images, labels, records.entry.num_classes, name)
