"""Loads the released weights of BiT-ResNets into our parameters.

They are published as `.npz` files, gs://bit_models/NAME.npz or, over HTTPS,
storage.googleapis.com/bit_models/NAME.npz: `distill/R152x2_T_{224,384}`,
`distill/R152x2_T_{flowers,pet,food,sun}128` (the teachers of Beyer et al. 2022),
`distill/R50x1_{160,224}` (their students), `BiT-M-R50x1` and similar. Two layouts are
supported:

- "block1/unit01/conv1/kernel", optionally below "params/" or "opt/target/": big_vision;
- "resnet/block1/unit01/a/standardized_conv2d/kernel": the first release of BiT.

These networks expect pixels scaled to [-1, 1]. Like big_vision, we pad borders with
minus infinity before the max-pool. BiT's first release pads with 0 there, without a
ReLU in between. With files of the second layout, features at the border therefore
differ from that release, as they do in big_vision.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.distill import transfer
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import nearest

PyTree = Any

MEAN, STD = (127.5,) * 3, (127.5,) * 3  # of a `training.Classifier`


def load(
    path: str | Path, variables: PyTree, head: Literal["load", "keep"] = "load"
) -> dict[str, PyTree]:
    """Loads the variables of a BiT-ResNet from a released file.

    Args:
      path: the `.npz` file. Pickled objects are not read.
      variables: the network's initial variables. If the head is loaded, their shapes
        from `jax.eval_shape` suffice.
      head: "load" takes the file's classifier; "keep" keeps that of `variables`, for
        classes other than the file's.

    Returns: {"params": ...}, float32.

    Raises:
      FileNotFoundError: the file does not exist.
      ValueError: the file is not an `.npz` of plain arrays or has an unknown layout;
        arrays are missing, left over or of another shape (the message names them); or
        `head` is "keep" and the variables are only shapes.
    """
    nearest.choose(head, ("load", "keep"), "head")
    found = renamed(leaf_names.flat(transfer.load_npz(path)), str(path))
    wanted = leaf_names.flat(variables["params"])
    kept = {name for name in wanted if head == "keep" and name.startswith("fc/")}
    transfer.check_values(wanted, kept)
    _check(str(path), wanted, found, kept)
    params = jax.tree.structure(variables["params"]).unflatten(
        leaf if name in kept else jnp.asarray(found[name], jnp.float32)
        for name, leaf in wanted.items()
    )
    return {"params": params}


def renamed(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Renames and reshapes a file's arrays to ours.

    Args:
      arrays: arrays by the file's names; optimiser states are skipped.
      source: name of the file, for messages.

    Raises: ValueError for a name that no BiT-ResNet has.

    >>> kernel, gamma = np.zeros((3, 3, 8, 8)), np.zeros(8)
    >>> found = renamed({"block2/unit01/conv2/kernel": kernel,
    ...                  "resnet/block2/unit01/b/group_norm/gamma": gamma}, "here")
    >>> sorted(found)
    ['block_1_0/conv_1/kernel', 'block_1_0/gn_1/scale']
    """
    roots = [root for root in _ROOTS if any(name.startswith(root) for name in arrays)]
    root = roots[0] if roots else ""
    ours = {
        _name(name.removeprefix(root), source): np.asarray(array)
        for name, array in arrays.items()
        if name.startswith(root)
    }
    return {name: _reshaped(name, array) for name, array in ours.items()}


_ROOTS = ("params/", "opt/target/")
_LAYERS = {
    "root_block/conv_root": "conv",
    "root_block/standardized_conv2d": "conv",
    "norm-pre-head": "gn",
    "group_norm": "gn",
    "head": "fc",
    "head/conv2d": "fc",
}
_LEAVES = {"kernel": "kernel", "bias": "bias", "scale": "scale"}
_OLD_LEAVES = _LEAVES | {"gamma": "scale", "beta": "bias"}
_UNIT = re.compile(r"block(\d+)/unit(\d+)/(.+)")
_INNER = re.compile(r"(conv|gn)([123])")
_OLD_INNER = re.compile(r"([abc])/(standardized_conv2d|group_norm)")


def _name(name: str, source: str) -> str:
    """Returns our path of an array of either layout."""
    layer, _, leaf = name.rpartition("/")
    old = layer.startswith("resnet/")
    # Some files number the convolutions of their graph: standardized_conv2d_12.
    layer = re.sub(r"(standardized_conv2d)_\d+", r"\1", layer.removeprefix("resnet/"))
    ours, leaf_name = _layer(layer, old), (_OLD_LEAVES if old else _LEAVES).get(leaf)
    if ours is None or leaf_name is None:
        raise ValueError(
            f"{source} has {name!r}, which is not an array of a BiT-ResNet; give a "
            "file from gs://bit_models"
        )
    return f"{ours}/{leaf_name}"


def _layer(layer: str, old: bool) -> str | None:
    """Returns our path of a layer, or None for an unknown one."""
    unit = _UNIT.fullmatch(layer)
    if unit is None:
        return _LAYERS.get(layer)
    block, number, inner = unit.groups()
    ours = f"block_{int(block) - 1}_{int(number) - 1}"
    if inner in ("conv_proj", "a/proj/standardized_conv2d"):
        return f"{ours}/shortcut_conv"
    found = (_OLD_INNER if old else _INNER).fullmatch(inner)
    if found is None:
        return None
    if old:
        letter, kind = found.groups()
        kind = "gn" if kind == "group_norm" else "conv"
        return f"{ours}/{kind}_{'abc'.index(letter)}"
    return f"{ours}/{found[1]}_{int(found[2]) - 1}"


def _reshaped(name: str, array: np.ndarray) -> np.ndarray:
    """Drops leading axes of size 1 that the files have and our arrays do not.

    Scales and biases [1, 1, 1, channels] become [channels], and the classifier's kernel
    [1, 1, channels, classes] becomes [channels, classes].
    """
    rank = 2 if name == "fc/kernel" else 4 if name.endswith("kernel") else 1
    extra = array.ndim - rank
    if extra > 0 and array.shape[:extra] == (1,) * extra:
        return array.reshape(array.shape[extra:])
    return array


def _check(source, wanted, found, kept):
    """Raises ValueError for missing, extra or misshapen arrays."""
    missing = [name for name in wanted if name not in found and name not in kept]
    extra = [name for name in found if name not in wanted]
    for names, words in ((missing, "lacks"), (extra, "has, beyond this network,")):
        if names:
            raise ValueError(
                f"{source} {words} {_some(names)}; create the network whose depth and "
                "width the file's name gives"
            )
    for name, leaf in wanted.items():
        if name in kept or np.shape(leaf) == np.shape(found[name]):
            continue
        remedy = (
            f"create it with num_classes={found[name].shape[-1]}, or load with "
            'head="keep"'
            if name.startswith("fc/")
            else "create the network whose depth and width the file's name gives"
        )
        raise ValueError(
            f"{source} has {name} as {list(np.shape(found[name]))}, the network as "
            f"{list(np.shape(leaf))}; {remedy}"
        )


def _some(names: list[str]) -> str:
    """Lists up to five names and counts the rest."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
