"""Which parameters of a network are its classifier, found by structure.

The classifier is the stack of last dense layers: every parameter from the first 2-D
kernel after the last convolution on, in the order in which the evaluated network first
combines parameters with data. A kernel of more than two axes counts as a convolution.
A network without any, a multilayer perceptron, has its last dense layer as classifier.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from kd_heuristics.models import Network
from kd_heuristics.pytrees import leaf_names


@functools.cache
def paths(network: Network, shape: tuple[int, ...]) -> frozenset[str]:
    """Paths of the classifier's parameters, such as "fc_0/kernel".

    Args:
      network: the network; nothing is computed.
      shape: `(height, width, channels)` of an image.

    Raises:
      ValueError: the network has no dense layer after another layer with a kernel.
    """
    ranks = [*order(network, shape).items()]
    kernels = [place for place, (_, rank) in enumerate(ranks) if rank >= 2]
    last = max((k for k in kernels if ranks[k][1] > 2), default=None)
    dense = [k for k in kernels if ranks[k][1] == 2]
    stack = dense[-1:] if last is None else [k for k in dense if k > last]
    if not stack or stack[0] == kernels[0]:
        raise ValueError(
            f"{network.name} has no classifier, which this study freezes and compares: "
            "dense layers (2-D kernels) that follow a convolution or another dense "
            "layer; give a network that ends in one"
        )
    return frozenset(path for path, _ in ranks[stack[0] :])


def head(network: Network, shape: tuple[int, ...]) -> frozenset[str]:
    """Paths of the parameters of the last layer with a kernel, such as "fc/kernel".

    Args:
      network: the network; nothing is computed.
      shape: `(height, width, channels)` of an image.
    """
    ranks = order(network, shape)
    kernel = [path for path, rank in ranks.items() if rank >= 2][-1]
    layer = kernel.rpartition("/")[0]
    return frozenset(
        path
        for path in ranks
        if path == kernel or layer == path.rpartition("/")[0] != ""
    )


def order(network: Network, shape: tuple[int, ...]) -> dict[str, int]:
    """Paths of the parameters in the order of their first use, with their ranks."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    names = list(leaf_names.flat(variables["params"]))
    leaves, structure = jax.tree.flatten(variables["params"])
    others = {k: v for k, v in variables.items() if k != "params"}

    def apply(leaves, others, image):
        params = jax.tree.unflatten(structure, leaves)
        return network.apply({"params": params, **others}, image)

    jaxpr = jax.make_jaxpr(apply)(leaves, others, image).jaxpr
    known: dict[Any, Any] = {
        var: (name,) for var, name in zip(jaxpr.invars, names, strict=False)
    }
    known[jaxpr.invars[-1]] = _DATA
    used: list[str] = []
    _follow(jaxpr, known, used)
    ranks = dict(zip(names, (leaf.ndim for leaf in leaves), strict=True))
    return {path: ranks[path] for path in used}


_DATA = "data"  # what depends on the image; else the paths of the parameters inside


def _follow(jaxpr: Any, known: dict[Any, Any], used: list[str]) -> list[Any]:
    """Adds to `used` what each operation combines with data; what the outputs hold."""

    def held(var):
        return () if isinstance(var, jex.Literal) else known.get(var, ())

    for eqn in jaxpr.eqns:
        inputs = [held(var) for var in eqn.invars]
        inner = [
            sub for sub in _inside(eqn) if len(sub.invars) <= len(inputs) and sub.eqns
        ]
        if inner and eqn.primitive.name != "while":
            outputs: list[Any] = []
            for sub in inner:
                own = inputs[len(inputs) - len(sub.invars) :]  # a switch's index first
                found = _follow(sub, dict(zip(sub.invars, own, strict=True)), used)
                outputs = outputs or found
        else:
            paths = [path for one in inputs if one != _DATA for path in one]
            if _DATA in inputs:
                used += paths
            outputs = [_DATA if _DATA in inputs else tuple(paths)] * len(eqn.outvars)
        known |= dict(zip(eqn.outvars, outputs, strict=True))
    return [held(var) for var in jaxpr.outvars]


def _inside(eqn: Any) -> Iterator[Any]:
    """The programs inside an operation: those of a switch, a scan, a custom rule."""
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, jex.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, jex.Jaxpr):
                yield part
