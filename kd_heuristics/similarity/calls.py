"""Around every computation: check the input, run the program, read its report."""

import contextlib
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime import compiled, decompositions
from kd_heuristics.similarity.measure import Measure


class SaturationWarning(UserWarning):
    """Too few examples for the width: some correlations are 1 for any data."""


@contextlib.contextmanager
def own_rules() -> Generator[None]:
    """Set dtype promotion and matmul precision as the measures need them.

    A user's `jax_numpy_dtype_promotion="strict"` would reject a real factor times a
    complex one. A low `jax_default_matmul_precision` costs digits. `jax_debug_nans`
    would stop before `look` can name the layer that holds NaN.
    """
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision("highest"),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield


def run(program: Callable, *arguments: Any) -> tuple[Any, bool]:
    """Returns the program's value, and whether it is concrete (not traced)."""
    with own_rules():
        if compiled.traced(arguments):
            return program(*arguments), False
        return decompositions.now(program, *arguments), True


def labelled(argument: str, layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers under the names that messages show; ValueError if there are none."""
    if not layers:
        raise ValueError(f"{argument} holds no layer")
    return {f"{argument}[{name!r}]": array for name, array in layers.items()}


@own_rules()
def activations(arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The arrays as float32, float64 or complex, checked for comparison.

    Args:
      arrays: name for messages -> [examples, units] or
        [examples, positions..., channels] with one or two position axes.

    Raises: ValueError for another number of axes, an integer dtype, no units or
    positions, fewer than two examples, or a number of examples unlike the first's.
    """
    out = {}
    for name, value in arrays.items():
        array = as_array(name, value)
        check_layout(name, array)
        if array.shape[0] < 2:
            raise ValueError(
                f"{name} has {array.shape[0]} example(s); give at least 2, and many "
                "more than there are units for a meaningful value"
            )
        array = jnp.asarray(array)
        half = array.dtype.itemsize < 4
        out[name] = array.astype(jnp.float32) if half else array
    same_examples(out)
    return out


def as_array(name: str, value: Any) -> Any:
    """Returns an array or shape as it is, anything else as NumPy reads it.

    NumPy reads nested numbers and tensors of other libraries, such as PyTorch's.

    Raises: TypeError for a sequence of arrays, a dictionary, and what NumPy cannot
    read, such as a tensor on another device or with a gradient.
    """
    if isinstance(getattr(value, "dtype", None), np.dtype):
        return value
    if isinstance(value, list | tuple) and (
        parts := [leaf for leaf in jax.tree.leaves(value) if np.ndim(leaf) > 0]
    ):
        raise TypeError(
            f"{name} is a {type(value).__name__} of {len(parts)} arrays, not an array: "
            "give each of them its own name"
        )
    try:
        array = np.asarray(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {_type(value)} that NumPy cannot read ({error}); for a "
            "PyTorch tensor give .detach().cpu().float().numpy()"
        ) from error
    if array.dtype == object:
        raise TypeError(f"{name} is a {_type(value)}, not an array of activations")
    return array


def check_layout(name: str, array: Any) -> None:
    """Raise ValueError for a wrong number of axes, integers or an empty axis."""
    if array.ndim not in (2, 3, 4):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; wanted [examples, units], "
            "[examples, positions, channels] or [examples, h, w, channels]"
        )
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise ValueError(
            f"{name} holds {array.dtype}; activations must be floating point: convert "
            "them with .astype('float32') if these are the right values"
        )
    if 0 in array.shape[1:]:
        raise ValueError(f"{name} has shape {tuple(array.shape)}: nothing to compare")


def same_examples(arrays: Mapping[str, jax.Array]) -> None:
    """Raise ValueError unless all arrays have the same number of examples."""
    first = next(iter(arrays))
    for name, array in arrays.items():
        if len(array) != len(arrays[first]):
            raise ValueError(
                f"{name} has {len(array)} examples and {first} {len(arrays[first])}: "
                "compare all layers on the same examples, in one order"
            )


def require_finite(names: Sequence[str], finite: Sequence[bool] | np.ndarray) -> None:
    """Raise ValueError naming the layers that hold NaN or infinity."""
    bad = [name for name, good in zip(names, finite, strict=True) if not good]
    if bad:
        raise ValueError(
            f"{', '.join(bad)}: NaN or infinite values; find the step at which the "
            "network diverged, or leave these layers out"
        )


def enough_examples(measure: Measure, examples: int) -> None:
    """Raise ValueError if the measure needs more examples."""
    if examples < 2:
        raise ValueError(f"at least 2 examples are needed, got {examples}")
    if measure.name == "knn" and measure.k >= examples:
        raise ValueError(
            f"k must be below the number of examples, got k={measure.k} and {examples} "
            f"examples; take at most k={examples - 1}"
        )
    if measure.debiased and examples < 4:
        raise ValueError(
            f"debiased cka needs at least 4 examples, got {examples}; take "
            "debiased=False"
        )


def only_moments(measure: Measure) -> None:
    """Raise ValueError for a measure that second moments cannot give."""
    if not measure.streams:
        raise ValueError(
            f"{measure.name} compares all examples with each other, which second "
            "moments do not hold: take matrix, with activations of a few thousand "
            "examples"
        )


def look(
    report: Any,
    names: tuple[Sequence[str], Sequence[str]],
    saturates: bool,
    stacklevel: int,
) -> None:
    """Raise for layers that are not finite; warn about too few examples.

    Args:
      report: `comparing.Report`, on the host.
      names: layers of both sides.
      saturates: whether too few examples push the measure to 1.
      stacklevel: of the warning, from this function.
    """
    for side, finite in zip(names, report.finite, strict=True):
        require_finite(side, finite)
    pairs = [pair for group in report.pairs for pair in _saturated(*group)]
    if saturates and pairs:
        _warn_saturated(pairs, names, stacklevel + 1)


def _saturated(layer_a, layer_b, rank_a, rank_b, examples):
    """Comparisons whose ranks add up to more than the examples can tell apart.

    n centred examples span n - 1 dimensions. Two layers of rank p and q share at
    least p + q - (n - 1) of them, whatever the layers are.
    """
    over = np.flatnonzero(np.asarray(rank_a) + np.asarray(rank_b) > examples - 1)
    columns = (layer_a, layer_b, rank_a, rank_b)
    return [(*(int(c[i]) for c in columns), int(examples)) for i in over]


def _warn_saturated(pairs, names, stacklevel):
    """Warn about these comparisons; the message names the worst one."""
    i, j, p, q, n = max(pairs, key=lambda pair: pair[2] + pair[3] - pair[4])
    others = len({pair[:2] for pair in pairs}) - 1
    more = f" (and {others} more pairs of layers)" if others else ""
    shared = min(p + q - (n - 1), p, q)
    warnings.warn(
        f"{n} examples are too few for {names[0][i]} ({p} directions) against "
        f"{names[1][j]} ({q}){more}: at least {shared} correlations are 1 for any "
        f"data. Take far more than {p + q} examples, or fewer directions by svcca; "
        "noise_floor gives the value of independent data",
        SaturationWarning,
        stacklevel=stacklevel,
    )


def _type(value):
    """Name of a value's class, with its library unless it is built in."""
    kind = type(value)
    library = kind.__module__.split(".")[0]
    return kind.__name__ if library == "builtins" else f"{library}.{kind.__name__}"
