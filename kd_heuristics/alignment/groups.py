"""The permutation symmetries of a network, and the application of permutations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kd_heuristics.alignment import layout
from kd_heuristics.alignment.check import check_arrays
from kd_heuristics.alignment.layout import Permutations, Piece
from kd_heuristics.alignment.taps import UnitTap
from kd_heuristics.curves.trees import check_alike
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.errors import InputError

PyTree = Any
Apply = Callable[[PyTree, jax.Array], Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that one permutation moves.

    Attributes:
      name: the first place that holds them, "params/conv/kernel:3" for axis 3 of a
        leaf.
      size: number of units.
      within: names and sizes of units inside each unit, such as the channels of a
        head: they are permuted too, in each unit in its own way.
      moves: whether the units themselves are permuted, or only those within.
      leaves: names of the leaves that hold the units.
    """

    name: str
    size: int
    within: Mapping[str, int]
    moves: bool
    leaves: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Spec:
    """How a network's variables may be permuted without a change of its function.

    Attributes:
      groups: units that are permuted together, by name, in the program's order.
      left_alone: reason by axis or group, for units that no permutation moves, beside
        inputs, outputs and positions.
      pieces: parts of each leaf that permutations move.
      like: shapes of the variables.
      apply: the function that was traced.
      taps: activations of the units.
    """

    groups: Mapping[str, Group]
    left_alone: Mapping[str, str]
    pieces: Mapping[str, list[Piece]]
    like: PyTree
    apply: Apply
    taps: tuple[UnitTap, ...]

    @property
    def parents(self) -> dict[str, str]:
        """The group of the units within units."""
        return {name: g.name for g in self.groups.values() for name in g.within}

    def identity(self) -> Permutations:
        """Returns the permutations that change nothing."""
        return self._permutations(
            lambda count, size: np.tile(np.arange(size), (count, 1))
        )

    def random(self, key: jax.Array) -> Permutations:
        """Returns uniformly random permutations."""
        words = np.asarray(jax.random.key_data(key)).ravel()
        random = np.random.default_rng([int(word) for word in words])
        shuffled = functools.partial(random.permuted, axis=1)
        return self._permutations(
            lambda count, size: shuffled(np.tile(np.arange(size), (count, 1)))
        )

    def _permutations(self, rows) -> dict[str, np.ndarray]:
        found = {}
        for group in self.groups.values():
            if group.moves:
                found[group.name] = rows(1, group.size)[0]
            for name, size in group.within.items():
                found[name] = rows(group.size, size)
        return found

    def permute(self, variables: PyTree, permutations: Permutations) -> PyTree:
        """Returns variables with their units in another order; the same function.

        Args:
          variables: as given to `spec`.
          permutations: by name of group or of units within; names may be missing. Unit
            i of the result is unit permutations[name][i] of the variables.

        Raises: ValueError if the variables have another structure or shape.
        """
        self.check(variables, "variables")
        leaves = leaf_names.flat(variables)
        moved = {
            leaf: own
            for leaf, own in self.pieces.items()
            if any(name in permutations for piece in own for name in piece.names)
        }
        changed = layout.apply(leaves, moved, permutations, self.parents)
        return leaf_names.tree_map(
            lambda name, leaf: _like(leaf, changed[name]) if name in changed else leaf,
            variables,
        )

    def check(self, variables: PyTree, name: str) -> None:
        """Raises ValueError if variables differ from the traced ones in shape."""
        check_arrays(leaf_names.flat(variables), name)
        try:
            check_alike([self.like, jax.tree.map(shape_of, variables)], constants=False)
        except ValueError as error:
            raise InputError(
                f"{name} (tree 1) must be alike the variables of the spec (tree 0): "
                f"{error}; networks of different width or form cannot be aligned"
            ) from None

    def __str__(self) -> str:
        lines = []
        for group in self.groups.values():
            inside = "".join(f" of {size} units" for size in group.within.values())
            lines.append(
                f"{group.name}: {group.size}{inside}, {len(group.leaves)} leaves"
            )
        lines += [f"left alone: {k} ({v})" for k, v in self.left_alone.items()]
        return "\n".join(lines)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of a leaf."""
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)


def _like(leaf, array):
    """Returns an array on the devices of a leaf."""
    if isinstance(leaf, jax.Array):
        return jax.device_put(array, leaf.sharding)
    return array
