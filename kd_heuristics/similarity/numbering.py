"""Activations numbered in the order of computation, and stacked layers apart."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

PyTree = Any
Run = Callable[[PyTree, PyTree], Mapping[str, jax.Array]]

STACK = -1  # in the time of what a scan stacks, the place of a layer's index


def numbered(
    run: Run,
    variables: PyTree,
    images: PyTree,
    include: Callable[[str], bool] | None = None,
) -> dict[str, jax.Array]:
    """Returns the activations that `run` returns, numbered as they are computed.

    Args:
      run: `(variables, images) -> {name: value}`.
      variables: of the model.
      images: array [examples, ...], or a pytree of such arrays.
      include: `name -> bool`; `None` keeps all.

    Raises: ValueError if none is left.
    """
    examples = len(jax.tree.leaves(images)[0])
    found = run(variables, images)
    axes = _example_axes(run, variables, images, found, examples)
    when = _when(run, variables, images)
    timed = {k: (found[k], axis, when[k]) for k, axis in axes.items()}
    return in_order(timed, examples, include)


def in_order(
    found: Mapping[str, tuple[jax.Array, int, tuple]],
    examples: int,
    include: Callable[[str], bool] | None = None,
) -> dict[str, jax.Array]:
    """Returns activations numbered in the order of their times, stacked layers apart.

    Args:
      found: name -> value, the axis of its examples, and a key `(time, ...)` that
        sorts it. Axes before that of the examples hold layers, whose index replaces
        `STACK` in the time.
      examples: number of examples.
      include: as in `numbered`.

    Raises: ValueError if none is left.
    """
    layers: dict[str, tuple[int | None, Any, tuple]] = {}
    for name, (value, axis, time) in found.items():
        if axis == 0:
            layers[name] = (None, value, time)
            continue
        for index, layer in enumerate(value.reshape(-1, *value.shape[axis:])):
            layers[f"{name}[{index}]"] = (index, layer, time)
    layers = {k: v for k, v in layers.items() if _is_activation(v[1], examples)}
    names = chosen(layers, include)

    def rank(shown):
        index, _, (time, *rest) = names[shown]
        return [index if part == STACK else part for part in time], *rest

    order = sorted(names, key=rank)
    width = len(str(max(len(order) - 1, 10)))
    return {f"{i:0{width}d}_{name}": names[name][1] for i, name in enumerate(order)}


def chosen(found: Mapping[str, Any], include: Callable[[str], bool] | None) -> dict:
    """Returns the activations that `include` keeps; ValueError if there are none."""
    kept = {k: v for k, v in found.items() if include is None or include(k)}
    if not kept:
        raise ValueError(
            f"no activation was captured; there are {', '.join(found) or 'none'}. "
            "Check include=, or give a function that returns a dictionary"
        )
    return kept


def checkpoint_names(function: Callable, *args: Any) -> dict[str, jax.Array]:
    """Returns what `jax.ad_checkpoint.checkpoint_name` marks in a function, by name.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> def net(w, x):
    ...     return checkpoint_name(x @ w, "hidden").sum(1)
    >>> checkpoint_names(net, jnp.ones((3, 2)), jnp.ones((4, 3)))["hidden"].shape
    (4, 2)
    """
    closed = jax.make_jaxpr(function)(*args)
    marks = [e for e in closed.jaxpr.eqns if e.primitive.name == "name"]
    jaxpr = closed.jaxpr.replace(
        outvars=[mark.outvars[0] for mark in marks],
        debug_info=closed.jaxpr.debug_info.with_unknown_names(),
    )
    program = jax.extend.core.jaxpr_as_fun(closed.replace(jaxpr=jaxpr))
    found: dict[str, jax.Array] = {}
    for mark, value in zip(marks, program(*jax.tree.leaves(args)), strict=True):
        name = mark.params["name"]
        count = sum(key.split("#")[0] == name for key in found)
        found[f"{name}#{count}" if count else name] = value
    return found


def _example_axes(run, variables, images, found, examples) -> dict[str, int]:
    """Returns the axis of the examples of each value that has one.

    It is the first axis, or behind those of stacked layers. Twice as many examples tell
    it from layers of the same number.
    """
    arrays = {k: v for k, v in found.items() if hasattr(v, "shape")}
    axes = {k: 0 for k, v in arrays.items() if v.shape[:1] == (examples,)}
    behind = [k for k, v in arrays.items() if examples in v.shape[1:3] and v.ndim > 2]
    if not behind:
        return axes
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), images)
    more = jax.eval_shape(run, variables, twice)
    for name in behind:
        shapes = zip(found[name].shape[:3], more[name].shape[:3], strict=True)
        grown = [axis for axis, pair in enumerate(shapes) if pair[0] < pair[1]]
        axes.pop(name, None)
        if grown and found[name].shape[grown[0]] == examples:
            axes[name] = grown[0]
    return {name: axes[name] for name in arrays if name in axes}


def _when(run, variables, images) -> dict[str, tuple]:
    """Returns for each name a key that sorts it by the time of its computation."""
    names: list[str] = []

    def listed(*args):
        found = run(*args)
        names.extend(found)
        return list(found.values())

    when = _times(jax.make_jaxpr(listed)(variables, images).jaxpr)
    # A module's output may be its last submodule's: the submodule goes first.
    depth = [-name.count("/") if name != "output" else 1 for name in names]
    rows = zip(when, depth, range(len(names)), strict=True)
    return dict(zip(names, rows, strict=True))


def _times(jaxpr):
    """When each output is computed: the index of its equation, and those inside it.

    >>> _times(jax.make_jaxpr(lambda x: (jnp.sin(jnp.cos(x)), jnp.cos(x)))(1.0).jaxpr)
    [(1,), (2,)]
    >>> def late(x):
    ...     y = jnp.sin(x)
    ...     return jnp.cos(y), y.reshape(2, 2)
    >>> _times(jax.make_jaxpr(late)(jnp.ones(4)).jaxpr)
    [(1,), (0, 2)]
    """
    made = {}

    def when(atom):
        # Literals come from no equation and have no hash.
        return made.get(atom, ()) if type(atom).__hash__ is not None else ()

    used = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    for index, equation in enumerate(jaxpr.eqns):
        inside = _inside(equation)
        within = [()] * len(equation.outvars) if inside is None else _times(inside)
        if equation.primitive.name == "scan":
            carries = equation.params["num_carry"]  # final values come after all layers
            within = [
                (math.inf if place < carries else STACK, *time)
                for place, time in enumerate(within)
            ]
        before = (index,)
        if equation.primitive.name == "reshape" and id(equation.outvars[0]) not in used:
            # Of what is returned alone, such as heads side by side: after its operand.
            before = (*when(equation.invars[0]), index)
        made |= {
            var: (*before, *time)
            for var, time in zip(equation.outvars, within, strict=True)
        }
    return [when(out) for out in jaxpr.outvars]


def _inside(equation):
    """The program inside an equation (jit, remat, ...) that gives its outputs."""
    for value in equation.params.values():
        jaxpr = getattr(value, "jaxpr", value)
        outputs = getattr(jaxpr, "outvars", ())
        if hasattr(jaxpr, "eqns") and len(outputs) == len(equation.outvars):
            return jaxpr
    return None


def _is_activation(value, examples):
    """Whether it is floating-point [examples, ..., units]."""
    return (
        hasattr(value, "dtype")
        and 2 <= value.ndim <= 4
        and value.shape[:1] == (examples,)
        and jnp.issubdtype(value.dtype, jnp.inexact)
    )
