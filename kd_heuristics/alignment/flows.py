"""Loops and branches: what is alike at every step, or in every branch."""

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.program import (
    IMAGES,
    NOTHING,
    Flow,
    Value,
    constant,
    stop,
)


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


FLOWS: dict[str, Flow] = {"cond": _cond, "scan": _scan, "while": _while}
