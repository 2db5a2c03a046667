"""Stores a teacher's outputs on a whole set: all of them, or the largest logits."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.distill import checks
from kd_heuristics.distill.teachers import Teacher, teachable
from kd_heuristics.runtime import values
from kd_heuristics.runtime.precision import widened

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Largest:
    """The N largest logits of each row, and one logit that all other classes share.

    At the temperature that they were stored for, the other classes together keep their
    probability, which is spread evenly. A row takes 4 N + 8 bytes, for up to 65,536
    classes: with 1,000 classes and N = 32 it is 3.4 % of float32 logits.

    Attributes:
      values: float16 [..., N], logits minus their row's largest.
      classes: integers [..., N], where they belong.
      ends: float32 [..., 2], the row's largest logit, and the other classes' logit.
      masked: bool [classes], true for classes that are -inf in all rows.
    """

    values: Any
    classes: Any
    ends: Any
    masked: Any

    def map_rows(self, function: Callable, masked: Any) -> "Largest":
        """Applies a function to the arrays that have rows, and gives a new mask."""
        values, classes, ends = map(function, (self.values, self.classes, self.ends))
        return Largest(values, classes, ends, masked)

    def logits(self) -> jax.Array:
        """Returns float32 [..., classes]."""
        top, rest = self.ends[..., :1], self.ends[..., 1:]
        shape = (*rest.shape[:-1], len(self.masked))
        # A row of NaN is a place outside the set, and stays one.
        out = self.masked.reshape((1,) * (rest.ndim - 1) + (-1,)) & ~jnp.isnan(rest)
        spread = jnp.where(out, -jnp.inf, jnp.broadcast_to(rest, shape))
        kept = self.values.astype(top.dtype) + top
        classes = self.classes.astype(jnp.int32)
        return jnp.put_along_axis(spread, classes, kept, axis=-1, inplace=False)


def store(
    teacher: Callable,
    batches: PyTree,
    num_examples: int | None = None,
    *,
    largest: int | None = None,
    temperature: float = 1.0,
) -> Teacher:
    """Computes a teacher's outputs on a whole set once; returns them as a teacher.

    For a set that is not augmented: an example's outputs must always be the same. The
    teacher refuses batches that say that they were augmented or cropped (below), but
    cannot know what else was done to the images, such as mixing them.

    A step of FSP's first stage was 1.9 times as fast with stored flow matrices for a
    ResNet-26 that teaches a ResNet-8, 1.2 times for two ResNet-14 (half and full width,
    batch 32, 2 CPU cores); Yim et al. have 35 s against 19 s, 1.8 times.

    Args:
      teacher: a function of a batch; its outputs are float arrays [batch, ...].
      batches: arrays [num_batches, batch, ...], the set in order.
      num_examples: examples in all; later outputs, of padding, are dropped. `None`
        keeps all.
      largest: logits to keep in each row, as in `stored`; `None` keeps all outputs.
      temperature: the loss's temperature, as in `stored`.

    Returns: a teacher of batches with "index", as of `stored`. Its `variables` are the
      outputs, [num_examples, ...].

    Raises: ValueError if the batches hold fewer examples than that; for outputs that
      are integers, which hold no NaN; for `largest` and `temperature` as `stored`. When
      called, also for batches whose images were augmented: "augmented" by
      `data.train_batches`, or cropped by a view.

    >>> teacher = store(lambda x: 2 * x, jnp.arange(6.0).reshape(3, 2), 5)
    >>> teacher({"index": jnp.array([4, 0])}).tolist()
    [8.0, 0.0]
    """
    checks.temperature(temperature)
    teacher = teachable(teacher)
    shapes = jax.eval_shape(_mapped, teacher, batches)
    _check_floats(shapes)
    cut = _truncated(shapes, largest, "(num_batches, batch, ..., classes)", 3)
    if cut is not None:
        teacher = jax.tree_util.Partial(cut, teacher, jnp.float32(temperature))
    outputs = _mapped(teacher, batches)
    if isinstance(outputs, Largest):
        outputs = outputs.map_rows(lambda x: x, _one_mask(outputs.masked))

    def unbatched(rows):
        rows = rows.reshape(-1, *rows.shape[2:])
        if num_examples is not None and not num_examples <= len(rows):
            raise ValueError(
                f"the batches hold {len(rows)} examples, fewer than num_examples="
                f"{num_examples}"
            )
        return rows[:num_examples]

    outputs = _map_rows(unbatched, outputs)
    return Teacher(_of_originals, outputs)


def stored(
    outputs: PyTree, *, largest: int | None = None, temperature: float = 1.0
) -> Teacher:
    """Makes a teacher of outputs on a whole set, such as `data.ensemble_targets`.

    With `largest`, it keeps each row's N largest logits, and of all other classes their
    joint probability at `temperature`, spread evenly. The loss must have that
    temperature. On a trained teacher of 1,000 classes, N = 32 changed the gradient by
    0.05 % at T = 1, 3 % at T = 2 and 37 % at T = 4, where the other classes hold 71 %
    of the probability: a higher temperature takes more logits. For N = classes, all
    logits are kept as they are.

    Args:
      outputs: float arrays [num_examples, ...], row i of example i.
      largest: N, in [1, classes], for outputs that are logits [num_examples, ...,
        classes]; `None` keeps all outputs.
      temperature: T of the loss, positive; used with `largest` only.

    Returns: a teacher of batches with "index", integers [batch], the examples' places
      in the set; NaN for all others, negative ones such as `data.UNLABELLED` too. It
      cannot tell whether the outputs are those of the batch's pixels: see `store`.

    Raises: ValueError for outputs that are integers, which hold no NaN; for N out of
      its range, or classes that are -inf in some rows alone; for a temperature that is
      not positive; when called, for batches without such an "index".

    >>> teacher = stored(jnp.array([[0.5], [2.0]]))
    >>> teacher({"index": jnp.array([1, 0, -1, 2])}).ravel().tolist()
    [2.0, 0.5, nan, nan]
    >>> teacher = stored(jnp.log(jnp.array([[0.5, 0.3, 0.1, 0.1]])), largest=2)
    >>> jax.nn.softmax(teacher({"index": jnp.array([0])})).round(3).tolist()
    [[0.5, 0.30000001192092896, 0.10000000149011612, 0.10000000149011612]]
    """
    checks.temperature(temperature)
    outputs = jax.tree.map(jnp.asarray, outputs)
    _check_floats(outputs)
    cut = _truncated(outputs, largest, "(num_examples, ..., classes)", 2)
    if cut is not None:
        found = cut(None, jnp.float32(temperature), outputs)
        outputs = found.map_rows(lambda x: x, _one_mask(found.masked[None]))
    return Teacher(_stored, outputs)


@dataclasses.dataclass(frozen=True)
class _Truncated:
    """The N largest logits of a teacher's, with `masked` as (in all, in any) row."""

    count: int

    def __call__(self, teacher, temperature, inputs) -> Largest:
        logits = widened(inputs if teacher is None else teacher(inputs))
        top = logits.max(-1, keepdims=True)
        values, classes = jax.lax.top_k(logits, self.count)
        taken = jnp.put_along_axis(
            jnp.zeros(logits.shape, bool), classes, True, axis=-1, inplace=False
        )
        out = jnp.isneginf(logits)
        left = jnp.where(taken, -jnp.inf, (logits - top) / temperature)
        number = (~taken & ~out).sum(-1, keepdims=True).astype(top.dtype)
        mean = jax.nn.logsumexp(left, -1, keepdims=True) - jnp.log(number)
        rest = jnp.where(number == 0, -jnp.inf, top + temperature * mean)
        below = values - top
        limits = jnp.finfo(jnp.float16)
        half = jnp.where(jnp.isneginf(below), below, below.clip(float(limits.min)))
        rows = out.reshape(-1, out.shape[-1])
        return Largest(
            half.astype(jnp.float16),
            classes.astype(jnp.uint16 if logits.shape[-1] <= 2**16 else jnp.int32),
            jnp.concatenate([top, rest], -1).astype(jnp.float32),
            jnp.stack([rows.all(0), rows.any(0)]),
        )


def _truncated(outputs, largest, axes: str, rank: int) -> _Truncated | None:
    """What keeps the largest logits, `None` for all; checks the number of them."""
    if largest is None:
        return None
    leaves = jax.tree.leaves(outputs)
    if not hasattr(outputs, "shape") or len(outputs.shape) < rank:
        raise ValueError(
            f"largest={largest} keeps logits {axes}, got outputs of "
            f"{', '.join(str(leaf.shape) for leaf in leaves)}; leave out `largest` to "
            "store any outputs"
        )
    classes = outputs.shape[-1]
    remedy = f"there are {classes} classes"
    number = values.integer("largest", largest, 1, classes, remedy)
    return _Truncated(number) if number < classes else None


def _one_mask(masks) -> jax.Array:
    """The classes that are -inf in all rows; raises ValueError if rows differ.

    Args:
      masks: bool [parts, 2, classes], -inf in all and in any row of a part.
    """
    every, some = np.asarray(masks[:, 0]).all(0), np.asarray(masks[:, 1]).any(0)
    if (every != some).any():
        raise ValueError(
            f"class {np.flatnonzero(every != some)[0]} is -inf in some rows alone, "
            "which the largest logits do not keep; store all logits, without `largest`"
        )
    return jnp.asarray(every)


@jax.jit
def _mapped(teacher, batches):
    return jax.lax.map(teacher, batches)


def _check_floats(outputs):
    for leaf in jax.tree.leaves(outputs):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"stored outputs are {leaf.dtype}; places outside the set are NaN, "
                "which takes floating-point outputs: store logits, say, and take their "
                "argmax(-1) where it is needed"
            )


def _of_originals(outputs, batch: Mapping[str, Any]):
    """`_stored`, of batches whose pixels are those of the set."""
    signs = {"augmented": "augmented", "student_box": "cropped by a view"}
    for sign, how in signs.items():
        if isinstance(batch, Mapping) and sign in batch:
            raise ValueError(
                f"the batch's images are {how}, so outputs stored for the originals "
                "are not theirs; call the teacher itself, train without padding and "
                "flip, or average its outputs over crops with data.ensemble_targets "
                "and give those to distill.stored"
            )
    return _stored(outputs, batch)


def _stored(outputs, batch: Mapping[str, Any]):
    if not isinstance(batch, Mapping) or "index" not in batch:
        raise ValueError(
            'stored outputs are looked up by "index", which this batch lacks; make '
            "batches with data.train_batches(..., index=True) or data.stream"
        )
    index = checks.integers(batch["index"])
    if index is None:
        raise ValueError(
            f'"index" holds {jnp.result_type(batch["index"])}; wanted integers, the '
            "places of the examples in the set"
        )

    def rows(leaf):
        # JAX counts negative places from the end.
        place = jnp.where(index < 0, len(leaf), index)
        fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        return leaf.at[place].get(mode="fill", fill_value=fill)

    found = _map_rows(rows, outputs)
    return found.logits() if isinstance(found, Largest) else found


def _map_rows(function, outputs):
    if isinstance(outputs, Largest):
        return outputs.map_rows(function, outputs.masked)
    return jax.tree.map(function, outputs)
