"""Values that a computation marks by name, from under vmap, scan, jit and remat too."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from kd_heuristics.similarity.numbering import STACK

Found = list[tuple[str, tuple[int, ...], Any]]

_mark_p = core.Primitive("kd_mark")
_CALLS = ("jit", "pjit", "checkpoint", "remat2")  # equations that run one program once


def mark(name: str, value: Any, channels: int = -1) -> jax.Array:
    """Returns the value; `marked` finds it.

    Args:
      name: its name.
      value: an array.
      channels: its axis that `marked` puts last.
    """
    value = jnp.asarray(value)
    # Counted from the end: vmap and scan put axes in front.
    behind = channels if channels < 0 else channels - value.ndim
    return _mark_p.bind(value, name=name, channels=behind)


def marked(function: Callable[[], Any]) -> tuple[list, Found]:
    """Calls a function that returns arrays, and finds what it marks.

    Returns: the leaves of its result, and for each mark, in the order of computation,
    its name, its time as in `numbering`, and its value. The axes of scans around the
    mark come first in the value, then those of vmap, then its own. Marks in a branch of
    `cond`, a `while_loop` or a custom derivative are not found.

    >>> def two(x):
    ...     return jax.lax.scan(lambda x, _: (mark("double", 2 * x), None), x, length=2)
    >>> leaves, found = marked(lambda: two(jnp.ones(3)))
    >>> [(name, value.tolist()) for name, _, value in found]
    [('double', [[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])]
    """
    closed = jax.make_jaxpr(lambda: jax.tree.leaves(function()))()
    return _run(closed.jaxpr, closed.consts, ())


def _run(jaxpr, consts, arguments) -> tuple[list, Found]:
    """Runs a program and returns its outputs and marks."""
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, arguments, strict=True)
    found: Found = []

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for index, equation in enumerate(jaxpr.eqns):
        operands, more = [*map(read, equation.invars)], []
        if equation.primitive is _mark_p:
            (value,) = outputs = operands
            if (channels := equation.params["channels"]) != -1:
                value = jnp.moveaxis(value, channels, -1)
            more = [(equation.params["name"], (), value)]
        elif not _has_marks(equation):
            outputs = _outputs(equation, operands)
        elif equation.primitive.name == "scan":
            outputs, more = _scan(equation.params, operands)
        else:
            outputs, more = _run(*_opened(equation.params["jaxpr"]), operands)
        found += [(name, (index, *time), value) for name, time, value in more]
        known.update(zip(equation.outvars, outputs, strict=True))
    return [*map(read, jaxpr.outvars)], found


def _scan(params, operands) -> tuple[list, Found]:
    """Runs a scan that also stacks its marks."""
    program = _opened(params["jaxpr"])
    first, carried = params["num_consts"], params["num_carry"]
    fixed, start = operands[:first], operands[first : first + carried]
    names: list[tuple[str, tuple[int, ...]]] = []

    def body(carry, x):
        outputs, found = _run(*program, [*fixed, *carry, *x])
        names[:] = [(name, (STACK, *time)) for name, time, _ in found]
        return outputs[:carried], (outputs[carried:], [value for *_, value in found])

    inputs = operands[first + carried :]
    how = {key: params[key] for key in ("length", "reverse", "unroll")}
    last, (stacked, values) = jax.lax.scan(body, start, inputs, **how)
    found = [(*name, value) for name, value in zip(names, values, strict=True)]
    return [*last, *stacked], found


def _has_marks(equation) -> bool:
    """Whether an equation runs a program with marks that can be found."""
    if equation.primitive.name not in ("scan", *_CALLS):
        return False
    jaxpr, _ = _opened(equation.params["jaxpr"])
    return any(e.primitive is _mark_p or _has_marks(e) for e in jaxpr.eqns)


def _opened(program):
    """A program and its constants; that of remat has none."""
    return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def _outputs(equation, operands) -> list:
    """Runs an equation."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # jax < 0.10
    found = equation.primitive.bind(*functions, *operands, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _batched(values, axes, **params):
    return _mark_p.bind(jnp.moveaxis(values[0], axes[0], 0), **params), 0


def _with_tangent(values, tangents, **params):
    return _mark_p.bind(values[0], **params), tangents[0]


_mark_p.def_impl(lambda value, **_: value)
_mark_p.def_abstract_eval(lambda value, **_: value)
mlir.register_lowering(_mark_p, lambda _, value, **__: [value])
batching.primitive_batchers[_mark_p] = _batched
ad.primitive_jvps[_mark_p] = _with_tangent
