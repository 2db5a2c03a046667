"""The activations of units: the operands that the program's contractions sum over."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from kd_heuristics.alignment import layout, units
from kd_heuristics.alignment.dims import Dim
from kd_heuristics.alignment.layout import Piece
from kd_heuristics.alignment.program import Tap, inner_program

PyTree = Any


@dataclasses.dataclass(frozen=True)
class UnitTap:
    """Activations of one equation's operand.

    Attributes:
      place: indices of equations from the outermost program inwards.
      operand: index of the operand.
      pieces: how the array lies over units.
    """

    place: tuple[int, ...]
    operand: int
    pieces: tuple[Piece, ...]


def unit_taps(
    taps: Sequence[Tap], names: Mapping[Dim, str], kept: set[Dim]
) -> tuple[UnitTap, ...]:
    """Returns the taps that hold units which permutations move."""
    found = []
    for tap in taps:
        segments = units.segments_of(tap.axes, names, kept)
        pieces = layout.pieces("", segments)
        if pieces:
            found.append(UnitTap(tap.place, tap.operand, tuple(pieces)))
    return tuple(found)


def tapped(closed: Any, arguments: Sequence[Any], taps: Sequence[UnitTap]) -> list:
    """Runs a program, and returns the arrays at the taps.

    Args:
      closed: the program, entered where inner programs are called.
      arguments: its flat arguments.
      taps: places in it.
    """
    wanted = {(tap.place, tap.operand): n for n, tap in enumerate(taps)}
    found: list = [None] * len(taps)

    def run(jaxpr, consts, inputs, around):
        known = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, core.Literal) else known[atom]

        for number, equation in enumerate(jaxpr.eqns):
            place = (*around, number)
            operands = [*map(read, equation.invars)]
            for operand, array in enumerate(operands):
                if (place, operand) in wanted:
                    found[wanted[place, operand]] = array
            inner = inner_program(equation)
            if inner is not None:
                given = operands[len(operands) - len(inner.jaxpr.invars) :]
                outputs = run(inner.jaxpr, inner.consts, given, place)
            else:
                outputs = _outputs(equation, operands)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [*map(read, jaxpr.outvars)]

    run(closed.jaxpr, closed.consts, arguments, ())
    return found


def _outputs(equation, operands) -> list:
    """Runs an equation."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # jax < 0.10
    found = equation.primitive.bind(*functions, *operands, **params)
    return list(found) if equation.primitive.multiple_results else [found]
