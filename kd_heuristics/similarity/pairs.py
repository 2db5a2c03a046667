"""Two layers against each other: one function for each measure.

All of them share these rules:

- Rows are examples, the same ones in both arrays. Units are centred, except in knn and
  rsa.
- Inputs are float32, float64 or complex. Half precision is computed as float32.
- Dead, duplicate, constant and linearly dependent units and more units than examples
  give a finite value in [0, 1] (debiased CKA and RSA: at most 1, possibly negative). A
  constant layer has similarity 0 with everything, including itself.
- They can be jitted, vmapped and differentiated. The derivative holds the rank fixed:
  absent directions get zero.
- Concrete calls raise ValueError for NaN or infinity. Traced ones return NaN.
- Concrete calls give a `SaturationWarning` if the ranks add up to more than the
  examples can tell apart. CCA is then partly or wholly 1 for any data.
"""

from functools import partial
from typing import Any, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.similarity import calls, comparing, factors, layers, positions
from kd_heuristics.similarity.algebra import adjoint, matmul
from kd_heuristics.similarity.measure import Measure


def cca(x: Any, y: Any) -> jax.Array:
    """Canonical correlations of two layers (Hotelling 1936).

    rho_i = i-th singular value of Q_x^H Q_y, where Q_x and Q_y are orthonormal bases
    of the spans of the centred columns of `x` and `y`.

    Invariant to invertible affine maps of either side's units. Each unit is first
    scaled to unit variance, so rank does not depend on scales. A direction is absent if
    its singular value is at most max(4 eps max(p, sqrt(n)), 0.2 sqrt(eps)) of the
    largest (2e-4 in float32 at 512 units), or no larger than the rounding error of the
    input.

    Args:
      x: [examples, p].
      y: [examples, q].

    Returns: [min(p, q)], descending, in [0, 1]; 0 past the smaller rank. Sums of
    correlations have exact derivatives, even if correlations repeat. A single one of a
    repeated group gets a one-sided derivative.

    Raises: ValueError, and warns, as the module says.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> cca(x, x @ jnp.diag(jnp.array([1.0, -5.0, 0.1]))).round(4).tolist()
    [1.0, 1.0, 1.0]
    """
    return _compared(Measure(name="cca"), x, y, spectrum=True)


def svcca(
    x: Any,
    y: Any,
    variance: SupportsFloat = 0.99,
    *,
    directions: SupportsIndex | None = None,
) -> jax.Array:
    """Mean canonical correlation of the leading directions (Raghu et al. 2017).

    Each layer is centred, not scaled, and reduced to the fewest principal directions
    that hold the share `variance` of its variance. The value is the mean of their
    canonical correlations over the smaller number kept. Invariant to orthogonal maps
    and a common scale.

    Args:
      x: [examples, p].
      y: [examples, q].
      variance: share, in (0, 1]; 0.99 in the paper.
      directions: keep this many directions instead.

    Returns: scalar in [0, 1]. If the gap at the cut closes, the kept space and the
    value have no derivative; a finite one is returned.

    Raises: ValueError, and warns, as the module says.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(svcca(x, x[:, ::-1])).__round__(4)
    1.0
    """
    return _compared(
        Measure(name="svcca", variance=variance, directions=directions), x, y
    )


def pwcca(x: Any, y: Any) -> jax.Array:
    """Projection-weighted CCA (Morcos et al. 2018, sec. 2).

    sum_i alpha_i rho_i / sum_i alpha_i, alpha_i = sum_j |<h_i, x_j>|, where h_i are
    the canonical variates of `x` and x_j its centred units. This weights a correlation
    by how much of `x` its direction explains. i runs over the smaller rank.

    Asymmetric: the first argument gives the weights. If correlations repeat, the
    variates of the group are not unique. Neither is the value, unless all correlations
    are equal.

    google/svcca's code weights by the narrower layer and differs by .03 to .07, for
    three reasons. Its variates are projections without whitening. It does not centre
    the activations. For a narrower second layer it projects the first layer's
    activations.

    Args:
      x: [examples, p], the layer that gives the weights.
      y: [examples, q].

    Returns: scalar in [0, 1].

    Raises: ValueError, and warns, as the module says.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(pwcca(x, 2 * x)).__round__(4)
    1.0
    """
    return _compared(Measure(name="pwcca"), x, y)


def cka(x: Any, y: Any, *, debiased: bool = False) -> jax.Array:
    """Linear centred kernel alignment (Kornblith et al. 2019, eq. 4).

    ||x^H y||_F^2 / (||x^H x||_F ||y^H y||_F) of the centred layers. Invariant to
    orthogonal maps and a common scale.

    Args:
      x: [examples, p].
      y: [examples, q].
      debiased: use the unbiased estimator of each of the three terms (Song et al.
        2012; Nguyen et al. 2021). For independent layers its mean is 0 with any number
        of examples, so it is sometimes negative. It is 0 if a layer's own term is not
        positive. Needs 4 examples.

    Returns: scalar in [0, 1]; debiased: at most about 1.

    Raises: ValueError as the module says. Nothing saturates, so nothing warns.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(cka(x, x[:, ::-1])).__round__(4)
    1.0
    """
    return _compared(Measure(name="cka", debiased=debiased), x, y)


def google_cca(x: Any, y: Any, *, epsilon: SupportsFloat = 1e-6) -> jax.Array:
    """The `mean` of google/svcca, for comparison with published figures.

    It divides covariances by their largest entry, drops units whose variance is then
    below `epsilon`, and adds `epsilon` to the diagonals. Correlations are the singular
    values of C_xx^(-1/2) C_xy C_yy^(-1/2). The value is their mean over the shortest
    prefix that holds 98 % of their sum. The prefix raises the value above a plain mean
    (by 15 % for independent data). `epsilon` shrinks directions of little variance, so
    the value depends on the units' scales.

    Unlike that package this returns 0 for a constant layer and does not raise at
    epsilon = 0. In float32, directions near epsilon lose digits; compare in float64.

    Args:
      x: [examples, p].
      y: [examples, q].
      epsilon: at least 0; the package's default is 0, the paper's runs used 1e-6.

    Returns: scalar in [0, 1].

    Raises: ValueError, and warns, as the module says.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(google_cca(x, x)).__round__(4)
    1.0
    """
    return _compared(Measure(name="google_cca", epsilon=epsilon), x, y)


def procrustes(x: Any, y: Any) -> jax.Array:
    """Orthogonal Procrustes similarity (Ding et al. 2021, eq. 3, as a similarity).

    ||x^H y||_* / (||x||_F ||y||_F) of the centred layers, where ||.||_* is the sum of
    the singular values. This is 1 minus half the squared distance between the layers,
    each scaled to norm 1, after the best rotation of one onto the other. Invariant to
    orthogonal maps and a common scale.

    Args:
      x: [examples, p].
      y: [examples, q]; the narrower layer counts as if padded with constant units.

    Returns: scalar in [0, 1].

    Raises: ValueError as the module says. Nothing saturates, so nothing warns.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(procrustes(x, 2 * x[:, ::-1])).__round__(4)
    1.0
    """
    return _compared(Measure(name="procrustes"), x, y)


def knn(
    x: Any, y: Any, k: SupportsIndex = 10, *, distance: str = "cosine"
) -> jax.Array:
    """Mutual k-nearest neighbours (Huh et al. 2024, sec. 2 and app. A).

    Mean over the examples of |N_x(i) & N_y(i)| / k, where N_x(i) are the k other
    examples nearest to example i in `x`. Among equally near ones the earlier count.
    Independent layers have k / (n - 1) on average.

    Cosines are taken without centring. Memory is that of n x n matrices. The derivative
    is 0.

    Args:
      x: [examples, p].
      y: [examples, q].
      k: neighbours, at least 1 and below the number of examples.
      distance: "cosine" or "euclidean".

    Returns: scalar in [0, 1].

    Raises: ValueError as the module says, and for k.

    >>> x = jax.random.normal(jax.random.key(0), (100, 3))
    >>> float(knn(x, 2 * x[:, ::-1])).__round__(4)
    1.0
    """
    return _compared(Measure(name="knn", k=k, distance=distance), x, y)


def rsa(
    x: Any, y: Any, *, correlation: str = "spearman", distance: str = "correlation"
) -> jax.Array:
    """Representational similarity analysis (Kriegeskorte et al. 2008).

    The correlation between the distances of pairs of examples in `x` and in `y`.

    Units are not centred: two examples are correlated over their raw units. Memory is
    that of n x n matrices. With "spearman" the derivative is 0, since ranks are
    constant.

    Args:
      x: [examples, p].
      y: [examples, q].
      correlation: between the distances: "spearman" (equal ones get the mean of their
        ranks) or "pearson".
      distance: between two examples: "correlation" (1 minus Pearson's over their units;
        1 if all units of an example are equal) or "euclidean".

    Returns: scalar in [-1, 1].

    Raises: ValueError as the module says. Nothing saturates, so nothing warns.

    >>> x = jax.random.normal(jax.random.key(0), (100, 4))
    >>> float(rsa(x, 2 * x[:, ::-1])).__round__(4)
    1.0
    """
    kind = Measure(name="rsa", correlation=correlation, distance=distance)
    return _compared(kind, x, y)


def dft_cca(x: Any, y: Any) -> jax.Array:
    """CCA of convolutional layers, frequency by frequency (Raghu et al. 2017, sec. 4).

    The maps of each channel are Fourier transformed. At each frequency CCA compares the
    complex spectra [examples, channels] and gives the mean correlation over
    min(channels). The larger map is cropped to the frequencies of the smaller one, and
    the values are averaged over frequencies. (`matrix` does this for other measures.)
    Invariant to a circular shift of all maps of one side.

    Args:
      x: [examples, h, w, channels]; [examples, positions, channels] and
        [examples, units] count as maps of w = 1 and of one position.
      y: like x, of any size and number of channels.

    Returns: scalar in [0, 1].

    Raises: ValueError, and warns, as the module says.

    >>> x = jax.random.normal(jax.random.key(0), (100, 4, 4, 2))
    >>> float(dft_cca(x, jnp.roll(x, 1, axis=2))).__round__(4)
    1.0
    """
    return layers.compare(Measure(name="cca"), "dft", {"x": x}, {"y": y})[0, 0]


def _compared(kind: Measure, x, y, spectrum=False):
    """Check two layers and compare them; `spectrum` gives all correlations of CCA."""
    both = calls.activations({"x": x, "y": y})
    for name, array in both.items():
        if array.ndim != 2:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, wanted [examples, units]; for "
                "maps take dft_cca, or matrix with conv='positions' or 'mean'"
            )
    calls.enough_examples(kind, len(both["x"]))
    program = partial(_program, kind=kind, spectrum=spectrum)
    (value, report), known = calls.run(program, *both.values())
    if known:
        calls.look(jax.device_get(report), (["x"], ["y"]), kind.saturates, 4)
    return value


@partial(jax.jit, static_argnames=("kind", "spectrum"))
def _program(x, y, kind, spectrum):
    a, b = (_prepared(kind, array) for array in (x, y))
    cross = matmul(adjoint(a.factor), b.factor)
    if spectrum:
        value = factors.correlations(cross)
        value = jnp.pad(value, (0, min(x.shape[1], y.shape[1]) - len(value)))
        value = jnp.where(a.finite & b.finite, value, jnp.nan)
    else:
        value = factors.compare(kind, cross, a, b)
    pair = np.zeros(1, int), np.zeros(1, int), a.rank[None], b.rank[None], len(x)
    return value, comparing.Report((a.finite[None], b.finite[None]), [pair])


def _prepared(kind, x):
    """One layer [examples, units] as a factor."""
    origin = positions.shift(x, "mean")
    return factors.prepare(kind, x - origin, positions.level(origin), origin[0])
