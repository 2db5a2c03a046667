"""NaN and infinity at any size and place: refused by name, or NaN when traced.

On CPU, reductions by the largest of 4,096 entries or more may lose a NaN (jax 0.10.2).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from tests.selection import some_long
from tests.similarity.table import MEASURES

# Below, at and above 4,096 entries.
SIZES = [(40, 3), (65, 63), (64, 64), (500, 64)]
BAD = [(np.nan, 0), (np.nan, 0.5), (np.nan, 1), (np.inf, 0.5), (-np.inf, 1)]


def map_of(measure, x, y):
    # Another entry says nothing of the layer that is not finite.
    return similarity.matrix({"h": x}, {"h": y}, measure, "mean")[0, 0]


def streamed(measure, x, y):
    acc = similarity.Accumulator.init(x, y, debiased=measure == "cka")
    half = len(x) // 2
    acc = acc.update(x[:half], y[:half]).update(x[half:], y[half:])
    return acc.result(measure)


CALLS = {name: ours for name, (ours, _) in MEASURES.items()}
CALLS |= {
    f"{how.__name__} {name}": functools.partial(how, name)
    for how in (map_of, streamed)
    for name in ("cca", "svcca", "pwcca", "cka", "google_cca")
}
CALLS["dft_cca"] = similarity.dft_cca
CALLS["shuffled_floor"] = lambda x, y: similarity.shuffled_floor(
    {"h": x}, {"h": y}, jax.random.key(0), "cka"
)


def damaged(size, value, place):
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    x.reshape(-1)[round(place * (x.size - 1))] = value
    return x


@functools.cache
def traced(size):
    """Of every call, the values with the first layer damaged and with the second."""
    y = np.random.default_rng(1).normal(size=(size[0], 3)).astype(np.float32)

    @jax.jit
    def all_calls(x):
        both = [(x, y), (y, x)]
        return {
            name: jnp.stack([jnp.mean(call(*pair)) for pair in both])
            for name, call in CALLS.items()
        }

    cases = [damaged(size, *bad) for bad in BAD]
    return jax.device_get([all_calls(x) for x in (*cases, damaged(size, 1.0, 0))])


# The smallest is below as (65, 63) is.
@pytest.mark.parametrize("size", some_long(SIZES, (40, 3).__eq__), ids=str)
def test_traced_values_are_nan(size):
    *bad, good = traced(size)
    for case, values in zip(BAD, bad, strict=True):
        for name, value in values.items():
            assert np.isnan(value).all(), (case, name, value)
    for name, value in good.items():
        assert np.isfinite(value).all(), (name, value)


@pytest.mark.filterwarnings("ignore::kd_heuristics.similarity.SaturationWarning")
@pytest.mark.parametrize("size", SIZES[1:3], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_known_values_are_refused(name, size):
    y = np.random.default_rng(1).normal(size=(size[0], 3)).astype(np.float32)
    for bad in BAD:
        for pair in ((damaged(size, *bad), y), (y, damaged(size, *bad))):
            with pytest.raises(ValueError, match="NaN or infinite"):
                CALLS[name](*pair)
