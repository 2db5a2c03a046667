"""What of a layer with positions is compared: the treatments.

"dft": the spectrum of each channel, one comparison a frequency (Raghu et al. 2017,
sec. 4). "positions": every position is an example. "mean": channel means.
"auto": "dft" of maps [n, h, w, channels], "mean" of sequences [n, tokens, units].
A layer without positions counts as a 1 x 1 map in all of them.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from kd_heuristics.runtime import nearest
from kd_heuristics.similarity.algebra import divide_where, squares

TREATMENTS = ("auto", "dft", "positions", "mean")

Size = tuple[int, int]
Frequency = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class View:
    """One layer seen at one size; what is prepared once and compared many times.

    Attributes:
      layer: index of the layer.
      size: (h, w) that its positions are pooled to.
      frequencies: those that are taken, for "dft"; else empty.
    """

    layer: int
    size: Size
    frequencies: tuple[Frequency, ...] = ()

    @property
    def slots(self) -> int:
        """How many separately compared parts the view has."""
        return max(len(self.frequencies), 1)


def check_treatment(conv: str) -> None:
    """Raise ValueError for an unknown treatment, with the nearest one."""
    if conv not in TREATMENTS:
        near = nearest.nearest(str(conv), TREATMENTS)
        hint = f"did you mean {near!r}? " if near else ""
        raise ValueError(
            f"unknown treatment of layers with positions {conv!r}: {hint}"
            f"There are {', '.join(TREATMENTS)}"
        )


def map_size(shape: tuple[int, ...]) -> Size:
    """(h, w) of activations [examples, ..., channels].

    >>> map_size((5, 8, 6, 3)), map_size((5, 10, 3)), map_size((5, 3))
    ((8, 6), (10, 1), (1, 1))
    """
    h, w = (*shape[1:-1], 1, 1)[:2]
    return h, w


def treatment(shape: tuple[int, ...], conv: str) -> str:
    """What `conv` means for activations of a shape; "none" where it has no positions.

    >>> treatment((5, 8, 6, 3), "auto"), treatment((5, 10, 3), "auto")
    ('dft', 'mean')
    >>> treatment((5, 10, 3), "dft"), treatment((5, 3), "dft")
    ('dft', 'none')
    """
    if len(shape) == 2:
        return "none"
    if conv == "auto":
        return "mean" if len(shape) == 3 else "dft"
    return conv


def compared_size(shape: tuple[int, ...], conv: str) -> Size:
    """(h, w) of what is compared: (1, 1) of means.

    >>> compared_size((5, 8, 6, 3), "auto"), compared_size((5, 10, 3), "auto")
    ((8, 6), (1, 1))
    """
    return (1, 1) if treatment(shape, conv) == "mean" else map_size(shape)


def half_spectrum(size: Size) -> dict[Frequency, int]:
    """Frequencies of an h x w map up to sign, with how many each stands for.

    A real map's spectrum at -f is the conjugate of that at f, and CCA of conjugates is
    the same. A frequency of an even size whose opposite lies outside the
    range -size/2 <= f < size/2 stands for itself.

    >>> half_spectrum((1, 4))
    {(0, -2): 1, (0, -1): 2, (0, 0): 1}
    """
    axes = [range(-(k // 2), (k + 1) // 2) for k in size]
    everything = [(f, g) for f in axes[0] for g in axes[1]]
    out: dict[Frequency, int] = {}
    for f, g in everything:
        if (-f, -g) in out and (f, g) != (0, 0):
            out[-f, -g] = 2
        else:
            out[f, g] = 1
    return out


def shift(x: Inexact[Array, "n ..."], conv: str, index: jax.Array | int = 0):
    """What is subtracted from every example before anything else: one of them.

    Differences of nearby floats are exact, so a large mean costs no digits, and a
    constant unit becomes exactly zero. With positions as examples all positions of a
    channel must be shifted alike.

    Returns: an array that broadcasts against x, with one example.
    """
    one = jax.lax.stop_gradient(x[index][None])
    if conv == "positions" and x.ndim > 2:
        one = one[(slice(None), *(slice(0, 1),) * (x.ndim - 2), slice(None))]
    return one


def level(origin: Inexact[Array, "1 ... c"]) -> Float[Array, " c"]:
    """Root mean square of a shift over positions, a number a channel."""
    positions = origin.size // origin.shape[-1]
    return _root_sum(origin) * positions**-0.5


def norm(
    x: Inexact[Array, "n ... c"], weight: Float[Array, " n"]
) -> Float[Array, " c"]:
    """Norm of a channel's map, root mean square over the examples that count.

    Args:
      x: activations, shifted; those that do not count are 0.
      weight: 1 for each example that counts, else 0.
    """
    count = jnp.maximum(jnp.sum(weight), 1)
    return _root_sum(jax.lax.stop_gradient(x)) / jnp.sqrt(count)


def rounding(
    chosen: Sequence[View],
    shapes: Sequence[tuple[int, ...]],
    levels: Sequence[jax.Array],
    norms: Sequence[jax.Array],
    conv: str,
) -> Float[Array, "slots c"]:
    """Size of the numbers whose rounding the slots of some views carry.

    The shift is one of them. Sums over positions have another: where the activations
    hold nothing of a frequency, their spectrum is not 0 but what rounding leaves, seen
    at up to 0.6 eps of the norm of the map.

    Args:
      chosen: the views.
      shapes: of each layer.
      levels: of each layer's shift.
      norms: of each layer's shifted activations.
      conv: treatment of positions.
    """
    out = []
    for view in chosen:
        h, w = map_size(shapes[view.layer])
        size = levels[view.layer]
        if (h, w) != (1, 1) and (view.frequencies or (h, w) != view.size):
            share = 1 if _spectral(view, shapes[view.layer], conv) else (h * w) ** -0.5
            size = jnp.hypot(size, 2 * share * norms[view.layer])
        out.append(jnp.tile(size, (view.slots, 1)))
    return jnp.concatenate(out)


def extract(
    view: View, x: Inexact[Array, "n ..."], conv: str
) -> Inexact[Array, "slots m c"]:
    """The examples that the view compares, m of them in each slot.

    Linear in x, and the same for every example.
    """
    h, w = map_size(x.shape)
    maps = x.reshape(len(x), h, w, x.shape[-1])
    if _spectral(view, x.shape, conv):
        return _spectrum(maps, view.frequencies)
    if (h, w) != view.size:
        maps = _pool(maps, view.size)
    return maps.reshape(1, -1, x.shape[-1])


def of_shift(
    view: View, shift: Inexact[Array, "1 ..."], shape: tuple[int, ...], conv: str
) -> Inexact[Array, "slots c"]:
    """What `extract` makes of a layer that is `shift` for every example."""
    full = jnp.broadcast_to(shift, (1, *shape[1:]))
    return extract(view, full, conv)[:, 0]


def _spectral(view, shape, conv):
    """Whether a spectrum is taken: of means there is none."""
    return bool(view.frequencies) and compared_size(shape, conv) != (1, 1)


def _root_sum(x):
    """Norm of each channel; relative to the largest entry, or huge squares overflow.

    The norm does not depend on what it is relative to, and neither does its slope.
    """
    flat = x.reshape(-1, x.shape[-1])
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(flat), axis=0))
    relative = flat * divide_where(top > 0, 1.0, top)[None, :]
    return top * jnp.sqrt(jnp.sum(squares(relative), axis=0))


def _spectrum(maps, frequencies):
    """Orthonormal Fourier transform at the wanted frequencies, as matrix products.

    Orthonormal, so that every frequency has the scale of the activations. Products,
    because few frequencies are wanted, and for the reason in `decompositions`.
    """
    rows, columns = (sorted(set(axis)) for axis in zip(*frequencies, strict=True))
    real, imag = _fourier(rows, maps.shape[1], maps.dtype)
    once = _along(real, maps, 1), _along(imag, maps, 1)
    real, imag = _fourier(columns, maps.shape[2], maps.dtype)
    spectrum = jax.lax.complex(
        _along(real, once[0], 2) - _along(imag, once[1], 2),
        _along(imag, once[0], 2) + _along(real, once[1], 2),
    )
    f = np.array([rows.index(f) for f, _ in frequencies])
    g = np.array([columns.index(g) for _, g in frequencies])
    return jnp.moveaxis(spectrum[:, f, g], 1, 0)


def _fourier(frequencies, size, dtype):
    # Whole turns are dropped as integers: an angle of many turns has few digits.
    turns = np.outer(frequencies, np.arange(size)) % size
    angle = -2 * np.pi * turns / size
    parts = np.cos(angle) / size**0.5, np.sin(angle) / size**0.5
    return tuple(jnp.asarray(part, dtype) for part in parts)


def _along(weights, maps, axis):
    """Each map's `axis` multiplied by a matrix."""
    product = jnp.tensordot(weights, maps, (1, axis), precision="highest")
    return jnp.moveaxis(product, 0, axis)


def _pool(maps, size):
    """Area means, also where the size is no divisor."""
    for axis, target in zip((1, 2), size, strict=True):
        weights = jnp.asarray(_area_weights(maps.shape[axis], target), maps.dtype)
        maps = _along(weights, maps, axis)
    return maps


def _area_weights(source, target):
    """Share of each source cell in each target cell, rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    cells = np.arange(source)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(
        edges[:-1, None], cells
    )
    return np.maximum(overlap, 0) * (target / source)
