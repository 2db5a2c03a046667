"""How a measure's program is called: by rules of its own, whatever jax is set to."""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import jax

from kd_heuristics.runtime import compiled, decompositions


@contextlib.contextmanager
def own_rules() -> Generator[None]:
    """Promotion of dtypes and precision of products as the measures need them.

    A user's `jax_numpy_dtype_promotion="strict"` would refuse a real factor times a
    complex one, and low `jax_default_matmul_precision` costs digits. Known values are
    looked at afterwards, which names the layer that holds NaN; `jax_debug_nans` would
    stop before that.
    """
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision("highest"),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield


def run(program: Callable, *arguments: Any) -> tuple[Any, bool]:
    """The program's value, and whether it is known (not while jax traces)."""
    with own_rules():
        if compiled.traced(arguments):
            return program(*arguments), False
        return decompositions.now(program, *arguments), True
