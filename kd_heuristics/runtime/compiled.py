"""`jax.jit` with compiler options for CPU, and functions as arguments of programs."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

# XLA's YNNPACK convolutions are slower than Eigen's, so only products use YNNPACK.
_NETWORKS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}

# The same for programs of one's own, "--OPTION=VALUE" in XLA_FLAGS.
FLAG = " ".join(f"--{name}={value}" for name, value in _NETWORKS.items())

names: set[str] = set()  # names of the functions given to `jit`, except lambdas


def as_partial(function: Callable) -> jax.tree_util.Partial:
    """The function as a pytree, so that a compiled call can take it as an argument.

    Functions that compare equal share one compiled program; so do methods of equal,
    hashable objects. Arrays bound in a `jax.tree_util.Partial`, or held by a pytree
    whose method is given, become arguments, so other values reuse the program.

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
    """Bound method that compares by its object's value; Python's compares identity."""

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
    """Jits a function for one-off calls: compiles fast but runs slowly on CPU.

    A program that draws a network's parameters takes 6 s to compile on CPU with XLA's
    optimisation; without, it takes 0.8 s to compile and milliseconds to run. Use
    `effort` 1 for a few calls: weighted sums of networks compile as fast as with 0 and
    run 6 times faster.
    """
    options = {"xla_backend_optimization_level": effort}
    return Program(function, options, known=lambda: True)


def jit(function: Callable, **settings: Any) -> "Program":
    """`jax.jit` for programs that run networks, with faster convolutions on CPU.

    It sets an experimental option of XLA if this version has it. Training steps and
    forward passes of a quarter-width VGG then take 0.76 to 0.80 of the time (jax
    0.10.2, 2 cores). Where `jax.jit` itself is called, as by another library, `FLAG` in
    the variable XLA_FLAGS does the same. `compilation.counted` counts these programs by
    function name, except lambdas.

    Args:
      function: see `jax.jit`.
      **settings: options of `jax.jit`.

    >>> jit(lambda x, sign: sign * x, static_argnames="sign")(2.0, sign=-1)
    Array(-2., dtype=float32, weak_type=True)
    """
    name = getattr(function, "__name__", "<lambda>")
    if name != "<lambda>":  # other programs have this name too
        names.add(name)
    return Program(function, _NETWORKS, known=knows_the_option, **settings)


class Program:
    """Jitted function that compiles with its own options on CPU.

    Call it like the function. `lower`, `trace` and `eval_shape` work as in `jax.jit`,
    on the program that the same call would run.
    """

    def __init__(self, function, options, known, **settings):
        functools.update_wrapper(self, function)
        self._known = known
        self._plain = jax.jit(function, **settings)
        self._tuned = jax.jit(function, **settings, compiler_options=options)

    def __call__(self, *arguments, **named):
        """Runs the program, compiling it at the first call."""
        return self._program(arguments, named)(*arguments, **named)

    def lower(self, *arguments, **named):
        """As in `jax.jit`: `lower(...).compile()` compiles without running."""
        return self._program(arguments, named).lower(*arguments, **named)

    def trace(self, *arguments, **named):
        """As in `jax.jit`."""
        return self._program(arguments, named).trace(*arguments, **named)

    def eval_shape(self, *arguments, **named):
        """As in `jax.jit`."""
        return self._program(arguments, named).eval_shape(*arguments, **named)

    def _program(self, arguments, named) -> Any:
        on_cpu = _on_cpu((arguments, named)) and self._known()
        return self._tuned if on_cpu else self._plain


def _on_cpu(arguments) -> bool:
    """Whether a call compiles a program of its own, for CPU.

    Compiler options apply to whole programs; jax rejects them inside another program.
    """
    return jax.default_backend() == "cpu" and not traced(arguments)


def traced(arguments: Any) -> bool:
    """Whether a call with these arguments, any pytree, becomes part of a program.

    It does if an argument is traced, or if the call is made while jax traces: there,
    operations on known values are traced as well.

    >>> jax.jit(lambda: traced(1.0))(), traced(1.0)
    (Array(True, dtype=bool), False)
    """
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return True
    # jax has no public function for this; the call takes 4 microseconds.
    return isinstance(_nothing(), jax.core.Tracer)


@jax.jit
def _nothing():
    return 0


@functools.cache
def knows_the_option() -> bool:
    """Whether this version of XLA has the option of `jit`."""
    try:
        jax.jit(lambda: 0, compiler_options=_NETWORKS)()
    except jax.errors.JaxRuntimeError:  # no such option
        return False
    return True
