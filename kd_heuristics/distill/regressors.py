"""Maps a student's guided layer to the shape of a teacher's hint layer."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.runtime import nearest

Params = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Regressor:
    """Linear layer `apply(params, features)`; `regressor` creates it from shapes.

    Attributes:
      kernel_shape: [k1, k2, channels in, channels out] of a convolution without
        padding, or [units in, units out].
      shape: output shape without the batch axis.
      positions: whether units are those of the last axis alone, at each position.
      convolution: `jax.lax.conv_general_dilated` or a function of the same signature.
    """

    kernel_shape: tuple[int, ...]
    shape: tuple[int, ...]
    convolution: Callable = jax.lax.conv_general_dilated
    positions: bool = False

    def init(self, key: jax.Array) -> Params:
        """Draws a normal kernel of variance 1 / fan-in and a zero bias, in float32."""
        fan_in = math.prod(self.kernel_shape[:-1])
        kernel = jax.random.normal(key, self.kernel_shape) / math.sqrt(fan_in)
        return {"kernel": kernel, "bias": jnp.zeros(self.kernel_shape[-1])}

    def apply(self, params: Params, features: ArrayLike) -> jax.Array:
        """Maps features [batch, ...] to the hint layer's shape [batch, *shape].

        Raises: ValueError for features of another shape than the regressor's.
        """
        kernel, features = params["kernel"], jnp.asarray(features)
        dtype = jnp.promote_types(features.dtype, kernel.dtype)
        features, kernel = features.astype(dtype), kernel.astype(dtype)
        self._check(features)
        if self.positions:
            bias = params["bias"].reshape((1,) * (features.ndim - 1) + (-1,))
            return features @ kernel + bias
        if kernel.ndim == 2:
            out = features.reshape(len(features), -1) @ kernel + params["bias"][None]
            return out.reshape(-1, *self.shape)
        bias = params["bias"][None, None, None]
        if kernel.shape[:2] == (1, 1):
            return features @ kernel[0, 0] + bias
        layout = ("NHWC", "HWIO", "NHWC")
        out = self.convolution(features, kernel, (1, 1), "VALID", None, None, layout)
        return out + bias

    def _check(self, features):
        """Raises ValueError for features that do not fit the kernel and output."""
        if self.positions:
            fits = features.shape[1:] == (*self.shape[:-1], self.kernel_shape[0])
        elif len(self.kernel_shape) == 2:
            fits = math.prod(features.shape[1:]) == self.kernel_shape[0]
        else:
            rows, columns = self.kernel_shape[:2]
            height, width, _ = self.shape
            wanted = height + rows - 1, width + columns - 1, self.kernel_shape[2]
            fits = features.shape[1:] == wanted
        if not fits:
            raise ValueError(
                f"features of shape {features.shape} do not fit a regressor with a "
                f"kernel of {self.kernel_shape} and an output of {self.shape}; create "
                "it from the shapes of these layers"
            )


def regressor(
    student: Any,
    teacher: Any,
    kind: str | None = None,
    *,
    convolution: Callable = jax.lax.conv_general_dilated,
) -> Regressor:
    """Creates a regressor from one layer to another, by their shapes.

    "conv" is the convolution of Romero et al. 2015, section 2.2, with stride 1 and no
    padding. Its kernel size makes the output as large as the teacher's map: k =
    h_student - h_teacher + 1, which is 1x1 for maps of one size. "positions" maps the
    last axis, with one kernel for all positions, such as the tokens of a sequence.
    "dense" flattens: it connects each output unit to all input units of all positions.

    Args:
      student: the guided layer's output, [batch, ...], or its shape.
      teacher: the hint layer's, likewise.
      kind: "conv", "positions" or "dense"; `None` uses "conv" for two maps, "positions"
        for other layers of the same positions, [batch, ..., units], else "dense".
      convolution: used for kernels larger than 1x1; `models.conv.conv_general_dilated`
        is faster on CPU.

    Raises: ValueError for an unknown kind; for "conv" if a layer is not a map or the
      student's is smaller than the teacher's; for "positions" if these differ.

    >>> guided, hint = (jax.ShapeDtypeStruct((1, n, n, n), "float32") for n in (8, 4))
    >>> regressor(guided, hint).kernel_shape
    (5, 5, 8, 4)
    >>> regressor(guided, hint, "dense").kernel_shape
    (512, 64)
    >>> tokens = [jax.ShapeDtypeStruct((1, 9, n), "float32") for n in (8, 4)]
    >>> regressor(*tokens).kernel_shape
    (8, 4)
    """
    guided, hint = tuple(student.shape[1:]), tuple(teacher.shape[1:])
    maps = len(guided) == len(hint) == 3
    alike = len(guided) > 1 and guided[:-1] == hint[:-1]
    if kind is None:
        kind = "conv" if maps else "positions" if alike else "dense"
    if nearest.choose(kind, ("conv", "positions", "dense"), "kind") == "dense":
        return Regressor((math.prod(guided), math.prod(hint)), hint, convolution)
    if kind == "positions":
        if not alike:
            raise ValueError(
                f"layers of shapes {student.shape} and {teacher.shape} do not have the "
                "same positions, [batch, positions, units]; resample one of them, or "
                "use kind='dense' for a fixed number of positions"
            )
        return Regressor((guided[-1], hint[-1]), hint, convolution, True)
    if not maps:
        raise ValueError(
            "a convolution joins maps [batch, h, w, channels], got shapes "
            f"{student.shape} and {teacher.shape}; use kind='dense'"
        )
    size = tuple(a - b + 1 for a, b in zip(guided[:2], hint[:2], strict=True))
    if min(size) < 1:
        raise ValueError(
            f"the student's map of {guided[0]}x{guided[1]} is smaller than the "
            f"teacher's of {hint[0]}x{hint[1]}; guide an earlier layer, use a later "
            "hint, or use kind='dense'"
        )
    return Regressor((*size, guided[2], hint[2]), hint, convolution)
