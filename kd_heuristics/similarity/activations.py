"""Named activations of any network."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from kd_heuristics.similarity import equinox, flax_outputs
from kd_heuristics.similarity.numbering import checkpoint_names, chosen, numbered

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
    | such a function that returns an array | as before | what
      `jax.ad_checkpoint.checkpoint_name(x, name)` marks in it, outside of jit |

    Module names are numbered in the order of computation and zero-padded, so the order
    survives jit, which sorts keys: "00_conv", "07_block/dense", and
    "08_block/dense#1" for a second call of the same module. The network's own output is
    "..._output". Modules yield only floating-point arrays [examples, ..., units] with
    at most two axes between; heads of attention, [examples, tokens, heads, units] of
    Flax's layers, lie side by side as [examples, tokens, units]. What `nn.scan` or
    `nnx.scan` stacks in front of the examples comes apart, as "blocks/dense[0]",
    "blocks/dense[1]" and so on (`nn.scan` needs `variable_axes={"intermediates": 0}`).
    Only evaluation mode is supported: switch an NNX model first, pass a Linen module
    its option, and apply `eqx.nn.inference_mode` to an Equinox module.

    An Equinox module runs under `jax.vmap` on images as its convolutions take them,
    [examples, channels, h, w]; maps are returned with channels last. Submodules may be
    called under the model's own jit, checkpoint, vmap (`jax.vmap(layer)(tokens)` gives
    [examples, tokens, units]) and scan, whose layers come apart as above; under cond or
    while_loop they are not captured, but the module around them is. A wrapped function,
    such as `eqx.filter_jit` returns, counts as a function.

    Args:
      model: as in the table.
      variables: as in the table.
      include: `name -> bool` on names without numbers; `None` keeps all.
      **call_options: passed to the call of a module, such as `train=False`.

    Returns: the function. Arrays bound in it are arguments of compiled calls
    (`jax.tree_util.Partial`), so new values need no compilation.

    Raises: TypeError for a model of another kind; ValueError (when called) if the
    function returns no dictionary or nothing is captured.

    >>> import jax.numpy as jnp
    >>> features = capture(lambda w, x: {"hidden": x @ w}, jnp.ones((3, 2)))
    >>> features(jnp.ones((4, 3)))["hidden"].shape
    (4, 2)
    """
    if equinox.is_module(model):
        names = equinox.Submodules(model, tuple(sorted(call_options.items())))
        function = _Equinox(names, include)
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

    function: Callable[..., Any]
    include: Callable[[str], bool] | None
    takes_variables: bool = True

    def __call__(self, variables, images):
        given = (variables, images) if self.takes_variables else (images,)
        found = self.function(*given)
        if isinstance(found, Mapping):
            return chosen(found, self.include)
        marked = partial(checkpoint_names, self.function)
        if not marked(*given):
            raise ValueError(
                "the function must return a dictionary of activations, or mark them "
                "by jax.ad_checkpoint.checkpoint_name(x, name) outside of jit; got "
                f"{type(found).__name__}"
            )
        return numbered(lambda *_: marked(*given), variables, images, self.include)


@dataclasses.dataclass(frozen=True)
class _Equinox:
    """Outputs of an Equinox module's submodules."""

    function: equinox.Submodules
    include: Callable[[str], bool] | None

    def __call__(self, variables, images):
        return equinox.numbered_calls(self.function, variables, images, self.include)


@dataclasses.dataclass(frozen=True)
class _Linen:
    """Outputs of a Flax Linen module's submodules."""

    module: Any
    include: Callable[[str], bool] | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, variables, images):
        def run(variables, images):
            def apply(**options):
                options |= {"mutable": ["intermediates"]} | dict(self.options)
                return self.module.apply(variables, images, **options)[1]

            return flax_outputs.of_linen(apply)

        return numbered(run, variables, images, self.include)


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
            return flax_outputs.of_nnx(model, images, dict(self.options))

        return numbered(run, variables, images, self.include)


def _flax_kind(model):
    """Which Flax API the model is of, if Flax is loaded at all."""
    if "flax" not in sys.modules:
        return None
    from flax import linen, nnx

    if isinstance(model, linen.Module):
        return "linen"
    return "nnx" if isinstance(model, nnx.Module) else None
