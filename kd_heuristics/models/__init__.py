"""Creates models by name: `models.create("vgg16", num_classes=10, width=0.25)`.

A name may also be the user's own function: "module:function" or "file.py:function".
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import jax.numpy as jnp

from kd_heuristics.models import bit, mobilenet, own, resnet
from kd_heuristics.models.adapters import from_equinox, from_functions, from_nnx
from kd_heuristics.models.network import Network, from_linen
from kd_heuristics.models.own import function, is_own
from kd_heuristics.models.resnet import sections
from kd_heuristics.models.shallow import Shallow
from kd_heuristics.models.vgg import STAGES, VGG
from kd_heuristics.runtime import nearest, values

__all__ = [
    "Network",
    "accepted",
    "check",
    "create",
    "from_equinox",
    "from_functions",
    "from_linen",
    "from_nnx",
    "function",
    "is_own",
    "names",
    "sections",
    "takes_classes",
]


def create(name: str, num_classes: SupportsIndex | None, **options: Any) -> Network:
    """Creates a network by name, as pure functions (see `Network`).

    Equal arguments return the same network, which therefore compiles once.

    Every model has the options `width`, `init_factor` and `dtype`. In addition:

    - vgg11, vgg16: `classifier_width`, `dropout_rate`;
    - vgg11_bn, vgg16_bn: the same, `batch_norm_momentum` and `batch_norm_groups`;
    - resnet8, resnet14, resnet20, resnet26, resnet32 and resnet18 for CIFAR,
      resnet20_imagenet, resnet34_imagenet: `shortcut`, `input_batch_norm`,
      `batch_norm_momentum`, `batch_norm_groups`;
    - shallow: `classifier_width`;
    - bit_r50x1, bit_r50x3, bit_r101x1, bit_r101x3, bit_r152x2, bit_r152x4 and bit_tiny:
      `norm_groups`;
    - mobilenet_v3_large, mobilenet_v3_small and mobilenet_tiny: `norm` ("group" or
      "batch"), `norm_groups`, `batch_norm_momentum`.

    Args:
      name: one of `names()`; or "module:function" or "file.py:function", a function of
        yours, `make(num_classes, **options) -> Network`. A file is absolute or relative
        to the working directory, and is imported once.
      num_classes: number of logits, at least 2. `None` calls a function of yours
        without it, `make(**options)`, for a network that is no classifier.
      **options: options of the model; the modules `VGG`, `ResNet`, `Shallow`, `BiT` and
        `MobileNetV3` document them.

    Raises:
      ValueError: the name or option is unknown (the message suggests the nearest),
        `num_classes` is below 2, or an option is out of range; or your function is not
        found, needs other arguments, or returns no `Network`.

    >>> import jax
    >>> network = create("vgg16", num_classes=10)
    >>> images = jnp.zeros((1, 32, 32, 3))
    >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    15245130
    """
    check(name, num_classes, **options)
    classes = num_classes if num_classes is None else int(num_classes)
    if is_own(name):
        return own.make(name, classes, options)
    # Options come last, to replace a name's defaults.
    module = _MODULES[name](num_classes=classes, **options)
    return from_linen(name, module)


def names() -> tuple[str, ...]:
    """Lists the names that `create` accepts.

    >>> "vgg11_bn" in names()
    True
    """
    return tuple(_MODULES)


def accepted(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some options that a model has.

    >>> accepted("resnet18", {"width": 0.5, "dropout_rate": 0.1})
    {'width': 0.5}
    """
    if is_own(name):
        return own.accepted(name, options)
    known = _options(nearest.choose(name, names(), "model"))
    return {key: value for key, value in options.items() if key in known}


def takes_classes(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the user's function takes a number of classes before these options."""
    return own.takes_classes(name, options)


def check(name: str, num_classes: SupportsIndex | None, **options: Any) -> None:
    """Raises what `create` would for these arguments, without creating a network.

    A function of the user is imported and not called.
    """
    if is_own(name):
        if num_classes is not None:
            num_classes = values.integer("num_classes", num_classes, 2)
        own.check(name, num_classes, options)
        return
    nearest.choose(name, names(), "model")
    known = _options(name)
    for option in options:
        nearest.choose(option, known, f"option of {name}")
    if num_classes is None:
        raise ValueError(
            f"{name} is a classifier, so it needs a number of classes, from integer "
            "labels [n] of the data; name a network of your own, nets.py:make"
        )
    values.integer("num_classes", num_classes, 2)
    for option, (valid, words) in _RANGES.items():
        if option in options and not valid(options[option]):
            raise ValueError(f"{option} must be {words}, got {options[option]}")


def _options(name):
    """Lists the options of a model."""
    module = _MODULES[name]
    fixed = {"self", "parent", "name", "num_classes", *_FIXED}
    if not module.keywords.get("use_batch_norm", True):
        fixed |= {"batch_norm_momentum", "batch_norm_groups"}
    return [
        key for key in inspect.signature(module.func).parameters if key not in fixed
    ]


# Module attributes that a name fixes, which are not options.
_FIXED = (
    "stages",
    "use_batch_norm",
    "num_blocks",
    "channels",
    "stem",
    "stem_size",
    "blocks",
    "penultimate",
)

_MODULES: dict[str, functools.partial[Any]] = {
    **{
        f"vgg{depth}{suffix}": functools.partial(
            VGG, stages=STAGES[depth], use_batch_norm=bool(suffix)
        )
        for depth in (11, 16)
        for suffix in ("", "_bn")
    },
    **{
        name: functools.partial(module, **config)
        for module, configs in (
            (resnet.ResNet, resnet.CONFIGS),
            (bit.BiT, bit.CONFIGS),
            (mobilenet.MobileNetV3, mobilenet.CONFIGS),
        )
        for name, config in configs.items()
    },
    "shallow": functools.partial(Shallow),
}

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "width": (lambda value: value > 0, "positive"),
    "classifier_width": (lambda value: value >= 1, "at least 1"),
    "dropout_rate": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "init_factor": (lambda value: value > 0, "positive"),
    "batch_norm_momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "batch_norm_groups": (lambda value: value >= 1, "at least 1"),
    "norm_groups": (lambda value: value >= 1, "at least 1"),
    "norm": (lambda value: value in mobilenet.NORMS, " or ".join(mobilenet.NORMS)),
    "shortcut": (
        lambda value: value in resnet.SHORTCUTS,
        " or ".join(resnet.SHORTCUTS),
    ),
    "dtype": (lambda value: jnp.issubdtype(value, jnp.floating), "floating-point"),
}
