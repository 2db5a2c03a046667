"""The curve: points, a kind, and the weight of each point at t."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kd_heuristics.curves import trees
from kd_heuristics.runtime.precision import widened

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A curve phi(t) = sum over k of c_k(t) * points[k], t in [0, 1].

    Made by `line`, `polychain` or `bezier`. It is a pytree whose leaves are those of
    its points, so it can be an argument or a result of a compiled function, be
    differentiated in its points, or be what an optimiser fits. It has no length, order
    or arithmetic of its own.

    Attributes:
      points: trees alike in structure, shapes and types; the first and last are the
        curve's ends.
      kind: "polychain" or "bezier".
    """

    points: tuple[PyTree, ...]
    kind: str = dataclasses.field(metadata={"static": True})

    def at(self, t: ArrayLike) -> PyTree:
        """The tree phi(t); bit for bit the first point at t = 0, the last at t = 1.

        Types are those of the points; sums run in float32 or wider. It is
        differentiable in t and in the points, at the ends too: where the derivative
        jumps (the ends, a corner of a chain) it is the one towards larger t, at t = 1
        the one from smaller t.

        Args:
          t: scalar in [0, 1]; for many, `jax.vmap(curve.at)(t)`. A traced t outside
            goes on beyond the end.

        Raises: ValueError where a known t is outside [0, 1], or no scalar.
        """
        return trees.combine(self.coefficients(t), self.points)

    def coefficients(self, t: ArrayLike) -> jax.Array:
        """The weights c_k(t) of the points, [points]; they sum to 1.

        polychain: c_k(t) = max(0, 1 - |t * (n - 1) - k|), k = 0 .. n - 1.
        bezier: c_k(t) = C(n - 1, k) * t**k * (1 - t)**(n - 1 - k).

        >>> bezier([0.0, 1.0, 2.0]).coefficients(0.25).tolist()
        [0.5625, 0.375, 0.0625]
        >>> polychain([0.0, 1.0, 2.0]).coefficients(0.25).tolist()
        [0.5, 0.5, 0.0]
        """
        _check_t(t)
        return weights(self.kind, t, len(self.points))


def line(a: PyTree, b: PyTree) -> Curve:
    """The straight segment (1 - t) * a + t * b.

    Args:
      a: the tree at t = 0.
      b: the tree at t = 1, alike in structure, shapes, types and in all leaves that
        are not floating-point.

    Raises: ValueError that names the first leaf that differs.

    >>> line({"w": jnp.array([0.0, 2.0])}, {"w": jnp.array([4.0, 4.0])}).at(0.25)["w"]
    Array([1. , 2.5], dtype=float32)
    """
    return polychain([a, b])


def polychain(points: Sequence[PyTree]) -> Curve:
    """Straight segments through all points, equally many t for each.

    c_k(t) = max(0, 1 - |t * (n - 1) - k|) for n points k = 0 .. n - 1 (Garipov et al.
    2018, who have one bend).

    Args:
      points: at least two trees, the ends first and last, the bends between.

    Raises: ValueError for fewer than two points, or that names the first leaf that
      differs.

    >>> curve = polychain([jnp.float32(0), jnp.float32(10), jnp.float32(0)])
    >>> [float(curve.at(t)) for t in (0.0, 0.25, 0.5, 0.75)]
    [0.0, 5.0, 10.0, 5.0]
    """
    return _curve(points, "polychain")


# Says its arguments again, so that the docstring can be read by itself.
def bezier(points: Sequence[PyTree]) -> Curve:
    """The Bezier curve of degree n - 1 of n points.

    c_k(t) = C(n - 1, k) * t**k * (1 - t)**(n - 1 - k) (Garipov et al. 2018, who have
    one bend). It passes through its ends, not through its bends.

    Args:
      points: at least two trees, the ends first and last, the bends between.

    Raises: ValueError for fewer than two points, or that names the first leaf that
      differs.

    >>> curve = bezier([jnp.float32(0), jnp.float32(10), jnp.float32(0)])
    >>> [float(curve.at(t)) for t in (0.0, 0.25, 0.5, 0.75)]
    [0.0, 3.75, 5.0, 3.75]
    """
    return _curve(points, "bezier")


def midpoint(a: PyTree, b: PyTree) -> PyTree:
    """(a + b) / 2, where a bend between two networks may start.

    >>> float(midpoint(jnp.float32(1), jnp.float32(4)))
    2.5
    """
    return line(a, b).at(0.5)


def bends(curve: Curve) -> tuple[PyTree, ...]:
    """The points between the ends: what is fitted where the ends are fixed."""
    return curve.points[1:-1]


def with_bends(curve: Curve, bends: Sequence[PyTree]) -> Curve:
    """The same curve through other bends, any number of them.

    Raises: ValueError that names the first leaf in which a bend differs from the ends.

    >>> segment = line(jnp.float32(0), jnp.float32(2))
    >>> float(with_bends(segment, [jnp.float32(5)]).at(0.5))
    5.0
    """
    return _curve([curve.points[0], *bends, curve.points[-1]], curve.kind)


def _curve(points, kind):
    points = tuple(points)
    if len(points) < 2:
        raise ValueError(
            f"a curve needs at least two points, got {len(points)}; give both ends"
        )
    trees.check_alike(points)
    return Curve(points, kind)


def _check_t(t):
    if np.ndim(t):
        raise ValueError(
            f"t must be a scalar, got shape {np.shape(t)}; use jax.vmap(curve.at)"
        )
    try:
        number = float(t)
    except jax.errors.JAXTypeError:
        return
    if not 0 <= number <= 1:
        raise ValueError(f"t must be in [0, 1], got {number}; 0 and 1 are the ends")


@functools.partial(jax.jit, static_argnames=("kind", "num_points"))
def weights(kind: str, t: ArrayLike, num_points: int) -> jax.Array:
    """`Curve.coefficients` without a curve: of a kind and a number of points."""
    return _WEIGHTS[kind](widened(t), num_points)


def _chain_weights(t, num_points):
    """Returns each point's weight in a polygonal chain at t."""
    # The segment is found first: the derivative of max(0, 1 - |x|) would be 0 or half
    # of a slope at its corners, where the ends of the curve lie.
    position = t * (num_points - 1)
    segment = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)), 0, num_points - 2)
    local = position - segment
    k = jnp.arange(num_points).astype(t.dtype)
    beyond = jnp.where(k == segment + 1, local, 0)
    return jnp.where(k == segment, 1 - local, beyond)


def _bezier_weights(t, num_points):
    """Returns each point's weight in a Bezier curve at t: Bernstein polynomials."""

    # Degree by degree: no power of 0, whose derivative would be NaN, and no binomial
    # coefficient, which would overflow. A loop, because XLA compiles a long chain of
    # pads for minutes.
    def raised(_, weights):
        return (1 - t) * weights + t * jnp.pad(weights[:-1], (1, 0))

    constant = jnp.zeros(num_points, t.dtype).at[0].set(1)
    return jax.lax.fori_loop(0, num_points - 1, raised, constant)


_WEIGHTS = {"polychain": _chain_weights, "bezier": _bezier_weights}
