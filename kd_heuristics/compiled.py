"""What every compiled call of ours shares."""

from collections.abc import Callable

import jax


def as_partial(function: Callable) -> jax.tree_util.Partial:
    """The function as a pytree, so that a compiled call can take it as an argument.

    The program is compiled once for functions that compare equal; the arrays bound in
    a `jax.tree_util.Partial` are arguments, so other values reuse the program.

    >>> scaled = as_partial(jax.tree_util.Partial(lambda a, x: a * x, 3.0))
    >>> jax.tree.leaves(scaled)
    [3.0]
    """
    if isinstance(function, jax.tree_util.Partial):
        return function
    return jax.tree_util.Partial(function)
