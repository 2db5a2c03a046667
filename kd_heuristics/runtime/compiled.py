"""What every compiled call of ours shares."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

# XLA's YNNPACK kernels are slower than Eigen's for convolutions: kept to products.
_NETWORKS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}

names: set[str] = set()  # of the functions that `jit` was given, if they have any


def as_partial(function: Callable) -> jax.tree_util.Partial:
    """The function as a pytree, so that a compiled call can take it as an argument.

    The program is compiled once for functions that compare equal, methods of equal
    objects that can be hashed among them; the arrays bound in a
    `jax.tree_util.Partial`, and those of a pytree whose method it is, are arguments, so
    other values reuse the program.

    >>> scaled = as_partial(jax.tree_util.Partial(lambda a, x: a * x, 3.0))
    >>> jax.tree.leaves(scaled)
    [3.0]
    """
    if isinstance(function, jax.tree_util.Partial):
        if not inspect.ismethod(function.func):
            return function
        inner = as_partial(function.func)
        bound = *inner.args, *function.args
        return jax.tree_util.Partial(inner.func, *bound, **function.keywords)
    if not inspect.ismethod(function):
        return jax.tree_util.Partial(function)
    owner = function.__self__
    if not jax.tree_util.all_leaves([owner]):
        return jax.tree_util.Partial(function.__func__, owner)
    method = _Method(function.__func__, owner)
    return jax.tree_util.Partial(method if _can_be_hashed(owner) else function)


@dataclasses.dataclass(frozen=True)
class _Method:
    """A bound method that equals that of an equal object, as Python's own does not."""

    function: Callable
    owner: Any

    def __call__(self, *arguments, **named):
        return self.function(self.owner, *arguments, **named)


def _can_be_hashed(value) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def once(function: Callable, effort: int = 0) -> "Program":
    """The function jitted for a single call: quick to compile, on CPU, not to run.

    XLA's optimisation of a program that draws a network's parameters takes 6 s on CPU
    where the unoptimised program takes 0.8 s to compile and milliseconds to run. With
    `effort` 1, for some calls: weighted sums of networks compile as fast as with 0 and
    run 6 times faster.
    """
    options = {"xla_backend_optimization_level": effort}
    return Program(function, options, known=lambda: True)


def jit(function: Callable, **settings: Any) -> "Program":
    """`jax.jit` for programs that run networks: on CPU, with faster convolutions.

    The choice is XLA's experimental option, taken where this XLA knows it. Training
    steps and forward passes of VGG at a quarter of the width then take 0.76 to 0.80 of
    the time (jax 0.10.2, 2 cores). `compilation.counted` counts these programs by name,
    where the function has one.

    Args:
      function: as of `jax.jit`.
      **settings: as of `jax.jit`.

    >>> jit(lambda x, sign: sign * x, static_argnames="sign")(2.0, sign=-1)
    Array(-2., dtype=float32, weak_type=True)
    """
    name = getattr(function, "__name__", "<lambda>")
    if name != "<lambda>":  # programs of no network are called so, too
        names.add(name)
    return Program(function, _NETWORKS, known=_knows_the_option, **settings)


class Program:
    """A jitted function that compiles with options of its own on CPU.

    It is called as the function is; `lower`, `trace` and `eval_shape` are those of
    `jax.jit`, for the program that the same call would run.
    """

    def __init__(self, function, options, known, **settings):
        functools.update_wrapper(self, function)
        self._known = known
        self._plain = jax.jit(function, **settings)
        self._tuned = jax.jit(function, **settings, compiler_options=options)

    def __call__(self, *arguments, **named):
        """Runs the program, compiled on a first call."""
        return self._program(arguments, named)(*arguments, **named)

    def lower(self, *arguments, **named):
        """As of `jax.jit`: `lower(...).compile()` compiles without a run."""
        return self._program(arguments, named).lower(*arguments, **named)

    def trace(self, *arguments, **named):
        """As of `jax.jit`."""
        return self._program(arguments, named).trace(*arguments, **named)

    def eval_shape(self, *arguments, **named):
        """As of `jax.jit`."""
        return self._program(arguments, named).eval_shape(*arguments, **named)

    def _program(self, arguments, named) -> Any:
        on_cpu = _on_cpu((arguments, named)) and self._known()
        return self._tuned if on_cpu else self._plain


def _on_cpu(arguments) -> bool:
    """Whether a call compiles for CPU, and a program of its own.

    Options are for a whole program: inside another one jax refuses them.
    """
    return jax.default_backend() == "cpu" and not traced(arguments)


def traced(arguments: Any) -> bool:
    """Whether a call with these arguments, any pytree, becomes part of a program.

    It does where one of them is traced, and where the call itself is: in a function
    that jax traces, known values, too, give what is not known yet.

    >>> jax.jit(lambda: traced(1.0))(), traced(1.0)
    (Array(True, dtype=bool), False)
    """
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return True
    # No public function of jax tells; a call of this size takes 4 microseconds.
    return isinstance(_nothing(), jax.core.Tracer)


@jax.jit
def _nothing():
    return 0


@functools.cache
def _knows_the_option() -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=_NETWORKS)()
    except jax.errors.JaxRuntimeError:  # no such option
        return False
    return True
