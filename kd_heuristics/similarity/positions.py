"""What is compared of a layer with positions: the treatments.

"dft" compares the spectrum of each channel, one frequency at a time (Raghu et al. 2017,
sec. 4). "positions" makes every position an example. "mean" averages each channel.
"auto" is "dft" for maps [n, h, w, channels], "mean" for sequences [n, tokens, units].
All of them treat a layer without positions as a 1 x 1 map.
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
class LayerView:
    """One layer at one size; it is prepared once and compared many times.

    Attributes:
      layer: index of the layer.
      size: (h, w) that its positions are pooled to.
      frequencies: frequencies that "dft" takes; otherwise empty.
    """

    layer: int
    size: Size
    frequencies: tuple[Frequency, ...] = ()

    @property
    def slots(self) -> int:
        """Number of parts that are compared separately."""
        return max(len(self.frequencies), 1)


def check_treatment(conv: str) -> None:
    """Raise ValueError for an unknown treatment, with the nearest one."""
    nearest.choose(conv, TREATMENTS, "treatment of layers with positions")


def map_size(shape: tuple[int, ...]) -> Size:
    """(h, w) of activations [examples, ..., channels].

    >>> map_size((5, 8, 6, 3)), map_size((5, 10, 3)), map_size((5, 3))
    ((8, 6), (10, 1), (1, 1))
    """
    h, w = (*shape[1:-1], 1, 1)[:2]
    return h, w


def treatment(shape: tuple[int, ...], conv: str) -> str:
    """What `conv` means for activations of this shape; "none" without positions.

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
    """(h, w) of what is compared; (1, 1) for means.

    >>> compared_size((5, 8, 6, 3), "auto"), compared_size((5, 10, 3), "auto")
    ((8, 6), (1, 1))
    """
    return (1, 1) if treatment(shape, conv) == "mean" else map_size(shape)


def half_spectrum(size: Size) -> dict[Frequency, int]:
    """Frequencies of an h x w map up to sign, each with its multiplicity.

    A real map's spectrum at -f is the conjugate of that at f, and CCA gives the same
    value for conjugates. The range is -size/2 <= f < size/2; a frequency of an even
    size whose opposite lies outside it stands for itself alone.

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
    """One of the examples, to be subtracted from every example first.

    Differences of nearby floats are exact. A large mean therefore costs no digits, and
    a constant unit becomes exactly zero. With positions as examples, all positions of a
    channel share one shift.

    Returns: one example, which broadcasts against x.
    """
    one = jax.lax.stop_gradient(x[index][None])
    if conv == "positions" and x.ndim > 2:
        one = one[(slice(None), *(slice(0, 1),) * (x.ndim - 2), slice(None))]
    return one


def level(origin: Inexact[Array, "1 ... c"]) -> Float[Array, " c"]:
    """Root mean square of a shift over positions, for each channel."""
    positions = origin.size // origin.shape[-1]
    return _root_sum(origin) * positions**-0.5


def norm(
    x: Inexact[Array, "n ... c"], weight: Float[Array, " n"]
) -> Float[Array, " c"]:
    """Norm of each channel's map, as root mean square over the counted examples.

    Args:
      x: shifted activations; 0 for examples that do not count.
      weight: 1 for each example that counts, otherwise 0.
    """
    count = jnp.maximum(jnp.sum(weight), 1)
    return _root_sum(jax.lax.stop_gradient(x)) / jnp.sqrt(count)


def rounding(
    views: Sequence[LayerView],
    shapes: Sequence[tuple[int, ...]],
    levels: Sequence[jax.Array],
    norms: Sequence[jax.Array],
    conv: str,
) -> Float[Array, "slots c"]:
    """Size of the numbers whose rounding errors the slots of some views carry.

    One source is the shift. Sums over positions are another: if the activations lack a
    frequency, their spectrum there is not 0 but a rounding error, measured at up to
    0.6 eps of the norm of the map.

    Args:
      views: the views.
      shapes: shape of each layer.
      levels: `level` of each layer's shift.
      norms: `norm` of each layer's shifted activations.
      conv: treatment of positions.
    """
    out = []
    for view in views:
        h, w = map_size(shapes[view.layer])
        size = levels[view.layer]
        if (h, w) != (1, 1) and (view.frequencies or (h, w) != view.size):
            share = 1 if _spectral(view, shapes[view.layer], conv) else (h * w) ** -0.5
            size = jnp.hypot(size, 2 * share * norms[view.layer])
        out.append(jnp.tile(size, (view.slots, 1)))
    return jnp.concatenate(out)


def extract(
    view: LayerView, x: Inexact[Array, "n ..."], conv: str
) -> Inexact[Array, "slots m c"]:
    """The rows that the view compares, m in each slot.

    Linear in x, and the same map for every example.
    """
    h, w = map_size(x.shape)
    maps = x.reshape(len(x), h, w, x.shape[-1])
    if _spectral(view, x.shape, conv):
        return _spectrum(maps, view.frequencies)
    if (h, w) != view.size:
        maps = _pool(maps, view.size)
    return maps.reshape(1, -1, x.shape[-1])


def of_shift(
    view: LayerView, shift: Inexact[Array, "1 ..."], shape: tuple[int, ...], conv: str
) -> Inexact[Array, "slots c"]:
    """`extract` of a layer whose every example is `shift`."""
    full = jnp.broadcast_to(shift, (1, *shape[1:]))
    return extract(view, full, conv)[:, 0]


def _spectral(view, shape, conv):
    """Whether a spectrum is taken; means have none."""
    return bool(view.frequencies) and compared_size(shape, conv) != (1, 1)


def _root_sum(x):
    """Norm of each channel, scaled by the largest entry lest squares overflow.

    Neither the norm nor its derivative depends on the scale.
    """
    flat = x.reshape(-1, x.shape[-1])
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(flat), axis=0))
    relative = flat * divide_where(top > 0, 1.0, top)[None, :]
    return top * jnp.sqrt(jnp.sum(squares(relative), axis=0))


def _spectrum(maps, frequencies):
    """Orthonormal Fourier transform at some frequencies, as matrix products.

    Orthonormality keeps every frequency at the scale of the activations. Products serve
    because few frequencies are wanted, and for the reason given in `decompositions`.
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
    """Real and imaginary parts of the transform [frequencies, size]."""
    # Drop whole turns as integers: an angle of many turns has few digits.
    turns = np.outer(frequencies, np.arange(size)) % size
    angle = -2 * np.pi * turns / size
    parts = np.cos(angle) / size**0.5, np.sin(angle) / size**0.5
    return tuple(jnp.asarray(part, dtype) for part in parts)


def _along(weights, maps, axis):
    """Multiply one axis of each map by a matrix."""
    product = jnp.tensordot(weights, maps, (1, axis), precision="highest")
    return jnp.moveaxis(product, 0, axis)


def _pool(maps, size):
    """Area means, for sizes that need not divide the maps'."""
    for axis, target in zip((1, 2), size, strict=True):
        weights = jnp.asarray(_area_weights(maps.shape[axis], target), maps.dtype)
        maps = _along(weights, maps, axis)
    return maps


def _area_weights(source, target):
    """Share of each source cell in each target cell; rows sum to 1."""
    edges = np.arange(target + 1) * (source / target)
    cells = np.arange(source)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(
        edges[:-1, None], cells
    )
    return np.maximum(overlap, 0) * (target / source)
