"""Similarity of two networks over a data set, a batch at a time."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp

from kd_heuristics.runtime import compiled, parallel
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity import calls
from kd_heuristics.similarity.activations import Features
from kd_heuristics.similarity.measure import Measure
from kd_heuristics.similarity.streaming import Accumulator
from kd_heuristics.similarity.tokens import checked_mask, means

PyTree = Any


def stream(
    features_a: Features,
    features_b: Features | None,
    images: PyTree,
    *,
    batch_size: SupportsIndex = 256,
    conv: str = "auto",
    debiased: bool = False,
    mask: Any = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Accumulator:
    """Accumulate the moments of two networks over a data set on the device.

    One compiled loop holds the activations of one batch at a time. If the data do not
    fit on the device, call `Accumulator.update` with each batch. If the moments do not
    fit, take `stream_matrix`.

    Args:
      features_a: `images -> {name: activations}`, for instance from `capture`.
      features_b: the other network's; `None` compares the first with itself.
      images: array [examples, ...] or a pytree of such arrays. The functions get
        batches of it unchanged (scale uint8 images there).
      batch_size: examples per step; each example counts exactly once.
      conv: as in `Accumulator.init`.
      debiased: as in `Accumulator.init`.
      mask: bool [examples, tokens], true for tokens that count: layers [examples,
        tokens, units] become means over these tokens, whatever `conv` is. A layer of
        four axes is [examples, tokens, heads, units], also a map [examples, height,
        width, channels] whose height is the number of tokens: leave maps out. A pair of
        masks serves networks that see other tokens. `None` counts all.
      mesh: devices that share each batch; each needs the images and the functions'
        arrays (`parallel.replicate`). `None` leaves the arrays where they are.

    Returns: the accumulator; `.result(measure)` is the map.

    Raises: ValueError for a batch_size below 1, for images without examples or with
    unequal numbers of them, and for a mask of another shape than the tokens or without
    any token of an example.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> acc = stream(lambda x: {"twice": 2 * x}, None, x, batch_size=16, conv="mean")
    >>> acc.count.item(), acc.names_a
    (50, ('twice',))
    """
    batch_size = _checked(images, batch_size)
    functions = as_partial(features_a), features_b and as_partial(features_b)
    if mask is not None:
        functions, images = _masked(functions, images, mask)
    size = min(batch_size, len(jax.tree.leaves(images)[0]))
    return _streamed(*functions, images, size, conv, debiased, mesh)


def stream_matrix(
    features_a: Features,
    features_b: Features | None,
    images: PyTree,
    measure: str = "svcca",
    *,
    batch_size: SupportsIndex = 256,
    conv: str = "auto",
    max_bytes: SupportsIndex = 2**31,
    mask: Any = None,
    mesh: jax.sharding.Mesh | None = None,
    **options: Any,
) -> jax.Array:
    """The map of two networks over a data set, in bounded memory.

    `stream` holds the moments of all pairs of layers at once. For the spectra of two
    VGG-16 on 32 x 32 images these take 8.8 GB, for any number of examples. This
    function takes as many layers at a time as `max_bytes` allows. Each block of the map
    costs a pass over the data and a compiled program.

    Args:
      features_a: as in `stream`.
      features_b: as in `stream`.
      images: as in `stream`.
      measure: as in `matrix`.
      batch_size: as in `stream`.
      conv: as in `matrix`.
      max_bytes: size of one block's moments; a block has at least one pair of layers.
        Peak memory is about twice this (1.5 times measured on CPU), plus about 4 times
        the activations of a batch.
      mask: as in `stream`.
      mesh: as in `stream`; its devices also share the layers and pairs.
      **options: `variance`, `directions`, `debiased`, `epsilon`, as in `matrix`.

    Returns: float [layers_a, layers_b], in the order of the sorted names, which
    zero-padded numbers keep.

    Raises: ValueError, and warns, as `stream` and `matrix`.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> def features(x):
    ...     return {"0_raw": x, "1_twice": 2 * x}
    >>> stream_matrix(features, None, x, "cka", conv="mean").round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    settings = {"batch_size": batch_size, "conv": conv, "max_bytes": max_bytes}
    found = stream_matrices(
        features_a,
        features_b,
        images,
        (measure,),
        mask=mask,
        mesh=mesh,
        **settings,
        **options,
    )
    return found[measure]


def stream_matrices(
    features_a: Features,
    features_b: Features | None,
    images: PyTree,
    measures: Sequence[str],
    *,
    batch_size: SupportsIndex = 256,
    conv: str = "auto",
    max_bytes: SupportsIndex = 2**31,
    mask: Any = None,
    mesh: jax.sharding.Mesh | None = None,
    **options: Any,
) -> dict[str, jax.Array]:
    """The maps of several measures from the same moments: `{measure: map}`.

    The networks run once for any number of measures. Otherwise as `stream_matrix`.
    """
    batch_size = _checked(images, batch_size)
    max_bytes = integer("max_bytes", max_bytes)
    kinds = [Measure(name=measure, **options) for measure in measures]
    for kind in kinds:
        calls.only_moments(kind)
    debiased = any(kind.debiased for kind in kinds)
    functions = [as_partial(f) for f in (features_a, features_b or features_a)]
    if mask is not None:
        functions, images = _masked(functions, images, mask)
    shapes = [_shapes(function, images) for function in functions]
    how = {"conv": conv, "debiased": debiased}

    def size(*block):
        acts = [_part(shape, part) for shape, part in zip(shapes, block, strict=True)]
        return _bytes(partial(Accumulator.init, **how), *acts)

    blocks = list(_blocks(size, max_bytes, *(slice(0, len(s)) for s in shapes)))
    found: list[dict[str, jax.Array]] = []
    for block in blocks:
        a, b = (
            jax.tree_util.Partial(_Only(tuple(_part(shape, part))), function)
            for shape, part, function in zip(shapes, block, functions, strict=True)
        )
        moments = stream(a, b, images, batch_size=batch_size, mesh=mesh, **how)
        results = partial(moments.result, mesh=mesh, **options)
        found.append({measure: results(measure) for measure in measures})
    out = {}
    for measure in measures:
        value = jnp.zeros([len(shape) for shape in shapes], found[0][measure].dtype)
        for block, values in zip(blocks, found, strict=True):
            value = value.at[block].set(values[measure])
        out[measure] = value
    return out


@partial(compiled.jit, static_argnames=("size", "conv", "debiased", "mesh"))
def _streamed(features_a, features_b, images, size, conv, debiased, mesh=None):
    """`stream` as one compiled loop over batches of `size` examples."""
    total = len(jax.tree.leaves(images)[0])

    def batch(start):
        part = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), images
        )
        return part if mesh is None else parallel.constrain_batch(part, mesh)

    def both(start):
        part = batch(start)
        return features_a(part), None if features_b is None else features_b(part)

    def step(acc, index):
        # The last batch starts early enough to be full; a mask drops repeated examples.
        start = jnp.minimum(index * size, total - size)
        fresh = start + jnp.arange(size) >= index * size
        return acc.update(*both(start), fresh), None

    empty = Accumulator.init(*jax.eval_shape(both, 0), conv=conv, debiased=debiased)
    return jax.lax.scan(step, empty, jnp.arange(-(-total // size)))[0]


def _masked(functions, images, mask) -> tuple[list, tuple]:
    """The functions with their layers' means, and the images with the masks.

    Raises ValueError for masks that are wrong for any layer.
    """
    masks = mask if isinstance(mask, tuple) else (mask, mask)
    if len(masks) != 2 or (functions[1] is None and masks[0] is not masks[1]):
        raise ValueError(
            "mask must be an array, or a pair of them for two networks, got "
            f"{len(masks)} for {1 if functions[1] is None else 2}"
        )
    examples = len(jax.tree.leaves(images)[0])
    masks = tuple(checked_mask(one, examples) for one in masks)
    new = [
        function and jax.tree_util.Partial(_Means(side), function)
        for side, function in enumerate(functions)
    ]
    return new, (images, masks)


@dataclasses.dataclass(frozen=True)
class _Means:
    """The layers of a function as means over the tokens that a side's mask keeps."""

    side: int

    def __call__(self, features, both):
        images, masks = both
        return means(features(images), masks[self.side])


@dataclasses.dataclass(frozen=True)
class _Only:
    """Some layers of a function; compiled code does not compute the others."""

    names: tuple[str, ...]

    def __call__(self, features, images):
        found = features(images)
        return {name: found[name] for name in self.names}


def _blocks(size, limit, rows, columns) -> Iterator[tuple[slice, slice]]:
    """Halve a map until each block is within the limit or a single pair.

    >>> blocks = _blocks(lambda r, c: r.stop - r.start, 2, slice(0, 3), slice(0, 1))
    >>> [(rows.start, rows.stop) for rows, _ in blocks]
    [(0, 1), (1, 3)]
    """
    height, width = (part.stop - part.start for part in (rows, columns))
    if height * width == 1 or size(rows, columns) <= limit:
        yield rows, columns
    elif height >= width:
        middle = rows.start + height // 2
        yield from _blocks(size, limit, slice(rows.start, middle), columns)
        yield from _blocks(size, limit, slice(middle, rows.stop), columns)
    else:
        middle = columns.start + width // 2
        yield from _blocks(size, limit, rows, slice(columns.start, middle))
        yield from _blocks(size, limit, rows, slice(middle, columns.stop))


def _shapes(features, images):
    """Layer name -> shape of one example, sorted by name."""
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), images
    )
    return dict(sorted(jax.eval_shape(features, one).items()))


def _part(shapes, part):
    """A slice of the layers."""
    return dict(list(shapes.items())[part])


def _bytes(function, *arguments):
    """Bytes of a function's result, without running it."""
    leaves = jax.eval_shape(lambda *args: jax.tree.leaves(function(*args)), *arguments)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _checked(images, batch_size) -> int:
    """The batch size as an int; raises ValueError for a bad size or bad images."""
    batch_size = integer("batch_size", batch_size, 1)
    counts = sorted({len(leaf) for leaf in jax.tree.leaves(images)})
    if len(counts) != 1 or counts[0] == 0:
        raise ValueError(
            "images must be arrays [examples, ...] with equal numbers of examples, at "
            f"least 1; got {counts or 'no array'}"
        )
    return batch_size
