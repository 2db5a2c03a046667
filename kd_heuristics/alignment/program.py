"""A walk over a traced program that finds which axes hold the same units.

Each value of the program is known by its axes alone. A permutation of units passes
through a primitive if its inputs and outputs agree on it; `rules` and `contractions`
say when. Inner programs are entered; `flows` has loops and branches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.dims import Axis

Axes = tuple[Axis, ...]
Rule = Callable[["Walk", Any, list[Axes]], list[Axes]]
Flow = Callable[["Walk", Any, "list[Value]"], "list[Value]"]

# What an array depends on.
NOTHING, VARIABLES, IMAGES = range(3)


class Value(NamedTuple):
    """A value of the program: its axes, and what it depends on."""

    axes: Axes
    source: int


class Tap(NamedTuple):
    """An operand that a contraction sums over: the activations of its units.

    Attributes:
      place: indices of equations from the outermost program inwards.
      operand: index of the operand.
      axes: its axes.
    """

    place: tuple[int, ...]
    operand: int
    axes: Axes


class Walk:
    """What a walk finds beside the constraints on the dimensions.

    Attributes:
      arrays: axes of arrays that exist at one time, with those of the loops around
        them: units may be permuted depending on other units only if all arrays of the
        former hold the latter too.
      taps: operands of contractions outside loops.
      uses: identities of values, in the order in which equations take them.
    """

    def __init__(self, rules: dict[str, Rule], flows: dict[str, Flow]):
        self.rules = rules
        self.flows = flows
        self.arrays: list[Axes] = []
        self.taps: list[Tap] = []
        self.loops: Axes = ()
        self.uses: dict[int, int] = {}
        self._place: tuple[int, ...] = ()
        self._operands: list[Value] = []

    def record(self, axes: Axes) -> None:
        """Note that an array with these axes exists."""
        self.arrays.append((*axes, *self.loops))

    def contracted(self, operand: int, axes: Axes) -> None:
        """Note that an operand of the equation is summed over some of its axes."""
        value = self._operands[operand]
        if value.source == IMAGES and not self.loops:
            self.taps.append(Tap(self._place, operand, value.axes))
        self.record(axes)

    def run(self, jaxpr: Any, consts: Sequence[Value], inputs: Sequence[Value]):
        """Returns the values of a program's outputs, and constrains all units."""
        known: dict[Any, Value] = {}

        def read(atom):
            return constant(atom.val) if isinstance(atom, core.Literal) else known[atom]

        known.update(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))
        around = self._place
        for number, equation in enumerate(jaxpr.eqns):
            self._place = (*around, number)
            found = self._equation(equation, [*map(read, equation.invars)])
            known.update(zip(equation.outvars, found, strict=True))
        self._place = around
        return [*map(read, jaxpr.outvars)]

    def _equation(self, equation, operands) -> list[Value]:
        name = equation.primitive.name
        inner = inner_program(equation)
        if inner is not None:
            given = operands[len(operands) - len(inner.jaxpr.invars) :]
            return self.run(inner.jaxpr, [*map(constant, inner.consts)], given)
        for value in operands:
            self.uses.setdefault(id(value), len(self.uses))
        if name in self.flows:
            return self.flows[name](self, equation, operands)
        source = max((value.source for value in operands), default=NOTHING)
        self._operands = operands
        rule = self.rules.get(name, _unknown)
        found = rule(self, equation, [value.axes for value in operands])
        for axes in found:
            self.record(axes)
        return [Value(axes, source) for axes in found]


def constant(array: Any) -> Value:
    """Returns the value of a known array; axes along which it is constant are free."""
    if jax.dtypes.issubdtype(getattr(array, "dtype", None), jax.dtypes.extended):
        return Value(frozen(array.shape), NOTHING)
    array = np.asarray(array)
    axes = []
    for axis, length in enumerate(array.shape):
        first = np.take(array, [0], axis) if length else array
        varies = not (array == first).all()
        axes.append(dims.fresh(length, dims.NATURAL if varies else None))
    return Value(tuple(axes), NOTHING)


def frozen(shape: Sequence[int], reason: str = dims.NATURAL) -> Axes:
    """Returns axes of this shape that no permutation may touch."""
    return tuple(dims.fresh(length, reason) for length in shape)


def stop(equation: Any, operands: list[Axes], reason: str) -> list[Axes]:
    """Freezes the operands and results of an equation."""
    for axes in operands:
        dims.freeze(axes, reason)
    return [frozen(variable.aval.shape, reason) for variable in equation.outvars]


def _unknown(walk, equation, operands):
    return stop(equation, operands, f"no rule for the primitive {equation.primitive}")


# Primitives that run one inner program on their operands.
_CALLS = {
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat2",
    "xla_call",
}


def inner_program(equation: Any) -> Any:
    """Returns the closed program that an equation calls once; `None` if it does not."""
    if equation.primitive.name not in _CALLS:
        return None
    keys = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    found = next(equation.params[key] for key in keys if key in equation.params)
    return found if hasattr(found, "consts") else core.ClosedJaxpr(found, ())
