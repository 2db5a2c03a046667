"""The plane through three networks, with coordinates in Euclidean units."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kd_heuristics.curves import trees
from kd_heuristics.landscape.gram import gram, rounding
from kd_heuristics.runtime.precision import common_type, widened

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """All w_1 * a + w_2 * b + w_3 * c whose weights sum to 1; made by `plane`.

    A pytree, so that it can be an argument of a compiled function.

    Attributes:
      networks: the three trees a, b and c.
      anchors: their coordinates, float64 [3, 2].
      inverse: of the matrix whose columns are the coordinates of b - a and c - a,
        float64 [2, 2].
      foot: coordinates of the plane's point nearest to the zero network, float64 [2].
      height: how far that point is from zero; 0.0 where it cannot be told from zero.
    """

    networks: tuple[PyTree, PyTree, PyTree]
    anchors: Any
    inverse: Any
    foot: Any
    height: Any

    def at(self, x: ArrayLike, y: ArrayLike) -> PyTree:
        """The network at (x, y); bit for bit a, b or c at its own coordinates.

        It is origin + x * u + y * v with unit vectors u and v. Types are those of the
        networks; sums run in float32 or wider. Differentiable, and for jit and vmap:
        `jax.vmap(plane.at)(xs, ys)`.

        Args:
          x: scalar, in units of Euclidean distance.
          y: as `x`.
        """
        return trees.combine(self.weights(x, y), self.networks)

    def weights(self, x: ArrayLike, y: ArrayLike) -> jax.Array:
        """The weights of the three networks at (x, y), [3]; they sum to 1."""
        point = jnp.stack([widened(x), widened(y)])
        anchors = jnp.asarray(self.anchors, point.dtype)
        inverse = jnp.asarray(self.inverse, point.dtype)
        second, third = jnp.matmul(
            inverse, point - anchors[0], precision=jax.lax.Precision.HIGHEST
        )
        general = jnp.stack([1 - second - third, second, third])
        is_anchor = (point[None] == anchors).all(axis=1)
        return trees.pinned(general, is_anchor.any(), is_anchor.astype(point.dtype))

    def project(
        self, params: PyTree, method: str = "affine"
    ) -> tuple[jax.Array, jax.Array]:
        """Where a network comes to lie on the plane, (x, y), by least squares.

        affine: the point of the plane nearest to it; this inverts `at`.
        span: the weights (w_1, w_2, w_3) of least |params - w_1 a - w_2 b - w_3 c|,
        whose sum is free, applied to the anchors: (x, y) = sum over k of w_k *
        anchors[k], as Gotmare et al. 2019 project iterates (section 3). The two agree
        where the sum is 1.

        Each anchor has exactly its own coordinates. For jit, vmap and grad.

        Args:
          params: a tree alike in structure, shapes and types.
          method: "affine" or "span".

        Raises: ValueError that names the first leaf that differs; or for "span" where
          the plane passes through the zero network, so that the weights are not unique.
        """
        if method not in ("affine", "span"):
            raise ValueError(f'method must be "affine" or "span", got {method!r}')
        trees.check_alike([self.networks[0], params], constants=False)
        if method == "span" and _is_zero(self.height):
            raise ValueError(
                "the plane passes through the zero network, so weights without a fixed "
                'sum are not unique; use method="affine"'
            )
        values = trees.moving([*self.networks, params])
        return _project(
            values, self.anchors, self.inverse, self.foot, self.height, method
        )


def plane(a: PyTree, b: PyTree, c: PyTree, axes: str = "pca") -> Plane:
    """The plane through three networks.

    pca: the origin is the mean of the three; the x axis is the direction in which they
    spread most, and points to the side of a, the y axis to that of c (Gotmare et al.
    2019, Figures 3, 12 and 13). gram_schmidt: the origin is a, the x axis points to b,
    and c has positive y (Garipov et al. 2018).

    Coordinates are Euclidean distances over all floating-point leaves, found in
    float64. The trees must not be traced.

    Args:
      a: any tree of arrays.
      b: a tree alike in structure, shapes, types and in all leaves that are not
        floating-point.
      c: as `b`.
      axes: "pca" or "gram_schmidt".

    Raises: ValueError that names the first leaf that differs, two equal networks,
      three on one line, or values that are not finite.

    >>> three = [{"w": jnp.array(w)} for w in ([0.0, 0.0], [3.0, 0.0], [3.0, 4.0])]
    >>> found = plane(*three, axes="gram_schmidt")
    >>> found.anchors.tolist()
    [[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]
    >>> found.at(1.0, 2.0)["w"].tolist()
    [1.0, 2.0]
    >>> [float(x) for x in found.project({"w": jnp.array([5.0, -1.0])})]
    [5.0, -1.0]
    """
    if axes not in _ANCHORS:
        raise ValueError(f'axes must be "pca" or "gram_schmidt", got {axes!r}')
    networks = (a, b, c)
    trees.check_alike(networks)
    from_a = gram([b, c], origin=a)
    noise = rounding(networks)
    _check_triangle(from_a, noise)
    anchors = _ANCHORS[axes](from_a)
    inverse = np.linalg.inv((anchors[1:] - anchors[0]).T)
    foot, height = _foot(gram(networks), anchors)
    return Plane(
        networks, anchors, inverse, foot, 0.0 if height <= 4 * noise else height
    )


def _pca(from_a) -> np.ndarray:
    """Coordinates from the inner products of b - a and c - a, centred."""
    inner = np.pad(from_a, ((1, 0), (1, 0)))
    centred = inner - inner.mean(0) - inner.mean(1)[:, None] + inner.mean()
    squares, vectors = np.linalg.eigh(centred)
    anchors = vectors[:, :0:-1] * np.sqrt(np.maximum(squares[:0:-1], 0))
    return anchors * np.where([anchors[0, 0] < 0, anchors[2, 1] < 0], -1, 1)


def _gram_schmidt(from_a) -> np.ndarray:
    width = np.sqrt(from_a[0, 0])
    shift = from_a[0, 1] / width
    return np.array([[0, 0], [width, 0], [shift, _height(from_a)]])


_ANCHORS = {"pca": _pca, "gram_schmidt": _gram_schmidt}


def _height(from_a) -> float:
    """Distance of c from the line through a and b."""
    determinant = from_a[0, 0] * from_a[1, 1] - from_a[0, 1] ** 2
    return float(np.sqrt(max(determinant, 0) / from_a[0, 0]))


def _check_triangle(from_a, noise) -> None:
    sides = np.sqrt(
        [from_a[0, 0], from_a[1, 1], from_a[0, 0] + from_a[1, 1] - 2 * from_a[0, 1]]
    )
    for side, pair in zip(sides, ("0 and 1", "0 and 2", "1 and 2"), strict=True):
        if side == 0:
            raise ValueError(
                f"networks {pair} are equal; a plane needs three that differ"
            )
    # The height over the longest side: rounding lifts collinear networks a little.
    height = _height(from_a) * sides[0] / sides.max()
    if height <= max(4 * noise, 1e-7 * sides.max()):
        raise ValueError(
            f"the three networks lie on one line, to rounding: the longest side is "
            f"{sides.max():.4g} and the triangle {height:.2g} high; give a third that "
            "lies off it, or use curves.line"
        )


def _foot(inner, anchors) -> tuple[np.ndarray, float]:
    """The point of the plane nearest to zero: its coordinates and its distance."""
    # Least |sum w_k p_k| with sum w_k = 1, in the two free weights.
    steps = np.array([[-1.0, 1, 0], [-1, 0, 1]])
    free = np.linalg.solve(steps @ inner @ steps.T, -steps @ inner[0])
    weights = np.array([1.0, 0, 0]) + free @ steps
    return weights @ anchors, float(np.sqrt(max(weights @ inner @ weights, 0)))


def _is_zero(height) -> bool:
    return not isinstance(height, jax.core.Tracer) and float(height) == 0


@functools.partial(jax.jit, static_argnames="method")
def _project(values, anchors, inverse, foot, height, method):
    """Coordinates of the last of each leaf's four values, the networks' and its own."""
    dtype = common_type(*(widened(leaf[0]).real.dtype for leaf in values))
    anchors, inverse, foot = (jnp.asarray(x, dtype) for x in (anchors, inverse, foot))
    to_foot = inverse @ (foot - anchors[0])
    # Columns: the shares of b - a and c - a in u, in v, and in the vector to the foot.
    shares = jnp.concatenate([inverse, to_foot[:, None]], axis=1)
    products = jnp.zeros(3, dtype)
    same = jnp.ones(3, bool)
    for leaf in values:
        a, b, c, point = map(widened, leaf)
        for k, share in enumerate(shares.T):
            axis = share[0] * (b - a) + share[1] * (c - a) + (a if k == 2 else 0)
            product = jnp.real((point - a) * jnp.conj(axis)).sum()
            products = products.at[k].add(product)
        same &= jnp.stack([(point == anchor).all() for anchor in (a, b, c)])
    found = anchors[0] + products[:2]
    if method == "span":
        # The sum of the free weights exceeds 1 by excess. What lies off the plane's
        # origin by -foot grows with it.
        excess = products[2] / jnp.square(jnp.asarray(height, dtype))
        found = found + excess * foot
    found = trees.pinned(found, same.any(), anchors[same.argmax()])
    return found[0], found[1]
