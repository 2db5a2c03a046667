"""Holds labelled images in memory."""

import dataclasses
from typing import SupportsIndex

import numpy as np

from kd_heuristics.data import image_layout
from kd_heuristics.runtime import values

UNLABELLED = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Holds one split of an image set in host memory.

    Attributes:
      images: uint8 [n, h, w, c].
      labels: int32 [n] in [0, num_classes), converted from any integer type; all
        `UNLABELLED` (-1) if the set has no classes.
      num_classes: number of classes. It is 0 for a set without labels, so that creating
        a network for that set fails.
      name: name of the set, for messages.

    Raises:
      ValueError: the fields are inconsistent; the message names the field.

    >>> two = Dataset(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1], np.int32), 2)
    >>> len(two), len(two.take(1))
    (2, 1)
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    name: str = ""

    def __post_init__(self):
        self._check_arrays()
        self._check_labels()
        # Safe after the check: every label that passed it fits int32.
        object.__setattr__(self, "labels", self.labels.astype(np.int32, copy=False))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, count: SupportsIndex | None) -> "Dataset":
        """Returns the first `count` examples; `None` returns all.

        Raises:
          ValueError: `count` is below 1 or above the number of examples.
        """
        if count is None:
            return self
        count = values.integer("count", count)
        if not 1 <= count <= len(self):
            raise ValueError(
                f"{self._who} has {len(self)} examples, so 1..{len(self)} of them can "
                f"be taken; got {count}"
            )
        return dataclasses.replace(
            self, images=self.images[:count], labels=self.labels[:count]
        )

    @property
    def _who(self) -> str:
        """Names the set in messages."""
        return f"the set {self.name!r}" if self.name else "the set"

    def _check_arrays(self):
        """Raises ValueError for wrong types, shapes or lengths."""
        images, labels = self.images, self.labels
        image_layout.check(images.shape, f"images of {self._who}")
        if images.dtype != np.uint8:
            raise ValueError(
                f"images of {self._who} must be uint8 pixels, got {images.dtype}; "
                "convert values in [0, 1] by (255 * images).round().astype('uint8')"
            )
        image_layout.check_labels(labels, f"labels of {self._who}")
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{self._who} has {len(self.images)} images but {len(self.labels)} "
                "labels"
            )
        if self.images.size == 0:
            raise ValueError(
                f"{self._who} holds no pixels: images are {list(self.images.shape)}"
            )

    def _check_labels(self):
        """Raises ValueError for labels outside the classes."""
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if self.num_classes < 0:
            raise ValueError(
                f"num_classes must not be negative, got {self.num_classes}"
            )
        if self.num_classes == 0 and not lowest == highest == UNLABELLED:
            raise ValueError(
                f"{self._who} has no classes, so its labels must all be {UNLABELLED}; "
                f"got {lowest}..{highest}"
            )
        if self.num_classes > 0 and not 0 <= lowest <= highest < self.num_classes:
            raise ValueError(
                f"labels of {self._who} must lie in 0..{self.num_classes - 1}, got "
                f"{lowest}..{highest}"
            )
