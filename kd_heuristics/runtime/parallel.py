"""Devices: which form a repeated computation takes, and how a batch is split.

The table of forms ships with the package and is recorded with each run: a choice by
timing at run time would make a resumed run differ from an uninterrupted one.

With several processes (`hosts.start`) a mesh has the devices of all of them, each
process holds the same arrays on its host, and gives its own devices their parts.
"""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.leaves import is_key
from kd_heuristics.runtime.values import integer

PyTree = Any
P = jax.sharding.PartitionSpec

# "map": one after the other in one program; "loop": one after the other, a call each;
# "vmap": all at once. On CPU several networks at once turn convolutions into grouped
# ones, which are slower than one network after another (quarter-width VGG-16, 4
# networks: 2,060 against 1,045 net-images a second); on GPU and TPU one small network
# leaves the device idle.
_STRATEGIES = {
    "cpu": {"points": "loop", "population": "map"},
    "gpu": {"points": "vmap", "population": "vmap"},
    "tpu": {"points": "vmap", "population": "vmap"},
}

DATA_AXIS = "data"


def strategies(backend: str | None = None) -> dict[str, str]:
    """The strategy of each repeated computation on a backend (default: this one's).

    >>> strategies("cpu")
    {'points': 'loop', 'population': 'map'}
    """
    backend = backend or jax.default_backend()
    return dict(_STRATEGIES.get(backend, _STRATEGIES["gpu"]))


def mesh(num_devices: SupportsIndex | None = None) -> jax.sharding.Mesh:
    """A mesh of one axis, "data", over which batches are split.

    Args:
      num_devices: how many of `jax.devices()`; None: all of them. With several
        processes it has to be all.

    Raises:
      ValueError: there are not so many devices, or other processes have more.

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
    """A copy of each array on every device of the mesh; None: the tree as it is."""
    return tree if mesh is None else _put(tree, jax.sharding.NamedSharding(mesh, P()))


def split_batches(batches: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Arrays [num_batches, batch, ...] with each batch split over the mesh.

    Raises:
      ValueError: the mesh does not divide the batch.
    """
    for leaf in jax.tree.leaves(batches):
        check_divides(leaf.shape[1], mesh)
    return _put(batches, jax.sharding.NamedSharding(mesh, P(None, DATA_AXIS)))


def split_members(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Arrays [members, ...] with the members shared out among the devices.

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
    """Axis 0 split over the mesh."""
    return jax.sharding.NamedSharding(mesh, P(DATA_AXIS))


def by_parts(
    function: Callable[..., PyTree],
    items: PyTree,
    mesh: jax.sharding.Mesh | None,
    *shared: PyTree,
) -> PyTree:
    """Inside a compiled function: each device calls `function` on its part of items.

    For functions of a leading axis whose entries have nothing to do with each other.

    Args:
      function: `(items, *shared)`, with arrays [part, ...] of items; returns such. It
        closes over no array.
      items: arrays [count, ...], any count; the last item fills up the parts.
      mesh: None: one call, on all items.
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
    """The arrays as NumPy's, whole and in every process, however they are split."""
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
    if hosts.count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _put_part(leaf, sharding), tree)


def _put_part(leaf, sharding):
    """The parts of this process's devices, of an array that every process has."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    leaf = jnp.asarray(leaf)
    if is_key(leaf):
        data = _put_part(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    # device_put would compare the values of all processes, an exchange an array.
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])


def constrain_batch(batch: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Inside a compiled function: splits axis 0 of each array; scalars stay whole.

    Where the devices do not divide it, some have an example less: 100 over 8 devices
    cost as much as 104.
    """
    split = batch_sharding(mesh)
    return jax.tree.map(
        lambda leaf: (
            jax.lax.with_sharding_constraint(leaf, split) if jnp.ndim(leaf) else leaf
        ),
        batch,
    )


def divisible(batch_size: SupportsIndex, mesh: jax.sharding.Mesh | None) -> int:
    """The least size of at least `batch_size` that the mesh's devices divide.

    For batches of evaluation, whose last one is filled up and masked anyway.

    >>> divisible(7, mesh(1)), divisible(7, None)
    (7, 7)
    """
    batch_size = integer("batch_size", batch_size)  # the negative of uint8 wraps
    return batch_size if mesh is None else batch_size + -batch_size % mesh.size


def check_divides(batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError where the mesh's devices do not divide a batch."""
    if batch_size % mesh.size:
        raise ValueError(
            f"a batch of {batch_size} cannot be split over {mesh.size} devices; choose "
            f"a multiple of {mesh.size}"
        )
