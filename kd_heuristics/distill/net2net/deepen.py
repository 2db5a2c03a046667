"""Adds layers without changing the function (Net2DeeperNet)."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks
from kd_heuristics.distill.net2net.units import (
    Variables,
    flatten,
    unflatten,
    units_of,
)
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.compiled import once

EPSILON = 1e-5  # of the batch norms of `models`


def deepen(
    variables: Variables,
    after: Sequence[str],
    key: jax.Array,
    *,
    noise: float = 0.0,
    activations: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Any]:
    """Inserts layers into a network without changing its function.

    VGG: after a convolution and its ReLU, inserts a convolution with the identity as
    kernel. Its ReLU changes nothing, ReLU(ReLU(x)) = ReLU(x) (Chen et al. 2016, sec.
    2.4). Its batch norm undoes its own normalisation: with mean m and variance v of its
    input, scale = sqrt(v + epsilon) and bias = m.

    The identity is exact for ReLUs; it would not be for a sigmoid or tanh.

    ResNet: after a block, inserts a block whose second batch norm has scale 0, so that
    it adds nothing to the (not negative) stream; its convolutions are He-normal. The
    scale has a gradient, so the other weights start to learn after its first step.

    The numbers of later layers increase. Pools stay where they were, between the
    sections that the larger network, `VGG(stages=...)`, must have.

    Args:
      variables: {"params": ..., "batch_stats": ...}, of a VGG or a ResNet of `models`.
      after: names in the given network, "conv_00" or "block_0_1"; a repeated name adds
        two layers.
      key: random key of the noise and of the blocks' convolutions.
      noise: standard deviation of the noise on identity kernels, relative to that of
        the kernel; 0 keeps the function exact. Blocks need no noise.
      activations: for a VGG with batch norm, outputs [..., channels] of the ReLUs after
        the named convolutions, on many examples. They give m and v, and the function is
        preserved in training mode on these examples. `None` uses m = 0 and v = 1, which
        preserves it in evaluation mode only.

    Returns: variables of the deeper network, as nested dictionaries.

    Raises: ValueError for a name that no layer can follow, kernels of even size,
      activations that lack a named layer or have other channels, and negative noise.
    """
    checks.weight("noise", noise)
    units_of(variables)  # raises for another form
    leaves = flatten(variables)
    counts = _counts(leaves, after)
    moments = {name: _moments(leaves, name, activations) for name in set(after)}

    @once  # one program, not one for each operation on each shape
    def deepened(leaves, moments, key):
        out = {path: leaf for path, leaf in leaves.items() if not _moves(path, counts)}
        for index, (name, place) in enumerate(_places(counts).items()):
            out |= _moved(leaves, name, place)
            for number in range(1, counts[name] + 1):
                own = jax.random.fold_in(jax.random.fold_in(key, index), number)
                new = _shifted(place, number)
                if name.startswith("block"):
                    out |= _block(leaves, name, new, own)
                else:
                    out |= _identity(leaves, name, new, own, noise, moments[name])
        return out

    return unflatten(deepened(leaves, moments, key))


def _counts(leaves, after) -> dict[str, int]:
    """Counts the layers to insert after each existing layer."""
    pattern = r"params/(conv_\d+|block_\d+_\d+)/"
    valid = dict.fromkeys(m[1] for path in leaves if (m := re.match(pattern, path)))
    for name in after:
        nearest.choose(name, valid, "layer to deepen after")
        window = getattr(leaves.get(f"params/{name}/kernel"), "shape", (1, 1))[:2]
        if not all(side % 2 for side in window):
            raise ValueError(
                f"{name} has a kernel of {window[0]}x{window[1]}; an identity needs "
                "odd sizes"
            )
    return {name: list(after).count(name) for name in valid}


def _places(counts: Mapping[str, int]) -> dict[str, str]:
    """Maps each layer's name to its name in the deeper network."""
    places, added = {}, {}
    for name in sorted(counts, key=_numbers):
        run = name.rsplit("_", 1)[0]
        places[name] = _shifted(name, added.get(run, 0))
        added[run] = added.get(run, 0) + counts[name]
    return places


def _numbers(name: str) -> list[int]:
    """Parses the numbers in a layer's name, for sorting."""
    return [int(number) for number in re.findall(r"\d+", name)]


def _shifted(name: str, by: int) -> str:
    """Adds `by` to the number of a layer's name and keeps its width.

    >>> _shifted("conv_09", 1), _shifted("block_0_1", 2)
    ('conv_10', 'block_0_3')
    """
    run, number = name.rsplit("_", 1)
    return f"{run}_{int(number) + by:0{len(number)}d}"


def _norm(name: str) -> str:
    """Names the batch norm of a VGG's convolution."""
    return name.replace("conv", "bn")


def _moves(path, counts) -> bool:
    """Whether a leaf belongs to a layer whose name may change."""
    layer = path.split("/")[1]
    return layer in counts or layer in map(_norm, counts)


def _moved(leaves, name, place) -> dict[str, Any]:
    """Renames the leaves of a layer and of its batch norm."""
    names = {name: place, _norm(name): _norm(place)}
    split = ((path.split("/"), leaf) for path, leaf in leaves.items())
    return {
        "/".join([collection, names[layer], *rest]): leaf
        for (collection, layer, *rest), leaf in split
        if layer in names
    }


def _identity(leaves, name, new, key, noise, moments) -> dict[str, Any]:
    """Makes an identity convolution and, if the network has any, batch norm."""
    kernel = leaves[f"params/{name}/kernel"]
    height, width, _, channels = kernel.shape
    identity = jnp.zeros((height, width, channels, channels), kernel.dtype)
    identity = identity.at[height // 2, width // 2].set(jnp.eye(channels))
    added = noise * identity.std() * jax.random.normal(key, identity.shape)
    out = {f"params/{new}/kernel": identity + added.astype(kernel.dtype)}
    if f"params/{name}/bias" in leaves:
        out[f"params/{new}/bias"] = jnp.zeros(channels, kernel.dtype)
    if f"params/{_norm(name)}/scale" in leaves:
        mean, variance = moments
        norm = _norm(new)
        out |= {
            f"params/{norm}/scale": jnp.sqrt(variance + EPSILON),
            f"params/{norm}/bias": mean,
            f"batch_stats/{norm}/mean": mean,
            f"batch_stats/{norm}/var": variance,
        }
    return out


def _moments(leaves, name, activations):
    """Computes the mean and variance per channel of a new batch norm's input."""
    if f"params/{_norm(name)}/scale" not in leaves:
        return None
    channels = leaves[f"params/{name}/kernel"].shape[-1]
    if activations is None:
        return jnp.zeros(channels), jnp.ones(channels)
    if name not in activations:
        raise ValueError(
            f"activations have {sorted(activations)} and lack {name}; give the output "
            "of its ReLU, or no activations at all"
        )
    values = jnp.asarray(activations[name], jnp.float32)
    if values.shape[-1:] != (channels,):
        raise ValueError(
            f"activations of {name} have shape {values.shape}; wanted [..., {channels}]"
        )
    axes = tuple(range(values.ndim - 1))
    return values.mean(axes), values.var(axes)


def _block(leaves, name, new, key) -> dict[str, Any]:
    """Makes a residual block that adds nothing, as wide as the given one."""
    last = leaves[f"params/{name}/conv_1/kernel"]
    *window, _, channels = last.shape
    spread = math.sqrt(2 / (math.prod(window) * channels))
    out: dict[str, Any] = {}
    for number in range(2):
        own = jax.random.fold_in(key, number)
        kernel = spread * jax.random.normal(own, (*window, channels, channels))
        norm = f"{new}/bn_{number}"
        out |= {
            f"params/{new}/conv_{number}/kernel": kernel.astype(last.dtype),
            f"params/{norm}/scale": jnp.full(channels, 1.0 - number),
            f"params/{norm}/bias": jnp.zeros(channels),
            f"batch_stats/{norm}/mean": jnp.zeros(channels),
            f"batch_stats/{norm}/var": jnp.ones(channels),
        }
    return out
