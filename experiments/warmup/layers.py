"""Which layers the arms of the warmup study freeze, and how much they change."""

from typing import Any

import numpy as np

from kd_heuristics.pytrees import leaf_names


def layer_of(path: str) -> str:
    """The layer of a parameter's path: "fc_0" of "fc_0/kernel".

    >>> layer_of("fc_0/kernel")
    'fc_0'
    """
    return path.rpartition("/")[0]


def in_fc(path: str) -> bool:
    """Whether a parameter belongs to the fully connected stack."""
    return path.startswith("fc")


def in_convolutions(path: str) -> bool:
    """Whether a parameter belongs to a layer below the stack."""
    return not in_fc(path)


def random_layers(params: Any, seed: int) -> frozenset[str]:
    """Draws layers below the FC stack that hold about as many parameters as it does.

    Goes through the layers in an order drawn from `seed` and takes each that keeps the
    total at or below the stack's. Takes the smallest layer if none does.
    """
    sizes: dict[str, int] = {}
    for path, leaf in leaf_names.flat(params).items():
        name = layer_of(path)
        sizes[name] = sizes.get(name, 0) + leaf.size
    target = sum(size for name, size in sizes.items() if in_fc(name))
    below = sorted(name for name in sizes if not in_fc(name))
    chosen, total = [], 0
    for name in np.random.RandomState(seed).permutation(below):
        if total + sizes[name] <= target:
            chosen.append(str(name))
            total += sizes[name]
    return frozenset(chosen or [min(below, key=sizes.__getitem__)])


def relative_change(before: Any, after: Any) -> np.ndarray:
    """Norm of each kernel's change, relative to the kernel's norm before.

    Returns: float64 [kernels], in the order of the paths; NaN if the run diverged.
    """
    pairs = zip(kernels(before).values(), kernels(after).values(), strict=True)
    return np.array(
        [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs], np.float64
    )


def kernels(params: Any) -> dict[str, np.ndarray]:
    """Flattened kernels by layer, in the order of the paths."""
    return {
        layer_of(path): np.asarray(leaf, np.float64).ravel()
        for path, leaf in leaf_names.flat(params).items()
        if path.endswith("kernel")
    }
