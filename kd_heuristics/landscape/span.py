"""The affine span of one network and given directions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.curves import trees
from kd_heuristics.runtime.precision import common_type, widened

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """Affine set origin + sum over k of x_k * directions[k]; made by `span`.

    It is a pytree, so that it can be an argument of a compiled function.

    Attributes:
      origin: a tree.
      directions: one or more trees like `origin`.
    """

    origin: PyTree
    directions: tuple[PyTree, ...]

    def at(self, *coordinates: ArrayLike) -> PyTree:
        """Returns the network at given coordinates; at zeros the exact origin.

        Leaves have the origin's types; sums run in float32 or wider. Works under grad,
        jit and vmap.

        Args:
          *coordinates: one scalar per direction, in units of the directions' lengths.

        Raises: ValueError if the numbers of coordinates and directions differ.
        """
        if len(coordinates) != len(self.directions):
            raise ValueError(
                f"a span of {len(self.directions)} directions takes as many "
                f"coordinates, got {len(coordinates)}"
            )
        leaves, structure = jax.tree.flatten(self.origin)
        values = trees.moving([self.origin, *self.directions])
        moved = iter(_moved(values, [widened(x) for x in coordinates]))
        return structure.unflatten(
            next(moved) if trees.is_inexact(leaf) else leaf for leaf in leaves
        )

    def project(self, params: PyTree) -> tuple[jax.Array, ...]:
        """Returns the coordinates of the point nearest to a network (least squares).

        Directions must be linearly independent, but need not be orthogonal. Inverts
        `at`.

        Args:
          params: a tree with the origin's structure, shapes and types.

        Returns: one scalar per direction.

        Raises: ValueError that names the first leaf that differs.
        """
        trees.check_alike([self.origin, params], constants=False)
        values = trees.moving([self.origin, *self.directions, params])
        return tuple(_nearest(values))


def span(origin: PyTree, *directions: PyTree) -> Span:
    """Returns the span of a network and one or more directions.

    Args:
      origin: any tree of arrays.
      *directions: trees with the origin's structure, shapes and types, for instance
        from `random_direction` or `trajectory`; leaves that are not floating-point are
        ignored.

    Raises: ValueError if there is no direction, or a leaf differs from the origin's
      (the message names the first).

    >>> origin = {"w": jnp.array([1.0, 1.0])}
    >>> found = span(origin, {"w": jnp.array([0.0, 2.0])})
    >>> found.at(0.5)["w"].tolist()
    [1.0, 2.0]
    >>> float(found.project({"w": jnp.array([7.0, 3.0])})[0])
    1.0
    """
    if not directions:
        raise ValueError("a span needs at least one direction, got none")
    trees.check_alike([origin, *directions], constants=False)
    return Span(origin, directions)


@jax.jit
def _moved(values, coordinates):
    """Returns the floating-point leaves at the coordinates."""
    still = jnp.stack([x == 0 for x in coordinates]).all()
    moved = []
    for origin, *directions in values:
        wide = [widened(x) for x in (origin, *directions, *coordinates)]
        dtype = common_type(jnp.float32, *(x.dtype for x in wide))
        start, *factors = [x.astype(dtype) for x in wide]
        steps = map(jnp.multiply, factors[len(directions) :], factors)
        result = sum(steps, start).astype(jnp.result_type(origin))
        # The sum would lose the sign of zero and flush subnormal numbers.
        moved.append(trees.pinned(result, still, jnp.asarray(origin)))
    return moved


@jax.jit
def _nearest(values):
    """Solve the normal equations, with directions scaled to unit length."""
    count = len(values[0]) - 2
    dtype = common_type(jnp.float32, *(widened(leaf[0]).real.dtype for leaf in values))
    inner = jnp.zeros((count, count + 1), dtype)
    for origin, *directions, params in values:
        offset = widened(params) - widened(origin)
        rows = [widened(d) for d in directions]
        products = [
            jnp.stack([jnp.real(r * jnp.conj(s)).sum() for s in (*rows, offset)])
            for r in rows
        ]
        inner = inner + jnp.stack(products).astype(dtype)
    lengths = trees.safe_sqrt(jnp.diag(inner[:, :-1]))
    scaled = inner[:, :-1] / lengths[:, None] / lengths[None, :]
    return jnp.linalg.solve(scaled, inner[:, -1] / lengths) / lengths
