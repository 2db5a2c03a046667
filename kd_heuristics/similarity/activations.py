"""Named activations of any network."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import equinox

PyTree = Any
Features = Callable[[Any], Mapping[str, jax.Array]]


def capture(
    model: Any,
    variables: PyTree = None,
    *,
    include: Callable[[str], bool] | None = None,
    **call_options: Any,
) -> Features:
    """A network as a function `images -> {name: activations}`.

    | model | variables | what is captured |
    |---|---|---|
    | `models.create(...)` of this package | from `network.init` | `network.features` |
    | a Flax Linen module | from `module.init` | the output of every submodule, and what
      it `sow`s |
    | a Flax NNX module | none: the model holds them | the same, if the installed Flax
      has `nnx.capture` (0.12.1 and newer); otherwise what the model `sow`s as
      `nnx.Intermediate` |
    | an Equinox module, which maps one example | its state, if its call takes one |
      the output of every submodule that is called |
    | a function `(variables, images) -> dict` | any pytree | what it returns |
    | a function `images -> dict` | none | what it returns |

    Module names are numbered in the order of computation and zero-padded, so the order
    survives jit, which sorts keys: "00_conv", "07_block/dense", and
    "08_block/dense#1" for a second call of the same module. The network's own output is
    "..._output". Modules yield only floating-point arrays [examples, ..., units] with
    at most two axes between. What a scan or vmap over layers stacks in front of the
    examples is dropped; give a function that takes it apart. Only evaluation mode is
    supported: switch an NNX model first, pass a Linen module its option, and apply
    `eqx.nn.inference_mode` to an Equinox module.

    An Equinox module runs under `jax.vmap` on images as its convolutions take them,
    [examples, channels, h, w]; maps are returned with channels last. A submodule that
    the model calls under vmap, scan or jit is not captured, but the module around it
    is. A wrapped function, such as `eqx.filter_jit` returns, counts as a function.

    Args:
      model: as in the table.
      variables: as in the table.
      include: `name -> bool` on names without numbers; `None` keeps all.
      **call_options: passed to the call of a module, such as `train=False`.

    Returns: the function. Arrays bound in it are arguments of compiled calls
    (`jax.tree_util.Partial`), so new values need no compilation.

    Raises: TypeError for a model of another kind; ValueError (when called) if the
    function returns no dictionary or nothing is captured.

    >>> features = capture(lambda w, x: {"hidden": x @ w}, jnp.ones((3, 2)))
    >>> features(jnp.ones((4, 3)))["hidden"].shape
    (4, 2)
    """
    if equinox.is_module(model):
        names = equinox.Submodules(model, tuple(sorted(call_options.items())))
        function = _Numbered(names, include)
        variables = names.arrays(model), variables
    elif (module := _flax_kind(model)) == "linen":
        function = _Linen(model, include, tuple(sorted(call_options.items())))
    elif module == "nnx":
        from flax import nnx

        graph, variables = nnx.split(model)
        function = _NNX(graph, include, tuple(sorted(call_options.items())))
    elif callable(getattr(model, "features", None)) and hasattr(model, "train"):
        function = _Function(model.features, include)
    elif callable(model):
        function = _Function(model, include, takes_variables=variables is not None)
    else:
        raise TypeError(
            f"cannot capture the activations of a {type(model).__name__}: give a "
            "network of kd_heuristics.models, a Flax module, or a function that "
            "returns a dictionary of activations"
        )
    return jax.tree_util.Partial(function, variables)


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function that names its activations itself."""

    function: Callable[..., Mapping[str, jax.Array]]
    include: Callable[[str], bool] | None
    takes_variables: bool = True

    def __call__(self, variables, images):
        found = (
            self.function(variables, images)
            if self.takes_variables
            else self.function(images)
        )
        if not isinstance(found, Mapping):
            raise ValueError(
                "the function must return a dictionary of activations, got "
                f"{type(found).__name__}"
            )
        return _chosen(found, self.include)


@dataclasses.dataclass(frozen=True)
class _Numbered:
    """A function of named activations, numbered in the order of computation."""

    function: Callable[..., Mapping[str, jax.Array]]
    include: Callable[[str], bool] | None

    def __call__(self, variables, images):
        return _numbered(self.function, variables, images, self.include)


@dataclasses.dataclass(frozen=True)
class _Linen:
    """Outputs of a Flax Linen module's submodules."""

    module: Any
    include: Callable[[str], bool] | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, variables, images):
        def run(variables, images):
            _, state = self.module.apply(
                variables,
                images,
                capture_intermediates=True,
                mutable=["intermediates"],
                **dict(self.options),
            )
            return _flat(state["intermediates"])

        return _numbered(run, variables, images, self.include)


# A dataclass for each library: equal instances share one compiled program.
@dataclasses.dataclass(frozen=True)
class _NNX:
    """Outputs of a Flax NNX model's submodules."""

    graph: Any
    include: Callable[[str], bool] | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, variables, images):
        from flax import nnx

        def run(variables, images):
            model = nnx.merge(self.graph, variables)
            options = dict(self.options)
            if not hasattr(nnx, "capture"):
                model(images, **options)
                return _flat(nnx.to_pure_dict(nnx.pop(model, nnx.Intermediate)))
            kind = nnx.Intermediate
            record = nnx.capture(model, kind, method_outputs=kind)
            return _flat(nnx.to_pure_dict(record(images, **options)[1]))

        return _numbered(run, variables, images, self.include)


def _flax_kind(model):
    """Which Flax API the model is of, if Flax is loaded at all."""
    if "flax" not in sys.modules:
        return None
    from flax import linen, nnx

    if isinstance(model, linen.Module):
        return "linen"
    return "nnx" if isinstance(model, nnx.Module) else None


def _flat(tree, path=()):
    """Nested intermediates -> {"block/dense": array, "block/dense#1": array}."""
    if isinstance(tree, Mapping):
        out = {}
        for key, value in tree.items():
            out |= _flat(value, path if key == "__call__" else (*path, str(key)))
        return out
    name = "/".join(path) or "output"
    leaves = jax.tree.leaves(tree)
    return {f"{name}#{i}" if i else name: leaf for i, leaf in enumerate(leaves)}


def _numbered(run, variables, images, include):
    """The activations that `run` returns, numbered in the order of computation."""
    examples = jnp.shape(jax.tree.leaves(images)[0])[:1]
    found = run(variables, images)
    found = {k: v for k, v in found.items() if _is_activation(v, examples)}
    names = _chosen(found, include)
    order = [name for name in _order(run, variables, images) if name in names]
    width = len(str(max(len(order) - 1, 10)))
    return {f"{i:0{width}d}_{name}": names[name] for i, name in enumerate(order)}


def _order(run, variables, images):
    """The names in the order in which their values are computed."""
    names: list[str] = []

    def listed(*args):
        found = run(*args)
        names.extend(found)
        return list(found.values())

    when = _times(jax.make_jaxpr(listed)(variables, images).jaxpr)
    # A module's output may be its last submodule's: the submodule goes first.
    depth = [-name.count("/") if name != "output" else 1 for name in names]
    ranked = sorted(zip(when, depth, range(len(names)), strict=True))
    return [names[index] for _, _, index in ranked]


def _times(jaxpr):
    """When each output is computed: the index of its equation, and those inside it.

    >>> _times(jax.make_jaxpr(lambda x: (jnp.sin(jnp.cos(x)), jnp.cos(x)))(1.0).jaxpr)
    [(1,), (2,)]
    """
    made = {}
    for index, equation in enumerate(jaxpr.eqns):
        inside = _inside(equation)
        within = [()] * len(equation.outvars) if inside is None else _times(inside)
        made |= {
            var: (index, *time)
            for var, time in zip(equation.outvars, within, strict=True)
        }
    # Literals come from no equation and have no hash.
    return [
        made.get(out, ()) if type(out).__hash__ is not None else ()
        for out in jaxpr.outvars
    ]


def _inside(equation):
    """The program inside an equation (jit, remat, ...) that gives its outputs."""
    for value in equation.params.values():
        jaxpr = getattr(value, "jaxpr", value)
        outputs = getattr(jaxpr, "outvars", ())
        if hasattr(jaxpr, "eqns") and len(outputs) == len(equation.outvars):
            return jaxpr
    return None


def _chosen(found, include):
    """The activations that `include` keeps; ValueError if there are none."""
    kept = {k: v for k, v in found.items() if include is None or include(k)}
    if not kept:
        raise ValueError(
            f"no activation was captured; there are {', '.join(found) or 'none'}. "
            "Check include=, or give a function that returns a dictionary"
        )
    return kept


def _is_activation(value, examples):
    """Whether it is floating-point [examples, ..., units]."""
    return (
        hasattr(value, "dtype")
        and 2 <= value.ndim <= 4
        and value.shape[:1] == examples
        and jnp.issubdtype(value.dtype, jnp.inexact)
    )
