"""Finds, splits off and merges the part of a network below a layer.

A stage that trains the student up to its guided layer gives the optimiser only that
part. No gradient, decay or noise moves a leaf outside the optimiser's tree.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

PyTree = Any


def depends_on(function: Callable[[PyTree], Any], tree: PyTree) -> PyTree:
    """Finds the leaves of a tree on which a function's value depends.

    Dependence follows the structure of the computation, not the values: a weight behind
    dead units counts. Loops and branches count as using all their inputs.

    Args:
      function: takes the tree, for instance a layer's output as a function of a
        network's variables. In evaluation mode the output also depends on the running
        statistics below the layer.
      tree: arrays or their shapes (`jax.eval_shape`); nothing is computed.

    Returns: a tree of bools.

    >>> features = lambda v: {"first": v["a"] + 1, "second": v["a"] * v["b"]}
    >>> depends_on(lambda v: features(v)["first"], {"a": 1.0, "b": 2.0})
    {'a': True, 'b': False}
    """
    leaves, structure = jax.tree.flatten(tree)
    traced = jax.make_jaxpr(lambda *x: function(structure.unflatten(x)))(*leaves)
    used = _inputs(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    return structure.unflatten(used)


def split(tree: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Splits a tree into the masked leaves and the rest, with None elsewhere.

    Args:
      tree: any pytree.
      mask: one bool per leaf, from `depends_on`.

    >>> split({"a": 1, "b": 2}, {"a": True, "b": False})
    ({'a': 1, 'b': None}, {'a': None, 'b': 2})
    """
    chosen = jax.tree.map(lambda leaf, keep: leaf if keep else None, tree, mask)
    rest = jax.tree.map(lambda leaf, keep: None if keep else leaf, tree, mask)
    return chosen, rest


def merge(first: PyTree, second: PyTree) -> PyTree:
    """Merges two trees: leaves of the first, or of the second if the first has None.

    >>> merge({"a": 1, "b": None}, {"a": None, "b": 2})
    {'a': 1, 'b': 2}
    """
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda x: x is None
    )


# Primitives that call one program once, with their own inputs.
_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
)


def _inputs(jaxpr, wanted: list[bool]) -> list[bool]:
    """Finds the inputs of a program on which its wanted outputs depend."""
    live = {
        var
        for var, want in zip(jaxpr.outvars, wanted, strict=True)
        if want and not isinstance(var, core.Literal)
    }
    for equation in reversed(jaxpr.eqns):
        outputs = [var in live for var in equation.outvars]
        if any(outputs):
            used = _inputs_of_equation(equation, outputs)
            live |= {
                var
                for var, use in zip(equation.invars, used, strict=True)
                if use and not isinstance(var, core.Literal)
            }
    return [var in live for var in jaxpr.invars]


def _inputs_of_equation(equation, outputs: list[bool]) -> list[bool]:
    """Finds the inputs of an equation on which its wanted outputs depend."""
    if equation.primitive.name in _CALLS:
        program = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        program = getattr(program, "jaxpr", program)
        if program is not None and len(program.invars) == len(equation.invars):
            return _inputs(program, outputs)
    return [True] * len(equation.invars)
