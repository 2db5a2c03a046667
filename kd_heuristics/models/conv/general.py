"""Defines the public convolution, with `jax.lax.conv_general_dilated`'s signature."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.typing import ArrayLike, DTypeLike

from kd_heuristics.models.conv.bilinear import bilinear_conv
from kd_heuristics.models.conv.geometry import Geometry

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: Any = None,
) -> jax.Array:
    """Convolves like `jax.lax.conv_general_dilated`, with another lowering on CPU.

    out[n, y, x, d] = sum over i, j, c of
        lhs[n, stride * y + i - pad, stride * x + j - pad, c] * rhs[i, j, c, d]

    Arguments, results, errors and derivatives of every order are those of
    `jax.lax.conv_general_dilated`, up to rounding. This package lowers NHWC images with
    HWIO kernels, without dilation or groups. Everything else, and arrays on a mesh with
    `AxisType.Explicit`, goes to `jax.lax` unchanged, on every platform. Symbolic batch
    sizes in `jax.export` are supported; symbolic image or kernel sizes are not.

    Args:
      lhs: float [n, h, w, c], the images.
      rhs: float [kh, kw, c, d], the kernel.
      window_strides: vertical and horizontal distance between windows, in pixels.
      padding: "SAME", "SAME_LOWER", "VALID" or ((top, bottom), (left, right)).
      lhs_dilation: as in `jax.lax`, which handles values other than 1.
      rhs_dilation: as in `jax.lax`, which handles values other than 1.
      dimension_numbers: as in `jax.lax`, which handles all but NHWC, HWIO, NHWC.
      feature_group_count: as in `jax.lax`, which handles values other than 1.
      batch_group_count: as in `jax.lax`, which handles values other than 1.
      precision: as in `jax.lax`; CPUs always compute in float32 or float64.
      preferred_element_type: type of the result; `None` keeps the operands' type.
      out_sharding: as in `jax.lax`, which handles values other than `None`.

    Returns: float [n, h', w', d].

    Raises: TypeError and ValueError, as `jax.lax.conv_general_dilated` does.

    >>> import flax.linen as nn
    >>> layer = nn.Conv(8, (3, 3), conv_general_dilated=conv_general_dilated)
    >>> images = jnp.ones((2, 32, 32, 3))
    >>> layer.init_with_output(jax.random.key(0), images)[0].shape
    (2, 32, 32, 8)
    """
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    plain = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    result = jax.eval_shape(plain, lhs, rhs)  # raises what jax.lax raises
    if (
        not _is_image_layout(lhs, rhs, dimension_numbers)
        or any(
            dilation != 1 for dilation in (*(lhs_dilation or ()), *(rhs_dilation or ()))
        )
        or (feature_group_count, batch_group_count) != (1, 1)
        or out_sharding is not None
        or _is_explicitly_sharded(lhs, rhs)
    ):
        return plain(lhs, rhs)
    geometry = Geometry(
        input_size=lhs.shape[1:3],
        kernel_size=rhs.shape[:2],
        strides=tuple(window_strides),
        padding=_explicit_padding(lhs, rhs, window_strides, padding),
        precision=_hashable_precision(precision),
        operand_dtype=lhs.dtype,
        result_dtype=result.dtype,
    )
    if geometry.is_empty:
        return plain(lhs, rhs)
    return bilinear_conv(lhs, rhs, geometry)


def _is_image_layout(lhs, rhs, dimension_numbers):
    """Whether the operands are float NHWC images and HWIO kernels."""
    if lhs.ndim != 4 or not jnp.issubdtype(lhs.dtype, jnp.floating):
        return False
    given = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    return given == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)


def _is_explicitly_sharded(*arrays):
    """Whether an array's sharding is part of its type."""
    # Gradients of such arrays would have to state their shardings.
    return any(
        AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types
        for array in arrays
    )


def _explicit_padding(lhs, rhs, window_strides, padding):
    """Resolves padding given by name to numbers of rows and columns."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(
            lhs.shape[1:3], rhs.shape[:2], tuple(window_strides), padding
        )
    return tuple((int(low), int(high)) for low, high in padding)


def _hashable_precision(precision):
    """Resolves the default precision and makes it hashable."""
    # Resolve it here, because lowering may happen outside the user's context.
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # pyrefly: ignore
    return tuple(precision) if isinstance(precision, list) else precision
