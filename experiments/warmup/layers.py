"""Which layers the arms of the warmup study freeze, and how much they change."""

from collections.abc import Collection
from typing import Any

import numpy as np

from kd_heuristics.pytrees import leaf_names


def layer_of(path: str) -> str:
    """The layer of a parameter's path: "fc_0" of "fc_0/kernel"; "w" of "w".

    >>> layer_of("fc_0/kernel")
    'fc_0'
    """
    return path.rpartition("/")[0] or path


def random_layers(params: Any, seed: int, fc: Collection[str]) -> frozenset[str]:
    """Draws layers below the FC stack that hold about as many parameters as it does.

    Goes through the layers in an order drawn from `seed` and takes each that keeps the
    total at or below the stack's. Takes the smallest layer if none does.

    Args:
      params: of the network.
      seed: of the order.
      fc: paths of the stack's parameters.
    """
    sizes: dict[str, int] = {}
    target = 0
    for path, leaf in leaf_names.flat(params).items():
        if path in fc:
            target += leaf.size
        else:
            sizes[layer_of(path)] = sizes.get(layer_of(path), 0) + leaf.size
    chosen, total = [], 0
    for name in np.random.RandomState(seed).permutation(sorted(sizes)):
        if total + sizes[name] <= target:
            chosen.append(str(name))
            total += sizes[name]
    return frozenset(chosen or [min(sorted(sizes), key=sizes.__getitem__)])


def relative_change(before: Any, after: Any) -> np.ndarray:
    """Norm of each kernel's change, relative to the kernel's norm before.

    Returns: float64 [kernels], in the order of the paths; NaN if the run diverged.
    """
    pairs = zip(kernels(before).values(), kernels(after).values(), strict=True)
    return np.array(
        [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs], np.float64
    )


def kernels(params: Any) -> dict[str, np.ndarray]:
    """Flattened kernels, arrays of two or more axes, in the order of the paths."""
    return {
        path.removesuffix("/kernel"): np.asarray(leaf, np.float64).ravel()
        for path, leaf in leaf_names.flat(params).items()
        if leaf.ndim >= 2
    }
