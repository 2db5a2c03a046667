import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_heuristics.data import order

# Rows and columns by the number of examples; few, as each is compiled.
SIZES = {1: (1, 2), 7: (3, 4), 1197: (35, 36)}


def orders(num_examples, count):
    """`count` orders of all examples, by as many keys: [count, num_examples]."""

    def one(number):
        key = jax.random.fold_in(jax.random.key(11), number)
        return order.permute(key, jnp.arange(num_examples), num_examples)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(count)))


def python_order(words, num_examples, rows, columns):
    """The same network in Python's integers, from its random words."""

    def once(place):
        hi, lo = divmod(place, columns)
        for number in range(0, len(words), 2):
            hi = (hi + int(words[number][lo]) % rows) % rows
            lo = (lo + int(words[number + 1][hi]) % columns) % columns
        return hi * columns + lo

    found = []
    for place in range(num_examples):
        example = once(place)
        while example >= num_examples:
            example = once(example)
        found.append(example)
    return found


@settings(derandomize=True, deadline=None, max_examples=30)
@given(num_examples=st.sampled_from(list(SIZES)), seed=st.integers(0, 2**31 - 1))
def test_it_is_a_permutation(num_examples, seed):
    key = jax.random.key(seed)
    found = order.permute(key, jnp.arange(num_examples), num_examples)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(found), np.arange(num_examples))


@pytest.mark.parametrize(("num_examples", "shape"), SIZES.items())
def test_against_python(num_examples, shape):
    key = jax.random.key(5)
    words = np.asarray(jax.random.bits(key, (16 * max(shape),))).reshape(16, -1)
    found = order.permute(key, jnp.arange(num_examples), num_examples)
    assert found.tolist() == python_order(words, num_examples, *shape)


def test_all_orders_are_equally_likely():
    found = orders(4, 6000)
    counts = [
        int((found == expected).all(1).sum())
        for expected in itertools.permutations(range(4))
    ]
    assert sum(counts) == 6000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_it_looks_random():
    """Statistics that tell a shuffled order from a structured one, with their laws."""
    num_examples, count = 260, 2000
    found = orders(num_examples, count)
    fixed = (found == np.arange(num_examples)).sum(1)
    # Poisson(1): 5 standard errors.
    assert abs(fixed.mean() - 1) < 5 / np.sqrt(count)
    ascents = (np.diff(found, axis=1) > 0).sum(1)
    # Eulerian: mean (n - 1) / 2, variance (n + 1) / 12.
    error = np.sqrt((num_examples + 1) / 12 / count)
    assert abs(ascents.mean() - (num_examples - 1) / 2) < 5 * error
    # The neighbours of a batch: five by five cells of the first two examples.
    cells = found[:, 0] * 5 // num_examples * 5 + found[:, 1] * 5 // num_examples
    cells = np.bincount(cells, minlength=25)
    assert stats.chisquare(cells).pvalue > 1e-3


def test_a_batch_costs_no_pass_over_all_examples():
    """What the lookup is for: a billion examples, of which eight are asked for."""
    places = jnp.arange(8) * 100_000_000
    found = order.permute(jax.random.key(0), places, 10**9)
    assert len(set(found.tolist())) == 8
    assert found.min() >= 0
    assert found.max() < 10**9
