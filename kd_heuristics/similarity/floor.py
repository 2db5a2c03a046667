"""What a measure gives for layers that have nothing to do with each other."""

from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity import layers
from kd_heuristics.similarity.measure import Measure


def noise_floor(
    num_examples: SupportsIndex,
    p: SupportsIndex,
    q: SupportsIndex,
    *,
    measure: str = "cca",
    spectral: bool = False,
) -> float:
    """Expected similarity of two independent layers of Gaussian noise.

    Correlations of independent data are not 0: with many units and few examples some
    directions agree by chance, and with p + q > num_examples - 1 all of the excess
    agrees perfectly. The squared correlations follow a known law (Wachter 1980), with
    a = p / (num_examples - 1), b = q / (num_examples - 1), p <= q:

      density sqrt((h - s)(s - l)) / (2 pi a s (1 - s)) between l and h,
      (l, h) = (sqrt(a (1 - b)) -+ sqrt(b (1 - a)))^2,

    and what is missing to 1 sits at s = 1. With the first-order correction for finite
    sizes (Dumitriu and Paquette 2012) the mean is within 1 % from min(p, q) = 4 up,
    4 % at 2 and 3, and exact at 1.

    It holds for any two layers of which one is Gaussian, whatever the spectra.
    Positions of a map are not independent examples: take `shuffled_floor` for these.

    Args:
      num_examples: n, at least 2.
      p: directions of the first layer: units for "cca", "pwcca", "google_cca"; kept
        directions for "svcca".
      q: those of the second.
      measure: "cca", "svcca", "pwcca": mean correlation; "google_cca": mean over the
        prefix with 98 % of the sum (without the correction); "cka": the biased
        estimator for equal variances in all directions; "debiased_cka", "rsa": 0;
        "knn": that of k = 10.
      spectral: complex data, as in DFT-CCA.

    Returns: a value in [0, 1].

    Raises: ValueError for fewer than 2 examples, no units, an unknown measure, and
    procrustes, whose floor depends on the spectra.

    >>> round(noise_floor(10_000, 128, 128, measure="google_cca"), 3)
    0.11
    >>> round(noise_floor(10_000, 512, 512, measure="google_cca"), 3)
    0.221
    >>> noise_floor(100, 80, 200)
    1.0
    """
    kind = Measure(name=measure)
    name = kind.name
    num_examples = integer("num_examples", num_examples)
    p, q = integer("p", p), integer("q", q)
    if num_examples < 2 or min(p, q) < 1:
        raise ValueError(
            "noise_floor needs num_examples >= 2 and p, q >= 1, got "
            f"{num_examples}, {p} and {q}"
        )
    if name == "procrustes":
        raise ValueError(
            "noise_floor knows no procrustes, whose floor depends on the spectra: take "
            "shuffled_floor or permutation_test"
        )
    if name == "rsa" or kind.debiased:
        return 0.0
    if name == "knn":
        return min(int(kind.k) / (num_examples - 1), 1.0)
    n, p, q = num_examples - 1, min(p, q, num_examples - 1), max(p, q)
    if name == "cka":
        return float(np.sqrt(p * q / ((n + p + 1) * (n + q + 1))))
    if q >= n:
        return 1.0
    if name == "google_cca":
        rho = _correlations(n, p, q)
        last = np.searchsorted(np.cumsum(rho), 0.98 * np.sum(rho))
        return float(np.mean(rho[: last + 1]))
    return _single(n, q, spectral) if p == 1 else _mean(n, p, q, spectral)


def above_floor(values: jax.typing.ArrayLike, floor: jax.typing.ArrayLike) -> jax.Array:
    """A map on the scale from independent (0) to identical (1).

    (values - floor) / (1 - floor); 0 where the floor is 1, since such a value says
    nothing. Below the floor it is negative.

    Args:
      values: similarity map.
      floor: of the same shape, or one number for all entries.

    >>> above_floor(jnp.array([0.25, 0.625]), 0.25).tolist()
    [0.0, 0.5]
    """
    values = jnp.asarray(values)
    floor = jnp.broadcast_to(jnp.asarray(floor, values.dtype), values.shape)
    room = jnp.where(floor < 1, 1 - floor, 1)
    return jnp.where(floor >= 1, 0, (values - floor) / room)


def shuffled_floor(
    acts_a: layers.Activations,
    acts_b: layers.Activations | None,
    key: jax.Array,
    *args,
    repeats: SupportsIndex = 1,
    **options,
) -> jax.Array:
    """The floor of a map from the layers themselves: `acts_b` in another order.

    Comparing each example with another one keeps every layer's spectrum, sparsity and
    correlation between positions, and removes what the layers share.

    Args:
      acts_a: as for `matrix`.
      acts_b: as for `matrix`; None: `acts_a`.
      key: jax.random.key.
      *args: measure and conv, as for `matrix`.
      repeats: orders to average over.
      **options: those of `matrix`.

    Returns: float [layers_a, layers_b].

    >>> x = jax.random.normal(jax.random.key(0), (500, 4))
    >>> floor = shuffled_floor({"fc": x}, None, jax.random.key(1), "cka", repeats=8)
    >>> bool(abs(floor[0, 0] / noise_floor(500, 4, 4, measure="cka") - 1) < 0.3)
    True
    """
    acts_b = acts_a if acts_b is None else acts_b
    maps = []
    for repeat in jax.random.split(key, integer("repeats", repeats, 1)):
        order = jax.random.permutation(repeat, len(next(iter(acts_b.values()))))
        mixed = {name: jnp.asarray(array)[order] for name, array in acts_b.items()}
        maps.append(layers.matrix(acts_a, mixed, *args, **options))
    return jnp.mean(jnp.stack(maps), axis=0)


def _single(n, q, spectral):
    """E rho where rho^2 is Beta(q/2, (n - q)/2); halves become wholes for complex."""
    half = 1.0 if spectral else 0.5
    logs = gammaln(q * half + 0.5) - gammaln(q * half)
    return float(np.exp(logs + gammaln(n * half) - gammaln(n * half + 0.5)))


def _mean(n, p, q, spectral):
    squares, weights, free = _density(n, p, q)
    mean = free * np.sum(np.sqrt(squares) * weights) + (1 - free)
    if spectral:
        return float(mean)
    # For real data: a quarter of the ends' values less half the arcsine law's mean.
    low, high = _ends(n, p, q)
    arcsine = np.mean(np.sqrt(squares))
    return float(mean + ((np.sqrt(low) + np.sqrt(high)) / 4 - arcsine / 2) / p)


def _correlations(n, p, q):
    """As many correlations as p, at the quantiles of the law, descending."""
    squares, weights, free = _density(n, p, q)
    count = round(free * p)
    levels = (np.arange(count) + 0.5) / count
    found = np.interp(levels, np.cumsum(weights) - weights / 2, np.sqrt(squares))
    return np.concatenate([np.ones(p - count), found[::-1]])


def _density(n, p, q):
    """Points, their weights (of sum 1), and the share that is not exactly 1."""
    low, high = _ends(n, p, q)
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
    squares = low + (high - low) * (1 - np.cos(angle)) / 2
    weights = np.sin(angle) ** 2 / (squares * (1 - squares))
    return squares, weights / np.sum(weights), min(1.0, (n - q) / p)


def _ends(n, p, q):
    a, b = p / n, q / n
    one, other = np.sqrt(a * (1 - b)), np.sqrt(b * (1 - a))
    return (one - other) ** 2, (one + other) ** 2
