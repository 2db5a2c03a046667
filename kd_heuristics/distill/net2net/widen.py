"""Net2WiderNet: more units, the same function."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics import nearest
from kd_heuristics.compiled import once
from kd_heuristics.distill import checks
from kd_heuristics.distill.net2net.units import (
    Units,
    Variables,
    flatten,
    unflatten,
    units_of,
    widths,
)


def widen(
    variables: Variables,
    sizes: Mapping[str, int],
    key: jax.Array,
    *,
    noise: float = 0.0,
    units: Mapping[str, Units] | None = None,
) -> dict[str, Any]:
    """A network with more units that computes what the given one does.

    New unit j is a copy of unit g(j): g(j) = j for the units there were, drawn at
    random for the others. Its readers divide: W'[j, k] = W[g(j), k] / |{i: g(i) =
    g(j)}| (Chen et al. 2016, sec. 2.3). Parameters and running statistics of batch norm
    are copied too, and all that is added in a residual sum has one g; the function is
    the same in training mode as well, where no dropout tells copies apart. Behind a
    shortcut that appends zeros (`Units.first`) the units of the section before come
    first, as g has them there.

    Args:
      variables: {"params": ..., "batch_stats": ...}, of a VGG or a ResNet of `models`.
      sizes: name of units, of `units_of`, to their number; others stay. For all of a
        larger network: `widths(jax.eval_shape(larger.init, key, images))`.
      key: of the copies and of the noise.
      noise: standard deviation of what is added to the kernels that write a copy, in
        units of the kernel's own: it breaks the tie between copies, which otherwise
        have equal gradients for ever; 0 leaves the function exactly as it was.
      units: of another network; None: `units_of(variables)`.

    Returns: variables of the wider network, as nested dictionaries.

    Raises: ValueError for a name that is none of the units, a size below the present
      one, one that an appending shortcut rules out, and negative noise.
    """
    checks.weight("noise", noise)
    units = units_of(variables) if units is None else units
    present = widths(variables, units)
    for name, size in sizes.items():
        nearest.choose(name, units, "units")
        if size < present[name]:
            raise ValueError(
                f"{name} has {present[name]} units, got {size}; widen only adds"
            )
    sizes = {**present, **sizes}
    _check_appended(units, present, sizes)

    @once  # one program, not one for each operation on each shape
    def widened(leaves, key):
        leaves = dict(leaves)
        origins = _origins(units, present, sizes, key)
        for name, group in units.items():
            if sizes[name] > present[name]:
                _write(leaves, group, origins[name])
                _read(leaves, group, origins[name], present[name])
        if noise:
            own = jax.random.fold_in(key, len(units))
            _add_noise(leaves, units, present, own, noise)
        return leaves

    return unflatten(widened(flatten(variables), key))


def _check_appended(units, present, sizes) -> None:
    """Sizes behind shortcuts that append zeros: those appended are new units too."""
    for name, group in units.items():
        if group.first is None:
            continue
        started = sizes[group.first]
        appended = present[name] - present[group.first]
        fits = sizes[name] - started >= appended
        if not fits or (appended == 0 and sizes[name] != started):
            raise ValueError(
                f"{name} must have {'at least' if appended else 'exactly'} "
                f"{started + appended} units where {group.first}, which its shortcut "
                f"appends zeros to, has {started}; got {sizes[name]}"
            )


def _origins(units, present, sizes, key) -> dict[str, jax.Array]:
    """The map g of all units, int [new size]."""
    origins: dict[str, jax.Array] = {}
    for index, (name, group) in enumerate(units.items()):
        own = jax.random.fold_in(key, index)
        old, new = present[name], sizes[name]
        if group.first is None:
            origins[name] = _origin(own, old, new)
            continue
        # Those of `first`, which comes earlier in `units`, then the appended.
        start, started = present[group.first], sizes[group.first]
        rest = start + _origin(own, old - start, new - started)
        origins[name] = jnp.concatenate([origins[group.first], rest])
    return origins


def _origin(key, old: int, new: int) -> jax.Array:
    copies = jax.random.randint(key, (new - old,), 0, max(old, 1))
    return jnp.concatenate([jnp.arange(old), copies])


def _write(leaves, group: Units, origin) -> None:
    for path in leaves:
        if path.split("/", 1)[1].rsplit("/", 1)[0] in group.writers:
            leaves[path] = jnp.take(leaves[path], origin, axis=-1)


def _read(leaves, group: Units, origin, old: int) -> None:
    copies = jnp.zeros(old, int).at[origin].add(1)[origin]
    for layer in group.readers:
        path = f"params/{layer}/kernel"
        kernel = leaves[path]
        *before, read, written = kernel.shape
        # A flattened map has the channels of each position side by side.
        apart = kernel.reshape(*before, read // old, old, written)
        shares = copies.reshape(*(1,) * (apart.ndim - 2), -1, 1).astype(kernel.dtype)
        apart = jnp.take(apart, origin, axis=-2) / shares
        leaves[path] = apart.reshape(*before, -1, written)


def _add_noise(leaves, units, present, key, noise) -> None:
    """Noise on the kernels of all writers, for the copies alone."""
    for index, (name, group) in enumerate(units.items()):
        for number, layer in enumerate(group.writers):
            path = f"params/{layer}/kernel"
            if path not in leaves:
                continue
            kernel = leaves[path]
            own = jax.random.fold_in(jax.random.fold_in(key, index), number)
            added = noise * kernel.std() * jax.random.normal(own, kernel.shape)
            is_copy = jnp.arange(kernel.shape[-1]) >= present[name]
            is_copy = is_copy.reshape(*(1,) * (kernel.ndim - 1), -1)
            leaves[path] = kernel + jnp.where(is_copy, added, 0).astype(kernel.dtype)
