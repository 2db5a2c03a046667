"""Training and held-out images of the FunMatch study, and their crops.

Small sets are kept in memory and cropped on the device. Large ones (`streamed`) are
read and cropped on the host while the device trains; their held-out sets are in memory.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.own import Own
from experiments.common.task import NOTHING
from experiments.funmatch.config import Config
from experiments.funmatch.lengths import REMAINDER
from kd_heuristics import data
from kd_heuristics.data.views import View
from kd_heuristics.runtime import compiled, parallel

PyTree = Any
CHUNK = 8192  # held-out images on the device at once


class Sets:
    """The sets of a run.

    Attributes:
      train: images of the students; None if they are streamed.
      num_examples: number of the students' images.
      whole: images of the teacher, more than `train` or all; None if streamed.
      teacher_examples: number of the teacher's images.
      others: unrelated images, as many as `train`; None if no arm needs them.
      related: similar images, likewise.
      held: the sets "validation" and "test", and of "train" at most as many images as
        of the latter, unless they are streamed.
      num_classes: number of classes.
      channels: number of image channels.
    """

    def __init__(
        self, config: Config, mesh: jax.sharding.Mesh | None, own: Own = NOTHING
    ):
        self._config, self._mesh, self._own = config, mesh, own
        self.train = self.whole = self.others = self.related = None
        if config.streamed:
            view = data.views.create("same/ic", teacher_size=config.student_size)
            stream = self._stream(config.dataset, view, 0)
            self.num_examples = self.teacher_examples = stream.num_examples
            self.num_classes = stream.num_classes
            self.channels = 3
        else:
            whole = self._load("train")
            self.whole = whole.take(config.teacher_examples)
            self.train = whole.take(config.train_examples)
            self.num_examples, self.teacher_examples = len(self.train), len(self.whole)
            self.num_classes = whole.num_classes
            self.channels = whole.images.shape[-1]
            self.others = self._other("others", config.others)
            self.related = self._other("related", config.related)
        self.held = {
            name: self._load(split).take(config.held_examples)
            for name, split in (
                ("validation", "validation"),
                ("test", config.test_split),
            )
        }
        if self.train is not None:  # for fidelity
            self.held["train"] = self.train.take(
                min(len(self.train), len(self.held["test"]))
            )

    def _load(self, split: str) -> data.Dataset:
        """Loads a split of the user's images, or of the config's set."""
        if self._own.dataset is not None:
            return self._own.load(self._config, split)
        return data.load(self._config.dataset, split, self._config.stored_size)

    def _other(self, images: str, name: str | None) -> data.Dataset | None:
        """Loads another set's images if an arm needs them; its labels are not used."""
        if name is None or not self._config.has(images=images):
            return None
        assert self.train is not None
        other = data.load(name, "train", self._config.stored_size)
        if other.images.shape[-1] != self.channels:
            raise ValueError(
                f"{images} must have images of {self.channels} channels, as the "
                f"training images have, got {name} with {other.images.shape[-1]}"
            )
        return other.take(min(len(self.train), len(other)))

    def batches(self, whose: str, view: View, seed: int) -> Callable | data.Stream:
        """Makes training batches: `(seed, step) -> batch`, or a stream for one seed.

        Args:
          whose: "train", "whole", "others" or "related".
          view: view whose crops a stream cuts.
          seed: seed of a stream.
        """
        if self._config.streamed:
            names = {"others": self._config.others, "related": self._config.related}
            name = names.get(whose, self._config.dataset)
            assert name is not None, f"{whose} has no set"
            return self._stream(name, view, seed)
        return data.train_batches(
            getattr(self, whose),
            self._config.batch_size,
            index=True,
            remainder=REMAINDER,
        )

    def _stream(self, name: str, view: View, seed: int) -> data.Stream:
        config = self._config
        return data.stream(
            name,
            "train",
            config.batch_size,
            seed,
            view=view,
            workers=config.workers,
            on_bad=config.on_bad,
            remainder=REMAINDER,
            mesh=self._mesh,
        )


def looks(
    dataset: data.Dataset,
    batch_size: int,
    size: int,
    fraction: float,
    kind: str = "central",
    mesh: jax.sharding.Mesh | None = None,
) -> Iterator[tuple[int, dict[str, jax.Array]]]:
    """Yields a set in chunks, as networks see it in evaluation.

    A mesh splits each batch over its devices.

    Yields: number of examples of a chunk, and its batches [num_batches, b, ...].
    """
    for start in range(0, len(dataset), CHUNK):
        part = data.Dataset(
            dataset.images[start : start + CHUNK],
            dataset.labels[start : start + CHUNK],
            dataset.num_classes,
            dataset.name,
        )
        found = data.eval_batches(part, parallel.divisible(batch_size, mesh))
        if mesh is not None:
            found = parallel.split_batches(found, mesh)
        images = _looked(found["images"], size, fraction, kind)
        yield len(part), {**found, "images": images}


@functools.partial(compiled.jit, static_argnames=("size", "fraction", "kind"))
def _looked(images, size, fraction, kind):
    """Crops batches of images as networks see them in evaluation."""
    return jax.lax.map(
        lambda batch: data.views.look(batch, size, kind, fraction), images
    )


# The arguments are those of `looks`, which it calls.
def logits(
    teacher: Callable,
    dataset: data.Dataset,
    batch_size: int,
    size: int,
    fraction: float,
    kind: str = "central",
    mesh: jax.sharding.Mesh | None = None,
) -> np.ndarray:
    """Computes a teacher's logits [n, classes] for a set, in evaluation mode."""
    parts = [
        parallel.to_host(_mapped(teacher, chunk["images"])).reshape(
            -1, dataset.num_classes
        )[:count]
        for count, chunk in looks(dataset, batch_size, size, fraction, kind, mesh)
    ]
    return np.concatenate(parts)


@compiled.jit
def _mapped(teacher, images):
    return jax.lax.map(teacher, images)


def batched(values: np.ndarray, like: jax.Array) -> jax.Array:
    """Batches values [n, ...] as `like` [num_batches, b, ...], padded with zeros.

    >>> batched(np.ones((3, 1)), jnp.zeros((2, 2, 5))).shape
    (2, 2, 1)
    """
    count, size = like.shape[:2]
    filled = np.zeros((count * size, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return jnp.asarray(filled.reshape(count, size, *values.shape[1:]))
