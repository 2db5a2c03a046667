"""All measures of two layers, each beside its oracle; compiled together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from kd_heuristics import similarity
from tests.similarity import oracles

MEASURES = {
    "cca": (similarity.cca, oracles.cca),
    "svcca": (similarity.svcca, oracles.svcca),
    "pwcca": (similarity.pwcca, oracles.pwcca),
    "cka": (similarity.cka, oracles.cka),
    "debiased": (
        functools.partial(similarity.cka, debiased=True),
        oracles.debiased_cka,
    ),
    "google_cca": (similarity.google_cca, oracles.google_mean),
    "procrustes": (similarity.procrustes, oracles.procrustes),
    "knn": (functools.partial(similarity.knn, k=3), oracles.knn),
    "rsa": (similarity.rsa, oracles.rsa),
    "pearson": (
        functools.partial(similarity.rsa, correlation="pearson"),
        functools.partial(oracles.rsa, outer=scipy.stats.pearsonr),
    ),
    "euclidean": (
        functools.partial(similarity.rsa, distance="euclidean"),
        functools.partial(oracles.rsa, distance="euclidean"),
    ),
}


STEPS = ("knn", "rsa", "euclidean")  # of neighbours and ranks: without a slope


@jax.jit
def all_measures(x, y):
    return {name: ours(x, y) for name, (ours, _) in MEASURES.items()}


@jax.jit
def means(x, y):
    """The measures as one vector, to be differentiated together."""
    values = all_measures(x, y)
    return jnp.stack([jnp.mean(values[name]) for name in MEASURES])


def smooth(x, y):
    """Those that have a derivative, as one vector."""
    values = {name: ours(x, y) for name, (ours, _) in MEASURES.items()}
    return jnp.stack([jnp.mean(v) for name, v in values.items() if name not in STEPS])


def with_derivatives(function):
    """`(x, y) -> (derivatives in both, value)`, the value computed once."""

    def twice(x, y):
        value = function(x, y)
        return value, value

    return jax.jacrev(twice, (0, 1), has_aux=True)


def related(seed, n, p, q, **options):
    return oracles.related(np.random.default_rng(seed), n, p, q, **options)
