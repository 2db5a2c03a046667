"""Every layer against every layer in one compiled program.

Each layer is prepared (whitened) once, however often it is compared.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import calls, comparing, factors, positions, slots
from kd_heuristics.similarity.measure import Measure, PreparedLayer

Activations = Mapping[str, Any]


def matrix(
    acts_a: Activations | Sequence[Activations],
    acts_b: Activations | Sequence[Activations] | None = None,
    measure: str = "svcca",
    conv: str = "auto",
    *,
    mirror: bool = False,
    variance: SupportsFloat = 0.99,
    directions: SupportsIndex | None = None,
    debiased: bool = False,
    epsilon: SupportsFloat = 1e-6,
    k: SupportsIndex = 10,
    distance: str | None = None,
    correlation: str = "spearman",
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """Similarity of every layer of one network to every layer of another.

    Entry [i, j] compares the i-th layer of `acts_a` with the j-th of `acts_b`, in the
    order of the dictionaries. (jit sorts the keys: number them, as `network.features`
    does.) One compiled program whitens each layer once and compares all pairs; pairs of
    equal shape run batched.

    Values are finite for dead, duplicate and constant units, low rank and more units
    than examples. A constant layer has similarity 0 with everything. The map can be
    jitted, vmapped and differentiated.

    Args:
      acts_a: layer name -> activations [examples, units],
        [examples, positions, channels] or [examples, h, w, channels]; or a sequence
        of such dictionaries, one for each checkpoint.
      acts_b: like `acts_a`, on the same examples. `None` compares `acts_a` with itself,
        which costs half if the measure is symmetric.
      measure: "cca" (mean correlation over min(p, q)), "svcca", "pwcca" (asymmetric:
        weighted by `acts_a`), "cka", "debiased_cka", "google_cca", "procrustes", "knn"
        or "rsa"; see the functions. The last two hold an n x n matrix for each layer.
      conv: what is compared of layers with positions. "dft" makes one complex
        comparison for each frequency and averages over the frequencies of the smaller
        map; the larger map's are cropped to these. "positions" makes every position an
        example and averages the larger map down to the smaller. "mean" takes channel
        means. "auto" is "dft" for maps and "mean" for [examples, positions, channels],
        which are more often tokens than a line of pixels. `treatments` tells what each
        layer gets.
      mirror: compute only j >= i and copy it below the diagonal, as the paper's
        figures did. Needs equal numbers of layers. The result looks symmetric even if
        the networks are not.
      variance: for svcca.
      directions: for svcca.
      debiased: for cka.
      epsilon: for google_cca.
      k: for knn.
      distance: for knn and rsa.
      correlation: for rsa.
      mesh: devices that share the layers and pairs; each needs all activations
        (`parallel.replicate`). `None` leaves the arrays where they are.

    Returns: float [layers_a, layers_b]. Each sequence of checkpoints adds a leading
    axis: [checkpoints_a, checkpoints_b, layers_a, layers_b].

    Raises:
      ValueError: an unknown measure or treatment; a layer that holds integers, has
        fewer than two examples or another number than the others, or holds NaN or
        infinity. The message names the layer. Traced code cannot check values and
        returns NaN for the pairs of a layer that holds NaN or infinity.

    Warns: `SaturationWarning` (not under jit) if the examples are too few.

    >>> key = jax.random.key(0)
    >>> x = jax.random.normal(key, (200, 4, 4, 3))
    >>> layers = {"00_conv": x, "01_fc": x.reshape(200, -1)[:, :8]}
    >>> matrix(layers, measure="cka", conv="mean").diagonal().round(4).tolist()
    [1.0, 1.0]
    """
    kind = Measure(
        name=measure,
        variance=variance,
        directions=directions,
        debiased=debiased,
        epsilon=epsilon,
        k=k,
        distance=distance,
        correlation=correlation,
    )
    positions.check_treatment(conv)
    checkpoints_a, named_a = _named("acts_a", acts_a)
    itself = acts_b is None or acts_b is acts_a
    checkpoints_b, named_b = checkpoints_a, None
    if not itself:
        checkpoints_b, named_b = _named("acts_b", acts_b)
    shape = (checkpoints_a or 1, checkpoints_b or 1)
    shape += (len(named_a) // shape[0], len(named_b or named_a) // shape[1])
    half = itself and kind.symmetric and not mirror
    value = compare(kind, conv, named_a, named_b, _wanted(shape, half, mirror), mesh)
    value = _mirrored(value) if half else value
    value = jnp.moveaxis(value.reshape(*shape[::2], *shape[1::2]), 2, 1)
    value = _mirrored(value) if mirror else value
    drop = [axis for axis, n in enumerate((checkpoints_a, checkpoints_b)) if n is None]
    return jnp.squeeze(value, drop)


def treatments(acts: Activations, conv: str = "auto") -> dict[str, str]:
    """What `conv` means for each layer: "dft", "positions", "mean"; "none" for units.

    Args:
      acts: layer name -> activations, or shapes from `jax.eval_shape`.
      conv: as in `matrix`.

    Raises: ValueError for an unknown treatment, and for bad layers as `matrix` does.

    >>> layers = {"conv": jnp.ones((9, 4, 4, 3)), "block": jnp.ones((9, 16, 8))}
    >>> treatments(layers | {"fc": jnp.ones((9, 10))})
    {'conv': 'dft', 'block': 'mean', 'fc': 'none'}
    """
    positions.check_treatment(conv)
    out = {}
    for name, value in acts.items():
        array = calls.as_array(f"acts[{name!r}]", value)
        calls.check_layout(f"acts[{name!r}]", array)
        out[name] = positions.treatment(array.shape, conv)
    return out


def compare(
    kind: Measure,
    conv: str,
    named_a: Activations,
    named_b: Activations | None,
    pairs: slots.Pairs | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """Check two dictionaries of activations and compute their map.

    Args:
      kind: measure.
      conv: treatment of positions.
      named_a: layers under the names that messages show.
      named_b: layers under other names; `None` takes the first side again.
      pairs: layers to compare, as (a, b); others stay 0. `None` compares all.
      mesh: as in `matrix`.

    Returns: float [layers_a, layers_b].
    """
    every = calls.activations(dict(named_a) | dict(named_b or {}))
    examples = len(next(iter(every.values())))
    if conv == "positions":
        examples *= slots.fewest_positions(x.shape for x in every.values())
    calls.enough_examples(kind, examples)
    a = [every[name] for name in named_a]
    b = None if named_b is None else [every[name] for name in named_b]
    program = partial(_program, kind=kind, conv=conv, pairs=pairs, mesh=mesh)
    (value, report), known = calls.run(program, a, b)
    if known:
        names = list(named_a), list(named_a if named_b is None else named_b)
        calls.look(jax.device_get(report), names, kind.saturates, 4)
    return value


@partial(jax.jit, static_argnames=("kind", "conv", "pairs", "mesh"))
def _program(a, b, kind, conv, pairs, mesh=None):
    """The map and its report, compiled for one measure and one set of shapes."""
    layout, stacks_a, stacks_b = prepared(a, b, kind, conv, pairs, mesh)
    return comparing.all_pairs(kind, layout, stacks_a, stacks_b, len(a[0]), mesh=mesh)


def prepared(
    a: Sequence[jax.Array],
    b: Sequence[jax.Array] | None,
    kind: Measure,
    conv: str,
    pairs: slots.Pairs | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[slots.Layout, list[PreparedLayer], list[PreparedLayer]]:
    """The layout, and both sides' prepared layers (without b, the same twice)."""
    shapes_a = tuple(tuple(x.shape) for x in a)
    shapes_b = None if b is None else tuple(tuple(x.shape) for x in b)
    layout = slots.make(shapes_a, shapes_b, conv, pairs)
    stacks_a = stacks_b = _prepared(a, layout.groups_a, kind, conv, mesh)
    if b is not None:
        stacks_b = _prepared(b, layout.groups_b, kind, conv, mesh)
    return layout, stacks_a, stacks_b


def _prepared(arrays, groups, kind, conv, mesh):
    """The prepared layers, one stack for each group of slots."""
    origins = [positions.shift(x, conv) for x in arrays]
    shifted = [x - origin for x, origin in zip(arrays, origins, strict=True)]
    shapes = [tuple(x.shape) for x in arrays]
    levels = [positions.level(origin) for origin in origins]
    norms = [positions.norm(x, jnp.ones(len(x), levels[0].dtype)) for x in shifted]

    def one(item):
        return factors.prepare(kind, *item)

    stacks = []
    for group in groups:
        parts = [positions.extract(v, shifted[v.layer], conv) for v in group.views]
        noise = positions.rounding(group.views, shapes, levels, norms, conv)
        items = jnp.concatenate(parts), noise
        if kind.by_examples:
            shifts = [
                positions.of_shift(v, origins[v.layer], shapes[v.layer], conv)
                for v in group.views
            ]
            items = *items, jnp.concatenate(shifts)
        stack = comparing.mapped(one, items, parts[0][0].size, mesh=mesh)
        if kind.by_examples:
            # With layers side by side, permuting the examples moves short rows.
            stack = stack._replace(factor=stack.factor[..., 0].T)
        stacks.append(stack)
    return stacks


def _named(argument, acts):
    """Number of checkpoints (`None` for a single network) and all layers by name."""
    if isinstance(acts, Mapping):
        return None, calls.labelled(argument, acts)
    if not isinstance(acts, Sequence) or not all(isinstance(a, Mapping) for a in acts):
        raise ValueError(
            f"{argument} must be a dictionary of activations, or a sequence of such "
            f"dictionaries, got {type(acts).__name__}"
        )
    if not acts:
        raise ValueError(f"{argument} holds no checkpoint")
    out = {}
    for index, one in enumerate(acts):
        if list(one) != list(acts[0]):
            raise ValueError(
                f"{argument}[{index}] has other layers than {argument}[0]: "
                f"{list(one)} and {list(acts[0])}"
            )
        out |= calls.labelled(f"{argument}[{index}]", one)
    return len(acts), out


def _wanted(shape, half, mirror):
    """Pairs of layers to compute, numbered over all checkpoints; `None` for all."""
    rows, columns, layers_a, layers_b = shape
    if mirror:
        if layers_a != layers_b:
            raise ValueError(
                f"mirror=True needs equal numbers of layers, got {layers_a} and "
                f"{layers_b}; take the full map"
            )
        blocks = [
            (r * layers_a, c * layers_a) for r in range(rows) for c in range(columns)
        ]
        upper = [(i, j) for i in range(layers_a) for j in range(i, layers_a)]
        return tuple((r + i, c + j) for r, c in blocks for i, j in upper)
    if half:
        total = rows * layers_a
        return tuple((i, j) for i in range(total) for j in range(i, total))
    return None


def _mirrored(value):
    """The upper triangle, copied below the diagonal."""
    return jnp.triu(value) + jnp.swapaxes(jnp.triu(value, 1), -1, -2)
