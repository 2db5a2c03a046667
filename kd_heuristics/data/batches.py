"""Batches as a pure function of seed and step: no iterator whose state gets lost."""

import dataclasses
import fractions
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32

from kd_heuristics.data.augment import augment
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.order import permute
from kd_heuristics.runtime import nearest, values

Batch = dict[str, jax.Array]
Arrays = Mapping[str, Any]  # of any names, each [examples, ...]

# What happens to examples that do not fill the last batch of an epoch: see
# `batch_indices`.
REMAINDERS = ("drop", "carry", "keep")

# What the keys of a seed are for. Folded in where others fold in steps, which are below
# 2^31: no key of ours equals a key that a trainer derives from the same seed.
_ORDER, _AUGMENT = np.uint32(2**32 - 1), np.uint32(2**32 - 2)


def train_batches(
    dataset: Dataset | Arrays,
    batch_size: SupportsIndex,
    *,
    padding: SupportsIndex = 0,
    flip: bool = False,
    index: bool = False,
    remainder: str = "drop",
) -> Callable[..., Batch]:
    """The endless stream of training batches of a set, `(seed, step) -> batch`.

    A batch is `{"images": uint8 [b, h, w, c], "labels": int32 [b]}`: not normalised,
    which is the objective's part. Which examples it holds says `batch_indices`; how
    they are cropped and flipped is drawn from seed and step as well. Works under jit,
    scan and vmap with a traced seed and step.

    Args:
      dataset: its arrays go to the device and become leaves of the result, a
        `jax.tree_util.Partial`: given to a compiled function as an argument, the set is
        not built into the program as a constant. Streams of equal settings share
        one program. Or a dictionary of arrays [n, ...], such as `{"tokens": ...}`, of
        which a batch has the same keys.
      batch_size: examples a batch, at most as many as the set has.
      padding: of `augment.random_crop`, in pixels.
      flip: mirrors each image with probability one half.
      index: batches also hold "index", int32 [b]: the examples' places in the set, for
        targets that were stored (`ensemble_targets`, `distill.store`). With padding or
        flip they hold "augmented", true [b], too: outputs that `distill.store` computed
        on the originals refuse them.
      remainder: "drop", "carry" or "keep", see `batch_indices`.

    Raises:
      ValueError: the batch is empty or larger than the set; an unknown remainder.

    >>> ten = Dataset(np.zeros((10, 8, 8, 1), np.uint8), np.zeros(10, np.int32), 2)
    >>> train_batches(ten, 4)(0, 0)["images"].shape
    (4, 8, 8, 1)
    """
    batch_size = values.integer("batch_size", batch_size, 1)
    arrays = {name: jnp.asarray(array) for name, array in _arrays(dataset).items()}
    steps_per_epoch(len(next(iter(arrays.values()))), batch_size)
    sample = _Sample(
        batch_size,
        values.integer("padding", padding, 0),
        bool(flip),
        bool(index),
        check_remainder(remainder),
    )
    if "images" not in arrays and (sample.padding or sample.flip):
        raise ValueError(
            f"padding and flip are for images, but the set has {', '.join(arrays)}"
        )
    return jax.tree_util.Partial(sample, arrays)


@dataclasses.dataclass(frozen=True)
class _Sample:
    """What of a stream is static; equal samples compile once."""

    batch_size: int
    padding: int
    flip: bool
    index: bool
    remainder: str

    def __call__(self, arrays, seed, step) -> Batch:
        seed = values.seed(seed)
        count = len(next(iter(arrays.values())))
        chosen = batch_indices(seed, step, count, self.batch_size, self.remainder)
        key = jax.random.fold_in(
            jax.random.fold_in(jax.random.key(seed), _AUGMENT), step
        )
        batch = {name: array[chosen] for name, array in arrays.items()}
        augmented = self.padding > 0 or self.flip
        if augmented:
            batch["images"] = augment(
                batch["images"], key, padding=self.padding, flip=self.flip
            )
        if not self.index:
            return batch
        sign = {"augmented": jnp.ones(len(chosen), bool)} if augmented else {}
        return {**batch, "index": chosen, **sign}


def _arrays(dataset: Dataset | Arrays) -> dict[str, Any]:
    """Returns the arrays of a set by name; raises ValueError if they do not fit."""
    if isinstance(dataset, Dataset):
        return {"images": dataset.images, "labels": dataset.labels}
    if not isinstance(dataset, Mapping) or not dataset or "mask" in dataset:
        found = f"the keys {[*dataset]}" if isinstance(dataset, Mapping) else dataset
        raise ValueError(
            "a set is a data.Dataset or a dictionary of arrays [examples, ...], and "
            f'"mask" is the name of the padding\'s; got {found!r}'
        )
    counts = {name: (*np.shape(array), None)[0] for name, array in dataset.items()}
    if len({*counts.values()}) > 1 or not all(counts.values()):
        raise ValueError(
            f"arrays of a set must have equal numbers of examples, at least 1, got "
            f"{counts}"
        )
    return dict(dataset)


def batch_indices(
    seed: SupportsIndex | jax.Array,
    step: SupportsIndex | jax.Array,
    num_examples: SupportsIndex,
    batch_size: SupportsIndex,
    remainder: str = "drop",
) -> Int32[Array, " b"]:
    """Which examples batch `step` holds: int32 [batch_size].

    Each epoch has a fresh permutation (`order.permute`), of the key of the seed with
    the epoch's number folded in. If batch_size divides num_examples, all remainders
    give the same batches.

    Args:
      seed: an integer of at most 32 bits.
      step: steps since the start, from 0.
      num_examples: of the set.
      batch_size: examples a batch.
      remainder: what happens to examples that do not fill the last batch of an epoch.
        "drop" leaves them out of that epoch, which has num_examples // batch_size
        steps. "carry" puts them into a batch with the first examples of the next
        epoch, as big_vision does (Beyer et al. 2022): it repeats the set before it
        batches. Over whole epochs each example is then seen equally often, and a batch
        can hold an example twice only if it spans the end of an epoch. "keep" makes
        them a batch of their own, repeated until it is full: its mean is that over the
        smaller batch which PyTorch's loaders keep, if their number divides batch_size;
        else some weigh once more than others.

    Raises:
      ValueError: the batch is empty or larger than the set; an unknown remainder.

    >>> first, second = (batch_indices(0, step, 4, 2).tolist() for step in (0, 1))
    >>> sorted(first + second)
    [0, 1, 2, 3]
    >>> two = [i for step in range(4) for i in batch_indices(0, step, 6, 3, "carry")]
    >>> sorted(map(int, two))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    num_examples = values.integer("num_examples", num_examples)
    size = values.integer("batch_size", batch_size, 1)
    steps_per_epoch(num_examples, size)  # raises
    key = jax.random.fold_in(jax.random.key(values.seed(seed)), _ORDER)

    def of_epoch(epoch, places):
        return permute(jax.random.fold_in(key, epoch), places, num_examples)

    rows = jnp.arange(size, dtype=jnp.int32)
    if check_remainder(remainder) != "carry" or num_examples % size == 0:
        steps = steps_per_epoch(num_examples, size, remainder)
        epoch, batch = jnp.divmod(jnp.asarray(step), steps)
        first = batch.astype(jnp.int32) * size
        if remainder == "keep":
            rows %= jnp.minimum(size, num_examples - first)
        return of_epoch(epoch, first + rows)
    epoch, first = _position(step, size, num_examples)
    over = first + rows >= num_examples
    places = jnp.where(over, first + rows - num_examples, first + rows)
    # A batch spans at most two epochs, because it is no larger than the set.
    return jnp.where(over, of_epoch(epoch + 1, places), of_epoch(epoch, places))


def _position(step, size: int, num_examples: int) -> tuple[jax.Array, jax.Array]:
    """Epoch and place of the first example of a step whose batches are contiguous.

    divmod(step * size, num_examples) by long multiplication: the product may exceed 32
    bits (ImageNet at 9,600 epochs has 12 billion examples).
    """
    whole, part = jnp.divmod(jnp.asarray(step).astype(jnp.uint32), num_examples)
    epoch = place = jnp.zeros_like(part)
    for bit in f"{size:b}":
        carried, place = jnp.divmod(2 * place + int(bit) * part, num_examples)
        epoch = 2 * epoch + int(bit) * whole + carried
    return epoch, place.astype(jnp.int32)


def check_remainder(remainder: str, known: Sequence[str] = REMAINDERS) -> str:
    """Returns a known remainder; raises ValueError for another one."""
    nearest.choose(remainder, known, "remainder")
    return remainder


def steps_per_epoch(
    num_examples: SupportsIndex, batch_size: SupportsIndex, remainder: str = "drop"
) -> int:
    """Whole batches in a pass over the set; with "keep" also the last, incomplete one.

    Raises:
      ValueError: the batch is empty or larger than the set; an unknown remainder.

    >>> steps_per_epoch(50_000, 128), steps_per_epoch(50_000, 128, "keep")
    (390, 391)
    """
    num_examples = values.integer("num_examples", num_examples)
    batch_size = values.integer("batch_size", batch_size, 1)
    if batch_size > num_examples:
        raise ValueError(
            f"a batch of {batch_size} does not fit into a set of {num_examples} "
            f"examples; choose a batch_size of at most {num_examples}"
        )
    if check_remainder(remainder) == "keep":
        return -(-num_examples // batch_size)
    return num_examples // batch_size


def num_steps(
    epochs: SupportsIndex,
    num_examples: SupportsIndex,
    batch_size: SupportsIndex,
    remainder: str = "drop",
) -> int:
    """Steps of a training of some epochs.

    "drop": epochs * (num_examples // batch_size); "keep": the quotient rounded up.
    "carry": epochs * num_examples / batch_size, rounded to the nearest integer, of two
    to the even one.

    Args:
      epochs: passes over the set, at least 0.
      num_examples: of the set.
      batch_size: examples a batch.
      remainder: see `batch_indices`.

    Raises:
      ValueError: the batch is empty or larger than the set; an unknown remainder.

    >>> num_steps(1_000, 1_020, 512), num_steps(1_000, 1_020, 512, "carry")
    (1000, 1992)
    """
    epochs = values.integer("epochs", epochs, 0)
    whole = steps_per_epoch(num_examples, batch_size, remainder)
    if remainder != "carry":
        return epochs * whole
    num_examples, size = operator.index(num_examples), operator.index(batch_size)
    return round(fractions.Fraction(epochs * num_examples, size))


def eval_batches(dataset: Dataset | Arrays, batch_size: SupportsIndex) -> Batch:
    """The whole set in batches, each example exactly once, in the set's order.

    The last batch is filled up with zeros, which the mask leaves out.

    Args:
      dataset: of n examples; or a dictionary of arrays [n, ...], whose keys the result
        has.
      batch_size: examples a batch, at least 1; may be more than n.

    Returns: `{"images": uint8 [num_batches, b, h, w, c], "labels": int32
      [num_batches, b], "mask": bool [num_batches, b]}`, on the device.

    Raises:
      ValueError: the batch is empty, or the arrays differ in their numbers of examples.

    >>> three = Dataset(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int32), 2)
    >>> eval_batches(three, 2)["mask"].tolist()
    [[True, True], [True, False]]
    """
    batch_size = values.integer("batch_size", batch_size, 1)
    arrays = {name: np.asarray(array) for name, array in _arrays(dataset).items()}
    n = len(next(iter(arrays.values())))
    num_batches = -(-n // batch_size)

    def batched(array):
        filled = np.zeros((num_batches * batch_size, *array.shape[1:]), array.dtype)
        filled[:n] = array
        return jnp.asarray(filled.reshape(num_batches, batch_size, *array.shape[1:]))

    return {name: batched(array) for name, array in arrays.items()} | {
        "mask": batched(np.ones(n, bool))
    }
