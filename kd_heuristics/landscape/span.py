"""All points reached from one network along given directions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.curves import trees
from kd_heuristics.precision import common_type, widened

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """origin + sum over k of x_k * directions[k]; made by `span`.

    A pytree, so that it can be an argument of a compiled function.

    Attributes:
      origin: a tree.
      directions: trees alike, one or more.
    """

    origin: PyTree
    directions: tuple[PyTree, ...]

    def at(self, *coordinates: ArrayLike) -> PyTree:
        """The network at a coordinate a direction; bit for bit the origin at zeros.

        Types are the origin's; sums run in float32 or wider. Differentiable, and for
        jit and vmap.

        Args:
          *coordinates: scalars, in units of the directions' lengths.

        Raises: ValueError for another number of coordinates than of directions.
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
        """Coordinates of the span's point nearest to a network, by least squares.

        Directions need not be orthogonal, but independent. Inverts `at`.

        Args:
          params: a tree alike in structure, shapes and types.

        Returns: a scalar a direction.

        Raises: ValueError that names the first leaf that differs.
        """
        trees.check_alike([self.origin, params], constants=False)
        values = trees.moving([self.origin, *self.directions, params])
        return tuple(_nearest(values))


def span(origin: PyTree, *directions: PyTree) -> Span:
    """Where one gets from a network along one or more directions.

    Args:
      origin: any tree of arrays.
      *directions: trees alike in structure, shapes and types, as of `random_direction`
        or `trajectory`; leaves that are not floating-point are ignored.

    Raises: ValueError for no direction, or that names the first leaf that differs.

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
    """The solution of the normal equations of unit directions."""
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
