"""The trial of each group: a random permutation must not change the outputs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled
from kd_heuristics.runtime.errors import InputError

PyTree = Any

TOLERANCE = 1e-5  # of the largest output


def check_arrays(leaves: Mapping[str, Any], whose: str) -> None:
    """Raises ValueError if a leaf is no array."""
    for name, leaf in leaves.items():
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise InputError(
                f"leaf {name!r} of {whose} is a {type(leaf).__name__}, not an array; "
                "keep it out (equinox.partition) and combine in apply"
            )


def check_finite(leaves: Mapping[str, Any], whose: str) -> None:
    """Raises ValueError if a floating-point leaf is not finite."""
    for name, leaf in leaves.items():
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise InputError(
                f"leaf {name!r} of {whose} is a shape without values; give variables "
                "as network.init draws them, or trained ones"
            )
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        if inexact and not np.isfinite(np.asarray(leaf)).all():
            raise InputError(
                f"leaf {name!r} of {whose} is not finite; the network has diverged, so "
                "choose an earlier step"
            )


def refused(spec: Any, variables: PyTree, images: PyTree) -> dict[str, str]:
    """Returns the groups whose random permutation changes the outputs, with reasons.

    At a start, biases are 0 and a last layer may be, and wrong permutations would pass;
    so all variables are moved at random first.
    """
    moved = _moved(variables)
    apply = compiled.once(spec.apply)
    with jax.default_matmul_precision("highest"):
        outputs = _flat(apply(moved, images))
        largest = max(np.abs(outputs).max(initial=0), np.finfo(np.float32).tiny)
        if not np.isfinite(largest):
            raise InputError(
                "apply gave outputs that are not finite, so no permutation can be "
                "tried; give images and variables of a usual size"
            )
        random = spec.random(jax.random.key(1))
        found = {}
        for group in spec.groups.values():
            names = [group.name, *group.within]
            own = {name: random[name] for name in names if name in random}
            other = _flat(apply(spec.permute(moved, own), images))
            change = np.abs(other - outputs).max(initial=0) / largest
            if not change <= TOLERANCE:
                found[group.name] = (
                    f"a random permutation changed the outputs by {change:.1e} of the "
                    "largest"
                )
    return found


def _flat(outputs) -> np.ndarray:
    leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(outputs)]
    return np.concatenate(leaves).astype(np.float64)


def _moved(variables):
    """Returns variables a tenth of their size away; those above 0 stay above."""
    random = np.random.default_rng(0)

    def moved(name, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        array = np.asarray(leaf, np.float64)
        size = np.sqrt(np.mean(np.square(array))) if array.size else 1.0
        drawn = array * (1 + 0.1 * random.normal(size=array.shape))
        drawn += 0.1 * (size or 1.0) * random.normal(size=array.shape)
        if array.size and array.min() >= 0 and size:
            drawn = np.abs(drawn)
        return drawn.astype(leaf.dtype)

    return leaf_names.tree_map(moved, variables)
