"""Equinox modules as a `Network`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics import leaf_names
from kd_heuristics.compiled import once
from kd_heuristics.models.adapters.functions import as_logits
from kd_heuristics.models.adapters.naming import Naming
from kd_heuristics.models.network import Network, check_images


def from_equinox(
    name: str,
    make: Callable[[jax.Array], Any],
    *,
    features: Callable[..., Any] | None = None,
    channels_first: bool = True,
    axis_name: str = "batch",
) -> Network:
    """The `Network` of an Equinox module, which maps one image to its logits.

    The module is called under `jax.vmap`, as Equinox's documentation has it:

    | a module | is called as |
    |---|---|
    | without state | `module(image)` -> logits |
    | with `eqx.nn.StateIndex` (`eqx.nn.BatchNorm`) | `module(image, state)` -> \
(logits, state) |
    | whose call has a parameter `key` | with `key=` beside these |

    Its mode is that of `eqx.nn.inference_mode`. In training each example has a key of
    its own, made from the step's; in evaluation the key is fixed.

    Variables are nested dictionaries by attribute and index, "layers/0/bias". All
    floating-point arrays are parameters, as with `eqx.is_inexact_array`; the weights of
    `eqx.nn.Linear`, `Conv` and `ConvTranspose` are named "kernel", as
    `training.kernels` wants them. The state and all other arrays are under
    "batch_stats".

    Args:
      name: for messages and run folders.
      make: `key -> eqx.Module`, without `eqx.nn.make_with_state`; called once for the
        structure, without allocating, and at each `init`.
      features: a function of the module, called as the module is, say a method by its
        class, `Net.features`, that returns `{"00_conv": array, ...}` of one image in
        place of logits; None: the logits alone, as "00_logits".
      channels_first: images [h, w, c] reach the module as [c, h, w], which is what
        Equinox's convolutions and pools take; False: as they are.
      axis_name: of the vmap over examples, as given to `eqx.nn.BatchNorm`.

    Returns: the network; its logits are float32.

    Raises: ImportError without Equinox. ValueError where `make` returns no module or
      one that cannot be called, and, when the network is called, before anything is
      computed: the images are not float [batch, h, w, c], the logits not [batch,
      classes], or the variables another model's.

    >>> import equinox as eqx
    >>> class Linear(eqx.nn.Linear):
    ...     def __call__(self, image):
    ...         return super().__call__(image.ravel())
    >>> network = from_equinox("linear", lambda key: Linear(64, 10, key=key))
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> variables = network.init(jax.random.key(0), images)
    >>> sorted(variables["params"]), network.apply(variables, images).shape
    (['bias', 'kernel'], (2, 10))
    """
    eqx = _import()
    layout = _Layout(eqx, name, make)

    def mapped(function, variables, images, keys, *, inference):
        """The function's values for all images, and the state after them."""
        check_images(images)
        model, state = layout.merge(variables)
        model = eqx.nn.inference_mode(model, value=inference)
        if channels_first:
            images = images.transpose(0, 3, 1, 2)

        def one(image, key):
            keys = {"key": key} if _takes_key(function) else {}
            if layout.state_names.names:
                return function(model, image, state, **keys)
            return function(model, image, **keys), state

        return jax.vmap(one, out_axes=(0, None), axis_name=axis_name)(images, keys)

    def evaluate(function, variables, images):
        keys = jax.random.split(jax.random.key(0), images.shape[0])
        return mapped(function, variables, images, keys, inference=True)[0]

    @once
    def init(key, images):
        variables = layout.split(*eqx.nn.make_with_state(make)(key))
        jax.eval_shape(apply, variables, images)  # raises on bad images and logits
        return variables

    def apply(variables, images):
        return as_logits(name, evaluate(layout.call, variables, images), images)

    def train(variables, images, key):
        keys = jax.random.split(key, images.shape[0])
        logits, state = mapped(layout.call, variables, images, keys, inference=False)
        logits = as_logits(name, logits, images)
        return logits, layout.statistics(variables, state)

    def all_features(variables, images):
        if features is None:
            return {"00_logits": apply(variables, images)}
        return evaluate(features, variables, images)

    return Network(name, init, apply, train, all_features, filter_axis=0)


class _Layout:
    """Where the arrays of a module and of its state lie, and what is not an array."""

    def __init__(self, eqx, name, make):
        key = jax.random.key(0)
        model, state = eqx.filter_eval_shape(eqx.nn.make_with_state(make), key)
        if not isinstance(model, eqx.Module) or not callable(model):
            raise ValueError(
                "make must return an eqx.Module with a __call__ that maps an image to "
                f"its logits, got {type(model).__name__}"
            )
        self._eqx = eqx
        self.call = type(model).__call__
        params, rest = eqx.partition(model, _is_inexact)
        buffers, self._static = eqx.partition(rest, _is_array)
        self._param_names = Naming.of(
            f"parameters of {name}", params, _with_kernels(eqx, model)
        )
        self._buffer_names = Naming.of(f"arrays of {name}", buffers)
        self.state_names = _state_naming(eqx, f"state of {name}", model, state)

    def split(self, model, state):
        """The variables of a module and its state."""
        params, rest = self._eqx.partition(model, _is_inexact)
        buffers = self._eqx.filter(rest, _is_array)
        stats = {}
        if self._buffer_names.names:
            stats["arrays"] = self._buffer_names.to_dict(buffers)
        if self.state_names.names:
            stats["state"] = self.state_names.to_dict(state)
        variables = {"params": self._param_names.to_dict(params)}
        return variables | ({"batch_stats": stats} if stats else {})

    def merge(self, variables):
        """The module and its state of such variables."""
        stats = variables.get("batch_stats", {})
        model = self._eqx.combine(
            self._param_names.to_tree(variables["params"]),
            self._buffer_names.to_tree(stats.get("arrays", {})),
            self._static,
        )
        return model, self.state_names.to_tree(stats.get("state", {}))

    def statistics(self, variables, state):
        """The "batch_stats" of the variables, with a new state."""
        stats = dict(variables.get("batch_stats", {}))
        if self.state_names.names:
            stats["state"] = self.state_names.to_dict(state)
        return stats


def _import():
    try:
        import equinox
    except ImportError as error:
        raise ImportError(
            "from_equinox needs Equinox, which is no dependency of kd_heuristics: "
            "pip install equinox"
        ) from error
    return equinox


def _is_array(leaf):
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_inexact(leaf):
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _takes_key(function):
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


def _with_kernels(eqx, model):
    """Names of parameters, in which the weight of a linear layer is its "kernel"."""
    kinds = (eqx.nn.Linear, eqx.nn.Conv, eqx.nn.ConvTranspose)
    found = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda node: isinstance(node, kinds)
    )
    linear = {
        leaf_names.keys_of(path) for path, node in found if isinstance(node, kinds)
    }

    def name(names):
        if names[-1] == "weight" and names[:-1] in linear:
            return (*names[:-1], "kernel")
        return names

    return name


def _state_naming(eqx, what, model, state):
    """Names of a state's arrays, by the place of their index in the module."""
    kind = eqx.nn.StateIndex
    nodes = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda node: isinstance(node, kind)
    )
    names = tuple(
        leaf_names.keys_of(path) + own
        for path, node in nodes
        if isinstance(node, kind)
        for own in leaf_names.keys(state.get(node))
    )
    return Naming(what, names, jax.tree.structure(state))
