"""Which axes of a leaf number its filters, and which the layers of a stack.

Told by the leaf's kind (`leaf_kinds`), and in Flax by the biases and scales beside and
around it: a kernel [in, heads, dim] with a bias [heads, dim] has a filter for each head
and dim; where all biases and scales of a block have one axis more than such have, the
block is a stack of layers, as `nn.scan` and `nnx.vmap` make it, along its first axis.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kd_heuristics.leaf_kinds import KERNEL, VECTOR, LeafKind, leaf_kinds

PyTree = Any


class FilterAxes(NamedTuple):
    """The axes of a leaf that number what is normalised on its own.

    Attributes:
      filters: of the filters of one layer; a norm is over all axes but these and
        `layers`.
      layers: of the layers of a stack.
    """

    filters: tuple[int, ...]
    layers: tuple[int, ...] = ()


FilterAxis = int | Callable[[str, tuple[int, ...]], FilterAxes | None] | None


def filter_axes(tree: PyTree, filter_axis: FilterAxis) -> list[FilterAxes | None]:
    """The axes of each leaf, in the order of `jax.tree.leaves`; None for a vector.

    Args:
      tree: of arrays or shapes.
      filter_axis: as in `normalize_direction`.

    Raises: ValueError where a leaf has no such axis, or may be a stack or not.

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
    """Axes that the user gave, none of them negative."""
    if axes is None:
        return None
    rank = len(leaf.shape)
    for axis in (*axes.filters, *axes.layers):
        if not -rank <= axis < rank:
            raise ValueError(
                f"leaf {'/'.join(leaf.keys)!r} of shape {leaf.shape} has no axis "
                f"{axis}; give filter_axis another one"
            )
    return FilterAxes(*(tuple(axis % rank for axis in part) for part in axes))


def _found(leaf: LeafKind, stacks: "_Stacks") -> FilterAxes | None:
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
    """How many leading axes of a Flax leaf are those of a stack."""

    def __init__(self, kinds: Sequence[LeafKind]):
        self._leaves = {leaf.keys: leaf for leaf in kinds}
        self._evidence = {
            leaf.keys: self._depths(leaf) for leaf in kinds if leaf.kind == VECTOR
        }
        self._scopes: dict[tuple, int | None] = {}

    def depth(self, leaf: LeafKind) -> int:
        """By the innermost scope that tells."""
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
        """Axes of outputs, which are last."""
        if depth in self._bias_depths(leaf):
            return len(self._leaves[(*leaf.keys[:-1], "bias")].shape) - depth
        return 2 if _is_projection(leaf) and len(leaf.shape) - depth == 3 else 1

    def _scope(self, keys) -> int | None:
        """The depth that all biases and scales below agree on, else None."""
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
        """The depths at which a bias or scale may lie; none where it does not tell."""
        layer = vector.keys[:-1]
        kernel = self._leaves.get((*layer, "kernel"))
        if vector.keys[-1:] == ("bias",) and kernel:
            return self._bias_depths(kernel)
        tells = vector.keys[-1:] != ("bias",) or (*layer, "scale") in self._leaves
        return {len(vector.shape) - 1} if tells and vector.shape else set()

    def _bias_depths(self, leaf) -> set[int]:
        """Depths at which a kernel [*stack, *inputs, *outputs] fits its bias."""
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
    """Whether a kernel is [in, heads, dim] by the names of Flax's attention."""
    return leaf.kind == KERNEL and leaf.keys[-2:-1] in [
        ("query",),
        ("key",),
        ("value",),
    ]
