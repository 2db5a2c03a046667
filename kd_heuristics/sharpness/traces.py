"""Trace of a loss's Hessian, by groups of leaves."""

import functools
from collections.abc import Callable
from typing import SupportsIndex

import jax
import jax.numpy as jnp

from kd_heuristics.curves.trees import is_inexact
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled
from kd_heuristics.runtime.values import integer
from kd_heuristics.sharpness import hessian
from kd_heuristics.sharpness.hessian import Loss, PyTree


def trace(
    loss: Loss,
    params: PyTree,
    batches: PyTree,
    *,
    key: jax.Array,
    num_samples: SupportsIndex = 32,
    group: Callable[[str], str | None] | None = None,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Estimates the trace of each diagonal block of the mean loss's Hessian.

    tr H_g is the mean of z_g . (H z)_g over random signs z (Hutchinson 1990), with z_g
    the entries of group g; one product serves all groups. The standard error is that of
    the mean of `num_samples` draws. mean +- t * error is a confidence interval, with t
    the quantile of Student's distribution for num_samples - 1 degrees of freedom.

    Args:
      loss: as in `top`.
      params: as in `top`.
      batches: as in `top`.
      key: key of the random signs.
      num_samples: number of Hessian-vector products, at least 2.
      group: returns the group of a leaf, as `"fc/kernel" -> "fc"`, or `None` to leave
        the leaf out. Without it, one group "all" holds every leaf.

    Returns: `{group: (mean, standard error)}`, in the order of the leaves.

    Raises: ValueError as `top` does, or if there is no group, or a group is not a
      string or has no entries.

    >>> def loss(w, batch):
    ...     return sum((batch * leaf**2).sum() for leaf in w.values()) / 2
    >>> found = trace(loss, {"a": jnp.ones(3), "b": jnp.ones(1)}, jnp.full((1, 1), 2.0),
    ...               key=jax.random.key(0), group=lambda name: name)
    >>> {name: float(mean) for name, (mean, _) in found.items()}
    {'a': 6.0, 'b': 2.0}
    """
    samples = integer("num_samples", num_samples, 2, remedy="for a standard error")
    groups = _groups(params, group)
    problem = hessian.checked(loss, params, batches)
    found = _trace(*problem[:3], key, groups=groups, num_samples=samples)
    hessian.check_finite(found)
    names = [name for name in dict.fromkeys(groups) if name is not None]
    return dict(zip(names, zip(*found, strict=True), strict=True))


def _groups(params, group) -> tuple[str | None, ...]:
    """Returns the group of each floating-point leaf."""
    leaves = {
        name: leaf for name, leaf in leaf_names.flat(params).items() if is_inexact(leaf)
    }
    if group is None:
        return ("all",) * len(leaves)
    found = {name: group(name) for name in leaves}
    for name, own in found.items():
        if not isinstance(own, str | None):
            raise ValueError(
                f"group({name!r}) must be a name, or None to leave the leaf out, got "
                f"{own!r}"
            )
    sizes = dict.fromkeys(found.values(), 0)
    for name, own in found.items():
        sizes[own] += jnp.size(leaves[name])
    sizes.pop(None, None)
    empty = [name for name, size in sizes.items() if size == 0]
    if empty or not sizes:
        raise ValueError(
            f"a group must have a floating-point entry, got none in {empty or 'any'}; "
            f"the leaves are {[*leaves]}"
        )
    return tuple(found.values())


@functools.partial(compiled.jit, static_argnames=("groups", "num_samples"))
def _trace(loss, params, batches, key, groups, num_samples):
    """Returns means and standard errors, [groups] each."""
    flat = hessian.Flat(params)
    names = [name for name in dict.fromkeys(groups) if name is not None]
    times = hessian.products(loss, flat, batches)

    def sample(key):
        # jax.random.rademacher would draw other signs if x64 is enabled.
        bits = jax.random.bits(key, (flat.size,), jnp.uint32)
        signs = jnp.where(bits >> 31 == 0, 1, -1).astype(flat.dtype)
        parts = flat.split(signs * times(signs))
        sums = [part.sum().astype(flat.dtype) for part in parts]
        rows = [
            [value for value, own in zip(sums, groups, strict=True) if own == name]
            for name in names
        ]
        return jnp.stack([sum(row[1:], row[0]) for row in rows])

    with jax.default_matmul_precision("highest"):
        drawn = jax.lax.map(sample, jax.random.split(key, num_samples))
    errors = drawn.std(0, ddof=1) / num_samples**0.5
    return drawn.mean(0), errors
