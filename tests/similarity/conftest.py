"""Compilation takes nine tenths of these tests' time: XLA leaves optimisations out.

The examples in the docstrings run optimised, as users' calls do.
"""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
