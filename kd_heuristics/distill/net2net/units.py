"""Finds the layers that write and read the same units and must widen together."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Units:
    """Units that some layers write and others read, in the same order.

    Layers are named by their path below "params", such as "block_0_0/conv_1". The last
    axis of a kernel writes units, the last but one reads them.

    Attributes:
      writers: layers whose leaves, parameters and statistics, all have these units as
        last axis. The first layer has a kernel. A residual sum has many writers.
      readers: layers whose kernel has the units as last axis but one. After a flattened
        map, that axis holds the channels of each position in turn.
      first: name of other units that come first among these, as after a shortcut that
        appends channels of zeros.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    first: str | None = None


def units_of(variables: Variables) -> dict[str, Units]:
    """Finds the units of a VGG or a ResNet of `models`, by the names of its layers.

    VGG: "conv_00", "conv_01", ..., "fc_0", "fc_1" are the outputs of these layers.
    ResNet: "section_0", ... are the residual stream of each section, and "block_0_0",
    ... are the units between the two convolutions of each block. Images and logits are
    not units.

    Raises: ValueError for variables of another form.
    """
    layers = _layers(variables)
    for first, pattern, units in _FORMS:
        others = sorted(name for name in layers if not re.fullmatch(pattern, name))
        if first in layers and not others:
            return dict(units(layers))
        if first in layers:
            break
    else:
        others = sorted(layers)
    raise ValueError(
        f"no VGG or ResNet of models has the layers {', '.join(others[:6])}; it cannot "
        "be deepened, and is widened with its `Units` described (units=...)"
    )


def widths(
    variables: Variables, units: Mapping[str, Units] | None = None
) -> dict[str, int]:
    """Counts the units of each name.

    For a larger network's variables, or their shapes (`jax.eval_shape`), the result is
    what `widen` needs to reach that network.

    Args:
      variables: {"params": ..., ...}.
      units: the units to count; `None` uses `units_of(variables)`.

    Raises: ValueError for variables of an unknown form.

    >>> from types import SimpleNamespace as array  # anything that has a shape
    >>> kernels = {"conv_00": (3, 3, 3, 64), "fc_0": (64, 512), "fc_1": (512, 10)}
    >>> widths({"params": {k: {"kernel": array(shape=s)} for k, s in kernels.items()}})
    {'conv_00': 64, 'fc_0': 512}
    """
    units = units_of(variables) if units is None else units
    leaves = flatten(variables)
    return {
        name: leaves[f"params/{group.writers[0]}/kernel"].shape[-1]
        for name, group in units.items()
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries into one with paths like "params/conv_00/kernel".

    >>> flatten({"params": {"fc": {"kernel": 1}}})
    {'params/fc/kernel': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nests a dictionary whose keys are paths; the inverse of `flatten`.

    >>> unflatten({"params/fc/kernel": 1})
    {'params': {'fc': {'kernel': 1}}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return tree


def _layers(variables: Variables) -> set[str]:
    """Lists the paths of all layers below "params"."""
    if "params" not in variables:
        raise ValueError(
            f'variables have the keys {sorted(variables)}; wanted {{"params": ...}}, '
            'with "batch_stats" if the network has any'
        )
    return {path.rsplit("/", 1)[0] for path in flatten(variables["params"])}


def _vgg(layers: set[str]) -> Iterator[tuple[str, Units]]:
    """Yields the units of a VGG."""
    chain = sorted(name for name in layers if re.fullmatch(r"conv_\d+", name))
    chain += sorted(name for name in layers if re.fullmatch(r"fc_\d+", name))
    for name, reader in itertools.pairwise(chain):
        norm = name.replace("conv", "bn")
        writers = (name, norm) if norm != name and norm in layers else (name,)
        yield name, Units(writers, (reader,))


def _resnet(layers: set[str]) -> Iterator[tuple[str, Units]]:
    """Yields the units of a ResNet."""
    sections = _sections(layers)
    for number, blocks in enumerate(sections):
        following = sections[number + 1][0] if number + 1 < len(sections) else None
        shortcut = f"{blocks[0]}/shortcut_conv"
        projected = shortcut in layers
        writers = [] if number else ["conv", "bn"]
        writers += [f"{block}/{kind}_1" for block in blocks for kind in ("conv", "bn")]
        writers += [shortcut, f"{blocks[0]}/shortcut_bn"] if projected else []
        # The first block of a later section reads the previous section.
        readers = [f"{block}/conv_0" for block in (blocks[1:] if number else blocks)]
        readers += [f"{following}/conv_0" if following else "fc"]
        if f"{following}/shortcut_conv" in layers:
            readers.append(f"{following}/shortcut_conv")
        first = f"section_{number - 1}" if number and not projected else None
        yield f"section_{number}", Units(tuple(writers), tuple(readers), first)
        for block in blocks:
            yield (
                block,
                Units((f"{block}/conv_0", f"{block}/bn_0"), (f"{block}/conv_1",)),
            )


def _sections(layers: set[str]) -> list[list[str]]:
    """Lists the names of the blocks of each section, in order."""
    matches = (re.fullmatch(r"block_(\d+)_(\d+)/conv_0", name) for name in layers)
    numbers = sorted((int(match[1]), int(match[2])) for match in matches if match)
    return [
        [f"block_{section}_{block}" for _, block in run]
        for section, run in itertools.groupby(numbers, key=lambda pair: pair[0])
    ]


# For each form: a layer it begins with, the names of all its layers, its units.
_FORMS = (
    ("conv_00", r"(conv|bn|fc)_\d+", _vgg),
    (
        "block_0_0/conv_0",
        r"input_bn|conv|bn|fc|block_\d+_\d+/((conv|bn)_[01]|shortcut_(conv|bn))",
        _resnet,
    ),
)
