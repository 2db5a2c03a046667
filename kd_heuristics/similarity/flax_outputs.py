"""The outputs of a Flax module's submodules, by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


def of_linen(apply: Callable[..., Mapping[str, Any]]) -> dict[str, jax.Array]:
    """Returns the outputs of a Linen module's submodules, and what it sows.

    Args:
      apply: calls `module.apply` with further options; returns the changed collections.
    """
    from flax import linen

    heads: dict[str, int] = {}

    def record(module, method):
        if isinstance(module, linen.DenseGeneral):
            heads["/".join(module.path)] = _count(module.features)
        return method == "__call__"

    found = apply(capture_intermediates=record)
    return _together(_flat(found.get("intermediates", {})), heads)


def of_nnx(model: Any, inputs: Any, options: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns the outputs of an NNX model's submodules, and what it sows.

    With a Flax older than 0.12.1, only what it sows.
    """
    from flax import nnx

    kind = nnx.Intermediate
    if not hasattr(nnx, "capture"):
        model(inputs, **options)
        return _flat(nnx.to_pure_dict(nnx.pop(model, kind)))
    record = nnx.capture(model, kind, method_outputs=kind)
    found = _flat(nnx.to_pure_dict(record(inputs, **options)[1]))
    heads = {
        "/".join(map(str, path)): _count(module.out_features)
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.LinearGeneral)
    }
    return _together(found, heads)


def _count(features) -> int:
    """Returns the number of a layer's feature axes, such as heads and units."""
    return len(features) if isinstance(features, Sequence) else 1


def _together(found, heads):
    """Put the heads of a layer side by side."""
    out = {}
    for name, value in found.items():
        count = heads.get(name.partition("#")[0], 1)
        wide = count > 1 and getattr(value, "ndim", 0) > count
        out[name] = value.reshape(*value.shape[:-count], -1) if wide else value
    return out


def _flat(tree, path=()):
    """Nested intermediates -> {"block/dense": array, "block/dense#1": array}."""
    if isinstance(tree, Mapping):
        out = {}
        for key, value in tree.items():
            out |= _flat(value, path if key == "__call__" else (*path, str(key)))
        return out
    name = "/".join(path) or "output"
    leaves = jax.tree.leaves(tree)
    return {f"{name}#{i}" if i else name: leaf for i, leaf in enumerate(leaves)}
