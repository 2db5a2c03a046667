"""What every compiled call of ours shares."""

import inspect
from collections.abc import Callable

import jax


def as_partial(function: Callable) -> jax.tree_util.Partial:
    """The function as a pytree, so that a compiled call can take it as an argument.

    The program is compiled once for functions that compare equal; the arrays bound in
    a `jax.tree_util.Partial`, and those of a pytree whose method it is, are arguments,
    so other values reuse the program.

    >>> scaled = as_partial(jax.tree_util.Partial(lambda a, x: a * x, 3.0))
    >>> jax.tree.leaves(scaled)
    [3.0]
    """
    if isinstance(function, jax.tree_util.Partial):
        return function
    if inspect.ismethod(function) and not _is_leaf(function.__self__):
        return jax.tree_util.Partial(function.__func__, function.__self__)
    return jax.tree_util.Partial(function)


def _is_leaf(tree) -> bool:
    return jax.tree_util.all_leaves([tree])


def once(function: Callable, effort: int = 0) -> Callable:
    """The function jitted for a single call: quick to compile, on CPU, not to run.

    XLA's optimisation of a program that draws a network's parameters takes 6 s on CPU
    where the unoptimised program takes 0.8 s to compile and milliseconds to run. With
    `effort` 1, for some calls: weighted sums of networks compile as fast as with 0 and
    run 6 times faster.
    """
    plain = jax.jit(function)
    quick = jax.jit(
        function, compiler_options={"xla_backend_optimization_level": effort}
    )

    def call(*arguments):
        # Options are for a whole program: inside another one jax refuses them.
        leaves = jax.tree.leaves(arguments)
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (plain if traced or jax.default_backend() != "cpu" else quick)(
            *arguments
        )

    return call
