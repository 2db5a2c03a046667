"""Adds units without changing the function (Net2WiderNet)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.distill import checks
from kd_heuristics.distill.net2net.units import (
    Units,
    Variables,
    flatten,
    unflatten,
    units_of,
    widths,
)
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.compiled import once


def widen(
    variables: Variables,
    sizes: Mapping[str, int],
    key: jax.Array,
    *,
    noise: float = 0.0,
    units: Mapping[str, Units] | None = None,
) -> dict[str, Any]:
    """Adds units to a network without changing its function.

    Unit j of the wider network is a copy of unit g(j), with g(j) = j for existing units
    and drawn at random for new ones. Its readers divide: W'[j, k] = W[g(j), k] /
    |{i: g(i) = g(j)}| (Chen et al. 2016, sec. 2.3). Parameters and running statistics
    of batch norm are copied too. All terms of a residual sum share one g. The function
    is also preserved in training mode, unless dropout tells copies apart. After a
    shortcut that appends zeros (`Units.first`), the units of the previous section come
    first, in the order of its g.

    Args:
      variables: {"params": ..., "batch_stats": ...}, of a VGG or a ResNet of `models`.
      sizes: name of units (see `units_of`) to their new number; others keep theirs. To
        reach a larger network: `widths(jax.eval_shape(larger.init, key, images))`.
      key: random key of the copies and of the noise.
      noise: standard deviation of the noise on kernels that write a copy, relative to
        that of the kernel. Without noise, copies have equal gradients forever; 0 keeps
        the function exact.
      units: units of a network of another form; `None` uses `units_of(variables)`.

    Returns: variables of the wider network, as nested dictionaries.

    Raises: ValueError for unknown units, a size below the present one or ruled out by
      an appending shortcut, and negative noise.
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
    """Checks sizes after shortcuts that append zeros; appended channels are units."""
    for name, group in units.items():
        if group.first is None:
            continue
        started = sizes[group.first]
        appended = present[name] - present[group.first]
        fits = sizes[name] - started >= appended
        if not fits or (appended == 0 and sizes[name] != started):
            raise ValueError(
                f"{name} must have {'at least' if appended else 'exactly'} "
                f"{started + appended} units if {group.first}, to which its shortcut "
                f"appends zeros, has {started}; got {sizes[name]}"
            )


def _origins(units, present, sizes, key) -> dict[str, jax.Array]:
    """Draws the map g of all units, int [new size] each."""
    origins: dict[str, jax.Array] = {}
    for index, (name, group) in enumerate(units.items()):
        own = jax.random.fold_in(key, index)
        old, new = present[name], sizes[name]
        if group.first is None:
            origins[name] = _origin(own, old, new)
            continue
        # First the units of `first`, which comes earlier in `units`, then the appended.
        start, started = present[group.first], sizes[group.first]
        rest = start + _origin(own, old - start, new - started)
        origins[name] = jnp.concatenate([origins[group.first], rest])
    return origins


def _origin(key, old: int, new: int) -> jax.Array:
    """Draws g: the identity on old units, random old units for new ones."""
    copies = jax.random.randint(key, (new - old,), 0, max(old, 1))
    return jnp.concatenate([jnp.arange(old), copies])


def _write(leaves, group: Units, origin) -> None:
    """Copies units in the last axis of all leaves of the writers."""
    for path in leaves:
        if path.split("/", 1)[1].rsplit("/", 1)[0] in group.writers:
            leaves[path] = jnp.take(leaves[path], origin, axis=-1)


def _read(leaves, group: Units, origin, old: int) -> None:
    """Copies units in the readers' kernels and divides by the number of copies."""
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
    """Adds noise to the kernels of all writers, for the copies alone."""
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
