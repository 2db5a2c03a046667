"""Axes of a leaf that index its filters, and those that index a stack's layers.

They are inferred from the leaf's kind (`leaf_kinds`), and in Flax from the biases and
scales beside and around it. A kernel [in, heads, dim] with a bias [heads, dim] has a
filter for each head and dim. If all biases and scales of a block have one extra axis,
the block is a stack of layers along its first axis, as `nn.scan` and `nnx.vmap` make.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kd_heuristics.pytrees.leaf_kinds import KERNEL, VECTOR, LeafKind, leaf_kinds

PyTree = Any


class FilterAxes(NamedTuple):
    """Axes of a leaf that index its separately normalised parts.

    Attributes:
      filters: axes of a layer's filters; a norm is taken over all axes but these and
        `layers`.
      layers: axes of a stack's layers.
    """

    filters: tuple[int, ...]
    layers: tuple[int, ...] = ()


FilterAxis = int | Callable[[str, tuple[int, ...]], FilterAxes | None] | None


def filter_axes(tree: PyTree, filter_axis: FilterAxis) -> list[FilterAxes | None]:
    """Returns each leaf's axes, in the order of `jax.tree.leaves`; None for a vector.

    Args:
      tree: a tree of arrays or shapes.
      filter_axis: as in `normalize_direction`.

    Raises: ValueError if a leaf has no such axis, or may or may not be a stack.

    >>> import jax.numpy as jnp
    >>> filter_axes({"kernel": jnp.zeros((4, 2, 3)), "bias": jnp.zeros((2, 3))}, None)
    [None, FilterAxes(filters=(1, 2), layers=())]
    """
    kinds = leaf_kinds(tree)
    if callable(filter_axis):
        return [
            _given(leaf, filter_axis("/".join(leaf.keys), leaf.shape)) for leaf in kinds
        ]
    if filter_axis is not None:
        return [
            None
            if leaf.kind == VECTOR or len(leaf.shape) < 2
            else _given(leaf, FilterAxes((filter_axis,)))
            for leaf in kinds
        ]
    stacks = _Stacks(kinds)
    return [_found(leaf, stacks) for leaf in kinds]


def _given(leaf, axes) -> FilterAxes | None:
    """Returns the user's axes as nonnegative numbers; raise if the leaf lacks one."""
    if axes is None:
        return None
    rank = len(leaf.shape)
    for axis in (*axes.filters, *axes.layers):
        if not -rank <= axis < rank:
            raise ValueError(
                f"leaf {'/'.join(leaf.keys)!r} of shape {leaf.shape} has no axis "
                f"{axis}; choose another filter_axis"
            )
    return FilterAxes(*(tuple(axis % rank for axis in part) for part in axes))


def _found(leaf: LeafKind, stacks: "_Stacks") -> FilterAxes | None:
    """Infer the axes of a leaf; None for a vector."""
    rank = len(leaf.shape)
    if leaf.kind == VECTOR or rank < 2:
        return None
    depth = stacks.depth(leaf) if leaf.rank is None else max(rank - leaf.rank, 0)
    if rank - depth < 2:
        return None
    layers = tuple(range(depth))
    if leaf.outputs_first:
        return FilterAxes((depth,), layers)
    outputs = stacks.num_outputs(leaf, depth)
    return FilterAxes(tuple(range(rank - outputs, rank)), layers)


class _Stacks:
    """Inference of the number of leading stack axes of Flax leaves."""

    def __init__(self, kinds: Sequence[LeafKind]):
        self._leaves = {leaf.keys: leaf for leaf in kinds}
        self._evidence = {
            leaf.keys: self._depths(leaf) for leaf in kinds if leaf.kind == VECTOR
        }
        self._scopes: dict[tuple, int | None] = {}

    def depth(self, leaf: LeafKind) -> int:
        """Returns the number of stack axes, by the innermost conclusive scope."""
        known = None
        for end in range(len(leaf.keys)):
            scope = self._scope(leaf.keys[:end])
            known = known if scope is None else scope
        own = self._bias_depths(leaf)
        if known is None and len(own) > 1 and not _is_projection(leaf):
            raise ValueError(
                f"leaf {'/'.join(leaf.keys)!r} of shape {leaf.shape} may be a stack of "
                "layers or one layer with several axes of outputs; say which by "
                "filter_axis=lambda name, shape: landscape.FilterAxes(...)"
            )
        return known or 0

    def num_outputs(self, leaf: LeafKind, depth: int) -> int:
        """Returns the number of output axes, which come last."""
        if depth in self._bias_depths(leaf):
            return len(self._leaves[(*leaf.keys[:-1], "bias")].shape) - depth
        return 2 if _is_projection(leaf) and len(leaf.shape) - depth == 3 else 1

    def _scope(self, keys) -> int | None:
        """Returns the depth on which all biases and scales below agree, or None."""
        if keys not in self._scopes:
            below = [
                leaf for at, leaf in self._leaves.items() if at[: len(keys)] == keys
            ]
            told = [
                self._evidence[leaf.keys]
                for leaf in below
                if self._evidence.get(leaf.keys)
            ]
            common = set.intersection(*told) if told else set()
            depth = common.pop() if len(common) == 1 else None
            if depth and len({leaf.shape[:depth] for leaf in below}) > 1:
                depth = None
            self._scopes[keys] = depth
        return self._scopes[keys]

    def _depths(self, vector) -> set[int]:
        """Returns the possible depths of a bias or scale; empty if inconclusive."""
        layer = vector.keys[:-1]
        kernel = self._leaves.get((*layer, "kernel"))
        if vector.keys[-1:] == ("bias",) and kernel:
            return self._bias_depths(kernel)
        tells = vector.keys[-1:] != ("bias",) or (*layer, "scale") in self._leaves
        return {len(vector.shape) - 1} if tells and vector.shape else set()

    def _bias_depths(self, leaf) -> set[int]:
        """Returns depths at which kernel [*stack, *inputs, *outputs] fits its bias."""
        bias = self._leaves.get((*leaf.keys[:-1], "bias"))
        if leaf.kind != KERNEL or bias is None:
            return set()
        kernel, bias = leaf.shape, bias.shape
        return {
            depth
            for depth in range(len(bias))
            if len(kernel) > len(bias)
            and kernel[:depth] == bias[:depth]
            and kernel[len(kernel) - len(bias) + depth :] == bias[depth:]
        }


def _is_projection(leaf) -> bool:
    """Whether Flax's attention names imply that a kernel is [in, heads, dim]."""
    return leaf.kind == KERNEL and leaf.keys[-2:-1] in [
        ("query",),
        ("key",),
        ("value",),
    ]
