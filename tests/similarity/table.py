"""All measures of two layers, each beside its oracle; compiled together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

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
}


@jax.jit
def all_measures(x, y):
    return {name: ours(x, y) for name, (ours, _) in MEASURES.items()}


@jax.jit
def means(x, y):
    """The measures as one vector, to be differentiated together."""
    values = all_measures(x, y)
    return jnp.stack([jnp.mean(values[name]) for name in MEASURES])


def with_derivatives(function):
    """`(x, y) -> (derivatives in both, value)`, the value computed once."""

    def twice(x, y):
        value = function(x, y)
        return value, value

    return jax.jacrev(twice, (0, 1), has_aux=True)


def related(seed, n, p, q, **options):
    return oracles.related(np.random.default_rng(seed), n, p, q, **options)
