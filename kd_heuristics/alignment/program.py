"""A walk over a traced program that finds which axes hold the same units.

Each value of the program is known by its axes alone. A permutation of units passes
through a primitive if its inputs and outputs agree on it; `rules` and `contractions`
say when. Inner programs are entered.
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

    def __init__(self, rules: dict[str, Rule]):
        self.rules = rules
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
        if name in LOOPS:
            return LOOPS[name](self, equation, operands)
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


def _scan(walk, equation, operands):
    params = equation.params
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, carry = operands[:num_consts], operands[num_consts:][:num_carry]
    rows = operands[num_consts + num_carry :]
    steps = dims.fresh(params["length"], dims.NATURAL)
    for row in rows:
        dims.unify(row.axes[0], steps)
    rows = [Value(row.axes[1:], row.source) for row in rows]
    closed = params["jaxpr"]
    constants = [*map(constant, closed.consts)]

    def body(carry):
        return walk.run(closed.jaxpr, constants, [*consts, *carry, *rows])

    found, carry = _repeat(walk, body, carry, num_carry, steps)
    for value in found[num_carry:]:
        walk.record((steps, *value.axes))
    stacked = [Value((steps, *v.axes), v.source) for v in found[num_carry:]]
    return [*carry, *stacked]


def _while(walk, equation, operands):
    params = equation.params
    ends, bodies = params["cond_nconsts"], params["body_nconsts"]
    of_end, of_body = operands[:ends], operands[ends:][:bodies]
    carry = operands[ends + bodies :]

    def body(closed, consts):
        constants = [*map(constant, closed.consts)]
        return lambda carry: walk.run(closed.jaxpr, constants, [*consts, *carry])

    _, carry = _repeat(
        walk, body(params["body_jaxpr"], of_body), carry, len(carry), ((),)
    )
    (goes_on,) = body(params["cond_jaxpr"], of_end)(carry)
    if goes_on.source == NOTHING:
        return carry
    return _depends_on_data(equation, operands)


def _repeat(walk, body, carry, num_carry, steps):
    """Returns the outputs of a loop's body and its carry, alike at every step.

    The second run is for sources that reach a part of the carry through another.
    """
    around, found = walk.loops, []
    for value in carry:
        walk.record(value.axes)
    walk.loops = (*around, steps)
    for _ in range(2):
        found = body(carry)
        for before, after in zip(carry, found[:num_carry], strict=True):
            for a, b in zip(before.axes, after.axes, strict=True):
                dims.unify(a, b)
        carry = [
            Value(before.axes, max(before.source, after.source))
            for before, after in zip(carry, found[:num_carry], strict=True)
        ]
    walk.loops = around
    return found, carry


def _cond(walk, equation, operands):
    index, *rest = operands
    if index.source != NOTHING:
        return _depends_on_data(equation, operands)
    by_branch = [
        walk.run(closed.jaxpr, [*map(constant, closed.consts)], rest)
        for closed in equation.params["branches"]
    ]
    found = []
    for values in zip(*by_branch, strict=True):
        for other in values[1:]:
            for a, b in zip(values[0].axes, other.axes, strict=True):
                dims.unify(a, b)
        found.append(Value(values[0].axes, max(value.source for value in values)))
    return found


def _depends_on_data(equation, operands):
    reason = f"control flow that depends on data ({equation.primitive})"
    found = stop(equation, [value.axes for value in operands], reason)
    return [Value(axes, IMAGES) for axes in found]


LOOPS = {"cond": _cond, "scan": _scan, "while": _while}
