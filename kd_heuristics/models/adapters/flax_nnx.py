"""Adapts Flax NNX modules to a `Network`."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.models.adapters.naming import Naming
from kd_heuristics.models.form import Form
from kd_heuristics.models.network import Network
from kd_heuristics.runtime.compiled import once
from kd_heuristics.runtime.leaves import is_key
from kd_heuristics.similarity import capture


def from_nnx(
    name: str, make: Callable[[Any], Any], *, inputs: str = "images"
) -> Network:
    """Makes a `Network` of a Flax NNX module that maps images to logits.

    The module is called as `module(images)`, on float images [batch, h, w, c].
    `module.train()` and `module.eval()` set its mode. In training, each of its random
    streams (such as dropout's) starts from its own key, derived from the step's; in
    evaluation all streams have fixed keys.

    Variables are nested dictionaries by attribute and index, such as "layers/0/kernel".
    `nnx.Param` and its subclasses are under "params". `nnx.BatchStat` and all other
    variables and arrays, except `nnx.Intermediate`, are under "batch_stats", and
    training keeps the values that the module leaves there. A variable shared by two
    attributes appears once.

    `features` and `train_features` are the outputs of all submodules, named as by
    `similarity.capture`. With a Flax older than 0.12.1 they are the logits alone, as
    "00_logits".

    Args:
      name: name for messages and run folders.
      make: `nnx.Rngs -> nnx.Module`. It is called once for the structure, without
        allocating, and at each `init`. It may return a trained module, which stays
        unchanged.
      inputs: "any" lifts the checks of images and logits, for instance for tokens.

    Returns: the network; its logits are float32.

    Raises: ValueError if `make` does not return a callable module. When called, before
      it computes anything, the network raises ValueError if the images are not float
      [batch, h, w, c], the logits are not [batch, classes], or the variables belong to
      another model.

    >>> from flax import nnx
    >>> class Linear(nnx.Linear):
    ...     def __call__(self, images):
    ...         return super().__call__(images.reshape(len(images), -1))
    >>> network = from_nnx("linear", lambda rngs: Linear(64, 10, rngs=rngs))
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> variables = network.init(jax.random.key(0), images)
    >>> sorted(variables["params"]), network.apply(variables, images).shape
    (['bias', 'kernel'], (2, 10))
    """
    from flax import nnx  # a third of a second to import

    form = Form(name, inputs)
    train_graph, eval_graph, params, streams, rest = _structure(make)
    param_names = Naming.of(f"parameters of {name}", params)
    rest_names = Naming.of(f"statistics of {name}", rest)

    def merge(graph, variables, key):
        return nnx.merge(
            graph,
            param_names.to_tree(variables["params"]),
            _reseeded(streams, key),
            rest_names.to_tree(variables.get("batch_stats", {})),
        )

    @once
    def init(key, images):
        _, params, _, rest = _parts(make(nnx.Rngs(key)))
        variables = {"params": param_names.to_dict(params)}
        if rest_names.names:
            variables["batch_stats"] = rest_names.to_dict(rest)
        jax.eval_shape(apply, variables, images)  # raises on bad images and logits
        return variables

    def evaluation(variables, images):
        form.check(images)
        return merge(eval_graph, variables, jax.random.key(0))

    def apply(variables, images):
        return form.outputs(evaluation(variables, images)(images), images)

    def train(variables, images, key):
        form.check(images)
        module = merge(train_graph, variables, key)
        logits = form.outputs(module(images), images)
        return logits, rest_names.to_dict(_parts(module)[3])

    def features(variables, images):
        if not hasattr(nnx, "capture"):
            return {"00_logits": apply(variables, images)}
        return dict(capture(evaluation(variables, images))(images))

    def train_features(variables, images, key):
        # The second pass, for the statistics, is the same computation; XLA merges them.
        logits, batch_stats = train(variables, images, key)
        if not hasattr(nnx, "capture"):
            return {"00_logits": logits}, batch_stats
        module = merge(train_graph, variables, key)
        return dict(capture(module)(images)), batch_stats

    return Network(name, init, apply, train, features, train_features)


def _structure(make):
    """Finds the graphs in training and evaluation, and the shapes of `_parts`."""
    from flax import nnx

    graphs = []

    def states():
        made = make(nnx.Rngs(jax.random.key(0)))
        _check_module(made)
        module = nnx.merge(*nnx.split(made))  # a copy, to keep the user's mode
        module.train()
        train_graph, *states = _parts(module)
        module.eval()
        graphs.extend([train_graph, _parts(module)[0]])
        return states

    shapes = jax.eval_shape(states)
    return *graphs, *shapes


def _parts(module):
    """Splits off structure, parameters, random streams, and the rest.

    Intermediates are dropped.
    """
    from flax import nnx

    graph, params, streams, _, rest = nnx.split(
        module, nnx.Param, nnx.RngState, nnx.Intermediate, ...
    )
    return graph, params, streams, rest


def _check_module(module):
    """Raises ValueError for a module that is not callable or has bare arrays."""
    from flax import nnx

    if not isinstance(module, nnx.Module) or not callable(module):
        raise ValueError(
            "make must return an nnx.Module with a __call__ that maps images to "
            f"logits, got {type(module).__name__}"
        )
    # Under jit, Flax (0.12) treats a bare array as a constant and would leak it.
    known = {id(leaf) for leaf in jax.tree.leaves(nnx.state(module))}
    for path, node in nnx.iter_modules(module):
        for attribute, value in vars(node).items():
            if isinstance(value, jax.core.Tracer) and id(value) not in known:
                name = "/".join(map(str, (*path, attribute)))
                raise ValueError(
                    f"{name} is an array that Flax does not see under jit; wrap it: "
                    "nnx.Variable(array)"
                )


def _reseeded(streams, key):
    """Restarts the random streams; stream i gets the key `fold_in(key, i)`."""
    counter = itertools.count()

    def fresh(leaf):
        if not is_key(leaf):
            return jnp.zeros(leaf.shape, leaf.dtype)  # draws so far
        own = jax.random.fold_in(key, next(counter))
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return jax.tree.map(fresh, streams)
