"""One network's parameters as each library holds them."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import core, linen, nnx

KERNEL, BIAS = jnp.arange(6.0).reshape(2, 3), jnp.arange(3.0)
NAMES = ["conv/kernel", "fc/bias", "fc/kernel"]


class Layer(NamedTuple):
    bias: Any
    kernel: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class DataLayer:
    bias: Any
    kernel: Any


class Module(eqx.Module):
    bias: Any
    kernel: Any


class NnxNet(nnx.Module):
    def __init__(self):
        self.conv = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
        self.fc = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.conv.kernel, self.fc.kernel = nnx.Param(KERNEL), nnx.Param(KERNEL)
        self.fc.bias = nnx.Param(BIAS)


# As Flax before 0.11 has it.
@jax.tree_util.register_pytree_with_keys_class
class VariableState:
    def __init__(self, value):
        self.value = value

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("value"), self.value),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


VariableState.__module__ = "flax.nnx.variablelib"


def partitioned(x):
    return linen.Partitioned(x, names=(None,) * x.ndim)


def logical(x):
    return linen.LogicallyPartitioned(x, names=(None,) * x.ndim)


def of(layer, leaf=lambda x: x):
    return {
        "conv": {"kernel": leaf(KERNEL)},
        "fc": layer(bias=leaf(BIAS), kernel=leaf(KERNEL)),
    }


TREES = {
    "dict": of(dict),
    "frozen dict": core.freeze(of(dict)),
    "named tuple": of(Layer),
    "dataclass": of(DataLayer),
    "equinox": of(Module),
    "partitioned": of(dict, partitioned),
    "logically partitioned": of(dict, logical),
    "nnx variables": of(dict, nnx.Param),
    "variable states": of(dict, VariableState),
    "nnx state": nnx.state(NnxNet(), nnx.Param),
    "nnx module": NnxNet(),
    "nnx pure": nnx.to_pure_dict(nnx.state(NnxNet(), nnx.Param)),
    "none": of(dict) | {"dropout": None},
}
