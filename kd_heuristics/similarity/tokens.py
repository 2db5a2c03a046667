"""Token sequences as layers [rows, units]."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime import compiled, nearest
from kd_heuristics.similarity import calls


@calls.own_rules()
def tokens(
    acts: Mapping[str, Any],
    mask: Any = None,
    *,
    take: str = "mean",
    heads: str = "together",
) -> dict[str, jax.Array]:
    """Turn layers [examples, tokens, units] into [rows, units] for any measure.

    `matrix` averages tokens by itself (conv="auto") but cannot tell which are padding;
    `stream` and `stream_matrix` take such a mask themselves.
    With conv="dft" it compares frequencies along the sequence.

    Args:
      acts: layer name -> [examples, tokens, units] or [examples, tokens, heads, units].
      mask: bool [examples, tokens], true for tokens that count; `None` counts all.
      take: "mean" makes one row for each example, the mean of its tokens. "each" makes
        one row for each token that counts. Tokens of one example are not independent,
        so a permutation test of such rows rejects too often.
      heads: "together" puts the units of all heads side by side. "apart" makes one
        layer for each head: "name/0", "name/1".

    Returns: layer name -> float [rows, units].

    Raises:
      ValueError: a wrong number of axes; a mask of another shape than the tokens; a
        mask that leaves an example without tokens ("mean") or fewer than two tokens
        ("each"); "each" with a traced mask, which would decide the number of rows.

    >>> x = jnp.arange(12.0).reshape(2, 3, 2)
    >>> mask = np.array([[True, True, False], [True, False, False]])
    >>> tokens({"h": x}, mask)["h"].tolist()
    [[1.0, 2.0], [6.0, 7.0]]
    >>> tokens({"h": x}, mask, take="each")["h"].shape
    (3, 2)
    """
    nearest.choose(take, ("mean", "each"), "take")
    nearest.choose(heads, ("together", "apart"), "heads")
    out = {}
    for name, value in acts.items():
        label = f"acts[{name!r}]"
        array = calls.as_array(label, value)
        if array.ndim not in (3, 4):
            raise ValueError(
                f"{label} has shape {tuple(array.shape)}; wanted [examples, tokens, "
                "units] or [examples, tokens, heads, units]"
            )
        counts = _mask(label, mask, array.shape[:2], take)
        array = jnp.asarray(array)
        array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
        rows = _mean(array, counts) if take == "mean" else array[counts]
        if rows.ndim == 2:
            out[name] = rows
        elif heads == "together":
            out[name] = rows.reshape(len(rows), -1)
        else:
            out |= {f"{name}/{i}": rows[:, i] for i in range(rows.shape[1])}
    return out


def means(acts: Mapping[str, Any], mask: Any) -> dict[str, jax.Array]:
    """Layers with tokens as means over those that count; [examples, units] unchanged.

    Args:
      acts: layer name -> activations.
      mask: as in `tokens`.
    """
    return {
        name: x if x.ndim == 2 else tokens({name: x}, mask)[name]
        for name, x in acts.items()
    }


def checked_mask(mask: Any, examples: int) -> Any:
    """The mask of a data set.

    Raises: ValueError unless it is bool [examples, tokens] with a token of each example
    (which code that traces the mask cannot check).
    """
    mask = calls.as_array("mask", mask)
    if mask.ndim != 2 or len(mask) != examples or mask.dtype != bool:
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; wanted bool [{examples}, "
            "tokens], true for tokens that count"
        )
    if not compiled.traced(mask):
        _check_every_example(np.asarray(mask))
    return mask


def _mask(label, mask, shape, take):
    """The mask, checked against the tokens [examples, tokens] of a layer."""
    if mask is None:
        return np.ones(shape, bool)
    mask = calls.as_array("mask", mask)
    if tuple(mask.shape) != tuple(shape) or mask.dtype != bool:
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}, {label} wants bool "
            f"{tuple(shape)}"
        )
    if compiled.traced(mask):
        if take == "each":
            raise ValueError(
                'take="each" needs a mask that is not traced: call tokens outside of '
                'jit, or take="mean"'
            )
        return mask
    mask = np.asarray(mask)
    if take == "each" and mask.sum() < 2:
        raise ValueError(f"mask leaves {mask.sum()} tokens; at least 2 are needed")
    if take == "mean":
        _check_every_example(mask)
    return mask


def _check_every_example(mask):
    """Raise ValueError if the mask leaves an example without tokens."""
    if len(empty := np.flatnonzero(~mask.any(1))):
        raise ValueError(
            f"mask leaves no token of example {empty[0]} (and {len(empty) - 1} more): "
            "leave these examples out of all layers"
        )


def _mean(array, counts):
    """Mean over the tokens that count."""
    weight = jnp.asarray(counts).reshape(*counts.shape, *[1] * (array.ndim - 2))
    # A product would spread NaN from padding.
    kept = jnp.where(weight, array, 0)
    return jnp.sum(kept, axis=1) / jnp.sum(weight, axis=1).astype(array.dtype)
