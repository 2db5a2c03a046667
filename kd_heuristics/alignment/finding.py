"""The search for a network's permutation symmetries in its traced program."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.alignment import check, dims, layout, units
from kd_heuristics.alignment.contractions import CONTRACTIONS
from kd_heuristics.alignment.flows import FLOWS
from kd_heuristics.alignment.groups import Apply, Group, Spec, shape_of
from kd_heuristics.alignment.program import (
    IMAGES,
    VARIABLES,
    Value,
    Walk,
    constant,
    frozen,
)
from kd_heuristics.alignment.rules import RULES
from kd_heuristics.alignment.shapes import SHAPES
from kd_heuristics.alignment.taps import unit_taps
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.errors import InputError

PyTree = Any

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
)


def spec(apply: Apply, variables: PyTree, images: PyTree) -> Spec:
    """Finds the permutations of a network's units that do not change its function.

    The program of `apply` is traced, and each axis of each array in it is followed
    through products, convolutions (grouped and depthwise too), norms, sums, pools,
    reshapes, concatenations, loops over stacked layers and inner programs. Units that
    must move together form a group: the channels of a residual stream, the units of a
    hidden layer, the heads of an attention with the channels within each head. Then
    each group is tried: at randomly moved variables, a random permutation must leave
    the outputs within 1e-5 of their largest; else the group is left alone and named.

    Args:
      apply: `(variables, images) -> logits`, in evaluation mode, for instance
        `network.apply` of `models` or a function that calls your module.
      variables: any tree of arrays.
      images: a batch of inputs, any tree, for shapes and the trial; two suffice.

    Returns: the groups, `Spec.groups`, and what was left alone, `Spec.left_alone`:
      units that meet a primitive without a rule, control flow that depends on data, or
      blocks that do not nest.

    Raises: ValueError if a leaf is no array, a floating-point leaf is not finite,
      `apply` cannot be traced, or its outputs are not finite.

    >>> def apply(w, x):
    ...     return jnp.tanh(x @ w["first"]) @ w["last"]
    >>> w = {"first": jnp.ones((3, 5)), "last": jnp.ones((5, 2))}
    >>> print(spec(apply, w, jnp.ones((2, 3))))
    first:1: 5, 2 leaves
    """
    found = untried(apply, variables, images)
    check.check_finite(leaf_names.flat(variables), "variables")
    refused = check.refused(found, variables, images)
    groups = {name: g for name, g in found.groups.items() if name not in refused}
    left_alone = {**found.left_alone, **refused}
    return dataclasses.replace(found, groups=groups, left_alone=left_alone)


def untried(apply: Apply, variables: PyTree, images: PyTree) -> Spec:
    """Returns the spec of a network without a trial of its groups."""
    leaves = leaf_names.flat(variables)
    check.check_arrays(leaves, "variables")
    values, walk = _walk(apply, variables, images, leaves)
    like = jax.tree.map(shape_of, variables)
    return _named({n: v.axes for n, v in values.items()}, walk, like, apply)


def _walk(apply, variables, images, leaves):
    """Trace the network, and return the values of its leaves, in order of their use."""
    try:
        closed = jax.make_jaxpr(apply)(variables, images)
    except _UNTRACEABLE as error:
        raise InputError(
            "apply cannot be traced, because Python's control flow or NumPy depends on "
            f"data; use jax.lax.cond and jax.numpy: {str(error).splitlines()[0]}"
        ) from error
    walk = Walk(RULES | SHAPES | CONTRACTIONS, FLOWS)
    values = {}
    for name, leaf in leaves.items():
        moves = jnp.issubdtype(leaf.dtype, jnp.floating)
        fresh = tuple(map(dims.fresh, leaf.shape))
        values[name] = Value(fresh if moves else frozen(leaf.shape), VARIABLES)
        walk.record(values[name].axes)
    inputs = [Value(frozen(x.shape), IMAGES) for x in jax.tree.leaves(images)]
    consts = [*map(constant, closed.consts)]
    outputs = walk.run(closed.jaxpr, consts, [*values.values(), *inputs])
    for value in outputs:
        dims.freeze(value.axes)
    unused = [value for value in values.values() if id(value) not in walk.uses]
    for value in unused:
        dims.freeze(value.axes)
    order = sorted(values, key=lambda name: walk.uses.get(id(values[name]), 1 << 62))
    return {name: values[name] for name in order}, walk


def _named(leaves, walk, like, apply) -> Spec:
    """Give names to what the walk has found."""
    for axes in walk.arrays:  # replaces dimensions; only then are names final
        dims.dims_of(axes)
    names = units.named(leaves)
    parents = units.parents(names, walk.arrays)
    order = units.in_order(names, walk.arrays[len(leaves) :])
    free = [dim for dim in order if dim.frozen is None]
    roots = dict.fromkeys(parents.get(dim, dim) for dim in free)
    kept = {*free, *roots}
    pieces = {}
    for leaf, axes in leaves.items():
        own = layout.pieces(leaf, units.segments_of(axes, names, kept))
        if own:
            pieces[leaf] = own
    groups = {}
    for root in roots:
        name = names[root]
        within = {
            names[dim]: dim.size for dim in free if parents.get(dim, None) is root
        }
        holds = [
            leaf
            for leaf, own in pieces.items()
            if any(name in piece.names for piece in own)
        ]
        moves = root.frozen is None
        groups[name] = Group(name, root.size, within, moves, tuple(holds))
    left_alone = {
        names[dim]: dim.frozen
        for dim in names
        if dim.frozen not in (None, dims.NATURAL)
    }
    taps = unit_taps(walk.taps, names, kept)
    return Spec(groups, left_alone, pieces, like, apply, taps)
