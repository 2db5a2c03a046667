"""The settings of JAX and the kinds of input under which every tool is run."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

RNG = np.random.RandomState(0)
KERNEL, OUT = (RNG.normal(size=(3, 2)).astype(np.float32) for _ in range(2))
BIAS = RNG.normal(size=2).astype(np.float32)
OUT = OUT[:2]


class Layer(NamedTuple):
    bias: Any
    kernel: Any


class Net(NamedTuple):
    fc: Layer
    out: Layer


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LayerData:
    bias: Any
    kernel: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class NetData:
    fc: LayerData
    out: LayerData


class LayerModule(eqx.Module):
    bias: Any
    kernel: Any


class NetModule(eqx.Module):
    fc: LayerModule
    out: LayerModule


def _state(fc, out):
    layers = {"fc": fc, "out": out}
    return nnx.State(
        {
            name: {key: nnx.Param(leaf) for key, leaf in layer.items()}
            for name, layer in layers.items()
        }
    )


# Each has its leaves in the order of the dictionary's: fc/bias, fc/kernel, out/kernel.
CONTAINERS: dict[str, Callable] = {
    "dict": lambda bias, kernel, out: {
        "fc": {"bias": bias, "kernel": kernel},
        "out": {"kernel": out},
    },
    "tuple": lambda bias, kernel, out: ((bias, kernel), (out,)),
    "namedtuple": lambda bias, kernel, out: Net(Layer(bias, kernel), Layer(None, out)),
    "dataclass": lambda bias, kernel, out: NetData(
        LayerData(bias, kernel), LayerData(None, out)
    ),
    "none_leaves": lambda bias, kernel, out: {
        "fc": {"bias": bias, "kernel": kernel},
        "none": None,
        "out": {"bias": None, "kernel": out},
    },
    "nnx_state": lambda bias, kernel, out: _state(
        {"bias": bias, "kernel": kernel}, {"kernel": out}
    ),
    "equinox": lambda bias, kernel, out: NetModule(
        LayerModule(bias, kernel), LayerModule(None, out)
    ),
}


def in_first_layer(path: str) -> bool:
    """A predicate of leaf names that says the same of every container."""
    return path.partition("/")[0] in ("fc", "0")


def is_kernel(path: str) -> bool:
    """Likewise: in a tuple the names are places."""
    return path in ("fc/kernel", "out/kernel", "0/1", "1/0")


@dataclasses.dataclass(frozen=True)
class World:
    """What a tool is given.

    Attributes:
      settings: of `jax.config`, while the tool is made and called.
      integer: type of each integer argument.
      real: type of each float argument.
      container: of parameters.
      legacy_keys: uint32 keys in place of typed ones.
      rounds_products: products that do not ask for a precision get operands rounded
        to bfloat16, as an accelerator does; a CPU ignores the setting.
    """

    settings: tuple[tuple[str, Any], ...] = ()
    integer: Callable = int
    real: Callable = float
    container: str = "dict"
    legacy_keys: bool = False
    rounds_products: bool = False

    def key(self, seed: int):
        return (jax.random.PRNGKey if self.legacy_keys else jax.random.key)(seed)

    def params(self, shift: float = 0.0, power: int = 2) -> Any:
        """Three leaves in the world's container; `shift` makes another network."""
        leaves = (BIAS, KERNEL, OUT)
        moved = (jnp.asarray(leaf + np.float32(shift) * leaf**power) for leaf in leaves)
        return CONTAINERS[self.container](*moved)

    def call(self, function: Callable[[], Any]) -> Any:
        """Calls a function of no arguments: under a setting of JAX as one program.

        Its operations would be hundreds of programs there, compiled for the setting.
        In the other worlds, and where the setting is `jax_disable_jit`, it is eager.
        """
        return (jax.jit(function) if self.settings else function)()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        before = {name: getattr(jax.config, name) for name, _ in self.settings}
        try:
            for name, value in self.settings:
                jax.config.update(name, value)
            with rounded_products() if self.rounds_products else _nothing():
                yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)


_nothing = contextlib.nullcontext


@contextlib.contextmanager
def rounded_products() -> Iterator[None]:
    """Emulates an accelerator's default precision on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        for primitive in (jax.lax.dot_general_p, jax.lax.conv_general_dilated_p):
            patch.setattr(primitive, "bind", _rounding(primitive.bind))
        yield


def _rounding(bind):
    def rounded(lhs, rhs, *, precision, **options):
        if precision is None or jax.lax.Precision.HIGHEST not in tuple(precision):
            lhs, rhs = (
                x.astype(jnp.bfloat16).astype(x.dtype)
                if jnp.issubdtype(x.dtype, jnp.floating)
                else x
                for x in (lhs, rhs)
            )
        return bind(lhs, rhs, precision=precision, **options)

    return rounded


def _flag(name: str, value: Any = True) -> World:
    return World(settings=((name, value),))


FLAGS = {
    "x64": _flag("jax_enable_x64"),
    "disable_jit": _flag("jax_disable_jit"),
    "debug_nans": _flag("jax_debug_nans"),
    "strict_promotion": _flag("jax_numpy_dtype_promotion", "strict"),
    "bfloat16_products": dataclasses.replace(
        _flag("jax_default_matmul_precision", "bfloat16"), rounds_products=True
    ),
}
NUMBERS = {
    "numpy_64": World(integer=np.int64, real=np.float64),
    "numpy_32": World(integer=np.int32, real=np.float32),
    "numpy_8": World(integer=np.uint8, real=np.float32),
}
KEYS = {"legacy_keys": World(legacy_keys=True)}
PARAMS = {name: World(container=name) for name in CONTAINERS if name != "dict"}
WORLDS = FLAGS | NUMBERS | KEYS | PARAMS


@functools.cache
def group_of(name: str) -> str:
    """What a tool must take for a world to matter, "numbers" say; "" for all."""
    groups = {"numbers": NUMBERS, "keys": KEYS, "params": PARAMS}
    return next((group for group, worlds in groups.items() if name in worlds), "")
