"""Checks the arguments of this package's losses, with uniform messages."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.runtime.precision import common_type, widened


def floats(name: str, value: ArrayLike) -> jax.Array:
    """Returns the array in its own floating-point type.

    Raises: ValueError for integers, which are labels or pixels rather than activations.

    >>> floats("student", np.zeros(2, np.float32)).dtype
    dtype('float32')
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} holds {array.dtype}; wanted real floating-point values: if these "
            "are the right values, convert them with .astype('float32')"
        )
    return array


def alike(
    student: ArrayLike, teacher: ArrayLike, what: str, remedy: str
) -> tuple[jax.Array, jax.Array]:
    """Returns both arrays in at least float32, with the teacher's gradient stopped.

    Args:
      student: [batch, ...].
      teacher: same shape.
      what: name of the arrays in messages, such as "logits".
      remedy: advice for arrays of different shapes.

    Raises: ValueError if the shapes differ, an array has only the batch axis, or its
      values are not floating-point.
    """
    arrays = [floats(f"student {what}", student), floats(f"teacher {what}", teacher)]
    if arrays[0].shape != arrays[1].shape:
        raise ValueError(
            f"student and teacher {what} must have one shape, got {arrays[0].shape} "
            f"and {arrays[1].shape}; {remedy}"
        )
    if arrays[0].ndim < 2:
        raise ValueError(
            f"{what} have shape {arrays[0].shape}; wanted [batch, ...]: give a single "
            "example as x[None]"
        )
    student, teacher = (widened(array) for array in arrays)
    dtype = common_type(student.dtype, teacher.dtype)
    return student.astype(dtype), jax.lax.stop_gradient(teacher.astype(dtype))


def logits(name: str, value: ArrayLike) -> jax.Array:
    """Returns logits [batch, ..., classes] in at least float32.

    Raises: ValueError for fewer than two axes, fewer than two classes, or integers.
    """
    array = floats(name, value)
    if array.ndim < 2 or array.shape[-1] < 2:
        raise ValueError(
            f"{name} have shape {array.shape}; wanted [batch, ..., classes] with at "
            "least 2 classes: give a single example as x[None]"
        )
    return widened(array)


def both_logits(
    student_logits: ArrayLike, teacher_logits: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Returns the logits of both, with the teacher's gradient stopped.

    Raises: ValueError if the shapes differ; see also `logits`.
    """
    logits("student logits", student_logits)
    logits("teacher logits", teacher_logits)
    return alike(
        student_logits,
        teacher_logits,
        "logits",
        "give both the same images; for other label sets or vocabularies compare the "
        "classes in common, transfer.on_common, or features",
    )


def softened_logits(
    student_logits: ArrayLike, teacher_logits: ArrayLike, scale: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `both_logits`, and the temperature `scale` in their type.

    Raises: ValueError as `both_logits`, or if the temperature is not positive.
    """
    student, teacher = both_logits(student_logits, teacher_logits)
    temperature(scale)
    return student, teacher, jnp.asarray(scale, student.dtype)


def class_labels(labels: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Returns integer labels of a shape in at least int32, which fits every class.

    Raises: ValueError for another shape or type.
    """
    array = integers(labels)
    if array is None or array.shape != shape:
        raise ValueError(
            f"labels are {jnp.result_type(labels)}{list(np.shape(labels))}; wanted "
            f"integers {list(shape)}, one class per example: for one-hot rows or "
            "logits take x.argmax(-1)"
        )
    return array


def soft_labels(
    labels: ArrayLike, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Returns labels that are shares of the classes, and which positions are valid.

    Args:
      labels: float [batch, ..., classes], which add up to 1: labels mixed as
        `data.views.mix` mixes images.
      shape: of the logits.

    Raises: ValueError for another shape, or if known shares are negative or do not add
      up to 1 within 1 %, the error of bfloat16. Traced ones are not valid.
    """
    shares = widened(labels)
    if shares.shape != shape:
        raise ValueError(
            f"soft labels have shape {list(shares.shape)}; wanted shares "
            f"{list(shape)} of the logits' classes, or integers {list(shape[:-1])}"
        )
    valid = (shares >= 0).all(-1) & (jnp.abs(shares.sum(-1) - 1) <= 0.01)
    if not isinstance(valid, jax.core.Tracer) and not valid.all():
        wrong = np.asarray(shares)[~np.asarray(valid)][0]
        raise ValueError(
            "soft labels must be shares of the classes, at least 0, that add up to 1, "
            f"got {wrong.tolist()}; for logits take jax.nn.softmax(x), for their "
            "decisions x.argmax(-1)"
        )
    return shares, valid


def within(name: str, indices: jax.Array, size: int, remedy: str) -> jax.Array:
    """Returns which indices lie in [0, size); traced ones may lie outside.

    Raises: ValueError if a known index lies outside.
    """
    inside = (indices >= 0) & (indices < size)
    if not isinstance(inside, jax.core.Tracer) and not inside.all():
        wrong = np.asarray(indices)[~np.asarray(inside)][0]
        raise ValueError(f"{name} must lie in [0, {size}), got {wrong}; {remedy}")
    return inside


def integers(value: ArrayLike) -> jax.Array | None:
    """Returns integers in at least int32; `None` for other types.

    Integers too wide for JAX are clipped to the largest or smallest valid one, which
    indexes nothing. Wrapping would turn them into other indices.

    >>> integers(np.array([2**32 + 1, 3])).tolist()
    [2147483647, 3]
    """
    if not isinstance(value, jax.Array):
        value = np.asarray(value)
        if value.dtype.kind in "iu" and value.dtype.itemsize == 8:
            info = jnp.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
            # Unsigned integers have no negative limit.
            value = value.clip(info.min if value.dtype.kind == "i" else 0, info.max)
            value = value.astype(info.dtype)
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return None
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def temperature(value: Any) -> None:
    """Checks that a softmax temperature is positive and finite."""
    values.require("temperature", value, 0, "1 is the plain softmax", strict=True)


def weight(name: str, value: Any) -> None:
    """Checks that the weight of a term is finite and not negative."""
    values.require(name, value, 0, "0 leaves the term out")


def weighted(value: ArrayLike, term: jax.Array) -> jax.Array:
    """Returns `value * term`; a known weight of 0 leaves out a term that is infinite.

    >>> weighted(0.0, jnp.array([jnp.inf, 2.0])).tolist()
    [0.0, 0.0]
    """
    left_out = not isinstance(value, jax.core.Tracer) and not np.any(value)
    return jnp.zeros_like(term) if left_out else jnp.asarray(value * term)
