"""Forward passes of the layers in float64 NumPy, for all models' tests."""

import jax
import numpy as np


def doubles(tree):
    """The tree's leaves as float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def perturbed(variables, seed=0):
    """Variables in which no scale is 1, no bias or mean 0 and no two leaves alike."""
    rng = np.random.default_rng(seed)

    def perturb(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        noise = rng.uniform(0.5, 1.5, leaf.shape)
        shift = 0 if path[-1].key in ("scale", "var") else 1
        return np.asarray(noise - shift, np.float32)

    return jax.tree_util.tree_map_with_path(perturb, variables)


def windows(x, size, stride, fill):
    """[n, h', w', size * size, c], padded by (size - 1) / 2 on every side."""
    margin = size // 2
    edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = np.pad(x, edges, constant_values=fill)
    height, width = x.shape[1:3]
    taps = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(size)
        for j in range(size)
    ]
    return np.stack(taps, 3)


def convolve(x, layer, stride=1):
    kernel = layer["kernel"]
    flat = kernel.reshape(-1, *kernel.shape[2:])
    seen = windows(x, len(kernel), stride, 0.0)
    return np.einsum("nhwkc,kcd->nhwd", seen, flat) + layer.get("bias", 0.0)


def max_pool_2x2(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def max_pool_3x3(x):
    return windows(x, 3, 2, -np.inf).max(3)


def normalise(x, layer, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]


def normalise_batch(x, layer, stats, groups, momentum):
    """The output and the new running statistics."""
    parts = np.split(x, groups)
    axes = tuple(range(x.ndim - 1))
    means = [part.mean(axes) for part in parts]
    variances = [part.var(axes) for part in parts]
    y = np.concatenate(
        [
            normalise(part, layer, mean, var)
            for part, mean, var in zip(parts, means, variances, strict=True)
        ]
    )
    moments = {"mean": means, "var": variances}
    moved = {
        name: momentum * stats[name] + (1 - momentum) * np.mean(values, 0)
        for name, values in moments.items()
    }
    return y, moved
