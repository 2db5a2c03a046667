"""Devices: strategies of repeated computations, and splitting of batches.

The table of strategies ships with the package and is recorded with each run. If timing
chose them at run time, a resumed run could differ from an uninterrupted one.

With several processes (`hosts.start`), a mesh has the devices of all processes. Each
process holds the same arrays on its host and gives its own devices their parts.
"""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.errors import InputError
from kd_heuristics.runtime.leaves import is_key
from kd_heuristics.runtime.values import integer

PyTree = Any
P = jax.sharding.PartitionSpec

# "map": one after another in one program; "loop": one call for each; "vmap": all at
# once. On CPU, vmap over networks turns convolutions into grouped ones, which are
# slower than one network after another (quarter-width VGG-16, 4 networks: 2,060 against
# 1,045 net-images per second). On GPU and TPU, one small network leaves the device
# idle.
_STRATEGIES = {
    "cpu": {"points": "loop", "population": "map"},
    "gpu": {"points": "vmap", "population": "vmap"},
    "tpu": {"points": "vmap", "population": "vmap"},
}

DATA_AXIS = "data"


def strategies(backend: str | None = None) -> dict[str, str]:
    """Returns the strategy of each repeated computation on a backend.

    Args:
      backend: "cpu", "gpu" or "tpu"; `None` takes the current one.

    >>> strategies("cpu")
    {'points': 'loop', 'population': 'map'}
    """
    backend = backend or jax.default_backend()
    return dict(_STRATEGIES.get(backend, _STRATEGIES["gpu"]))


def mesh(num_devices: SupportsIndex | None = None) -> jax.sharding.Mesh:
    """Makes a mesh with one axis, "data", over which batches are split.

    Args:
      num_devices: number of devices from `jax.devices()`; `None` takes all. Several
        processes need all.

    Raises:
      ValueError: there are fewer devices, or several processes would not use all.

    >>> dict(mesh(1).shape)
    {'data': 1}
    """
    devices = jax.devices()
    count = len(devices)
    if num_devices is not None:
        count = integer("num_devices", num_devices)
    if not 1 <= count <= len(devices):
        raise ValueError(
            f"a mesh of {count} devices needs 1 to {len(devices)}, the devices here "
            f"({devices[0].platform}); on CPU the option jax_num_cpu_devices makes more"
        )
    if hosts.count() > 1 and count < len(devices):
        raise ValueError(
            f"a mesh of {hosts.count()} processes needs all of their {len(devices)} "
            f"devices, got {count}; leave the number out, or start one process"
        )
    return jax.make_mesh(
        (count,),
        (DATA_AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=devices[:count],
    )


def replicate(tree: PyTree, mesh: jax.sharding.Mesh | None) -> PyTree:
    """Copies each array to every device of the mesh; no-op if the mesh is `None`."""
    return tree if mesh is None else _put(tree, jax.sharding.NamedSharding(mesh, P()))


def split_batches(batches: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Splits each batch of arrays [num_batches, batch, ...] over the mesh.

    Raises:
      ValueError: the mesh does not divide the batch.
    """
    for leaf in jax.tree.leaves(batches):
        check_divides(leaf.shape[1], mesh)
    return _put(batches, jax.sharding.NamedSharding(mesh, P(None, DATA_AXIS)))


def split_members(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Splits the members of arrays [members, ...] over the mesh.

    Raises:
      ValueError: the mesh does not divide the members.
    """
    for leaf in jax.tree.leaves(tree):
        if leaf.shape[0] % mesh.size:
            raise ValueError(
                f"{leaf.shape[0]} members cannot be shared out among {mesh.size} "
                f"devices; train a multiple of {mesh.size}, or split their batches"
            )
    return _put(tree, batch_sharding(mesh))


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding that splits axis 0 over the mesh."""
    return jax.sharding.NamedSharding(mesh, P(DATA_AXIS))


def by_parts(
    function: Callable[..., PyTree],
    items: PyTree,
    mesh: jax.sharding.Mesh | None,
    *shared: PyTree,
) -> PyTree:
    """Inside a compiled function: each device calls `function` on its part of items.

    For functions that treat the entries of the leading axis independently.

    Args:
      function: `(items, *shared)` with arrays [part, ...] of items; returns arrays
        [part, ...]. It must not close over arrays.
      items: arrays [count, ...], any count; copies of the last item pad the parts.
      mesh: `None` calls the function once, on all items.
      *shared: arrays that every device needs whole.

    Returns: arrays [count, ...], on every device.

    >>> by_parts(lambda x: x**2, jnp.arange(3), mesh(1)).tolist()
    [0, 1, 4]
    """
    if mesh is None:
        return function(items, *shared)
    count = jax.tree.leaves(items)[0].shape[0]
    places = np.minimum(np.arange(count + -count % mesh.size), count - 1)
    if len(places) > count:
        items = jax.tree.map(lambda leaf: leaf[places], items)
    axes = P(mesh.axis_names)
    specs = (axes, *(P() for _ in shared))
    found = jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=axes, check_vma=False
    )(items, *shared)
    everywhere = jax.sharding.NamedSharding(mesh, P())
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(leaf[:count], everywhere), found
    )


def to_host(tree: PyTree) -> PyTree:
    """Gathers the arrays, however they are split, as NumPy arrays in every process."""
    return jax.tree.map(_whole, tree)


def _whole(leaf):
    """Returns an array on the host, gathered from all processes."""
    if not isinstance(leaf, jax.Array):
        return np.asarray(leaf)
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)


def _put(tree, sharding):
    """Puts a tree on devices with a sharding, in every process."""
    if hosts.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _put_part(leaf, sharding), tree)


def _put_part(leaf, sharding):
    """Puts an array that every process holds on this process's devices, in parts."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    leaf = jnp.asarray(leaf)
    if is_key(leaf):
        data = _put_part(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    # device_put would compare all processes' values, with one exchange per array.
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])


def constrain_batch(batch: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Inside a compiled function: splits axis 0 of each array; scalars stay whole.

    If the devices do not divide it, some get one example less: 100 examples on 8
    devices cost as much as 104.
    """
    split = batch_sharding(mesh)
    return jax.tree.map(
        lambda leaf: (
            jax.lax.with_sharding_constraint(leaf, split) if jnp.ndim(leaf) else leaf
        ),
        batch,
    )


def divisible(batch_size: SupportsIndex, mesh: jax.sharding.Mesh | None) -> int:
    """Returns the smallest size from `batch_size` on that the mesh's devices divide.

    For evaluation, whose last batch is padded and masked anyway.

    >>> divisible(7, mesh(1)), divisible(7, None)
    (7, 7)
    """
    batch_size = integer("batch_size", batch_size)  # a negated uint8 would wrap
    return batch_size if mesh is None else batch_size + -batch_size % mesh.size


def check_divides(batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises InputError if the mesh's devices do not divide a batch."""
    if batch_size % mesh.size:
        raise InputError(
            f"a batch of {batch_size} cannot be split over {mesh.size} devices; choose "
            f"a multiple of {mesh.size}"
        )
