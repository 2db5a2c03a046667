"""Reads torchvision's ImageNet weights for the teacher of Yim et al. 2017, table 5.

The paper's teacher is a ResNet-34 trained on ImageNet and fine-tuned on CUB-200.
torchvision publishes such weights as `ResNet34_Weights.IMAGENET1K_V1`, 73.3 % top-1
(https://docs.pytorch.org/vision/stable/models.html). With torch installed, this writes
them to a file:

    import numpy as np, torchvision
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    state = torchvision.models.resnet34(weights=weights).state_dict()
    np.savez("resnet34.npz", **{k: v.numpy() for k, v in state.items()})

and this reads them for `models.create("resnet34_imagenet", num_classes=1000)`:

    variables = imagenet.from_torchvision(np.load("resnet34.npz"))

Normalise images as torchvision does: scale to [0, 1], subtract (0.485, 0.456, 0.406),
divide by (0.229, 0.224, 0.225). Without these weights, train the teacher from scratch
on ImageNet or, as in the paper's own comparison (47.53 % against 77.72 %), on CUB
alone.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_heuristics.distill.net2net.units import unflatten


def from_torchvision(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Converts torchvision's ResNet-18 or -34 to variables of our ResNet.

    Kernels are transposed from [out, in, h, w] to [h, w, in, out]. "layerS.B", with S
    from 1 and B from 0, becomes "block_s_b" with both from 0.

    Args:
      arrays: torchvision's names, such as "layer1.0.conv1.weight", to NumPy arrays.

    Returns: {"params": ..., "batch_stats": ...}, nested dictionaries.

    Raises: ValueError for a name that such a network does not have; bottleneck blocks
      (50 layers and more) have other names.

    >>> tree = from_torchvision({"layer2.0.conv1.weight": np.zeros((128, 64, 3, 3))})
    >>> tree["params"]["block_1_0"]["conv_0"]["kernel"].shape
    (3, 3, 64, 128)
    """
    flat = {}
    for name, value in arrays.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        path, kind = _layer(layer, name)
        collection, ours = _LEAVES.get((kind, leaf), (None, None))
        if collection is None:
            raise ValueError(
                f"{name} is not an array of torchvision's ResNet-18 or -34"
            )
        array = np.asarray(value)
        if ours == "kernel":
            array = array.transpose((2, 3, 1, 0) if array.ndim == 4 else (1, 0))
        flat[f"{collection}/{path}/{ours}"] = array
    return unflatten(flat)


# Kind of layer and torchvision's name of an array, to our collection and name.
_LEAVES = {
    ("conv", "weight"): ("params", "kernel"),
    ("fc", "weight"): ("params", "kernel"),
    ("fc", "bias"): ("params", "bias"),
    ("bn", "weight"): ("params", "scale"),
    ("bn", "bias"): ("params", "bias"),
    ("bn", "running_mean"): ("batch_stats", "mean"),
    ("bn", "running_var"): ("batch_stats", "var"),
}


def _layer(layer: str, name: str) -> tuple[str, str]:
    """Returns our path of a layer, and its kind."""
    if layer in ("conv1", "bn1", "fc"):
        kind = layer.rstrip("1")
        return kind, kind
    inner = re.fullmatch(r"layer(\d+)\.(\d+)\.(conv|bn)([12])", layer)
    if inner:
        section, block, kind, number = inner.groups()
        return f"{_block(section, block)}/{kind}_{int(number) - 1}", kind
    shortcut = re.fullmatch(r"layer(\d+)\.(\d+)\.downsample\.([01])", layer)
    if shortcut:
        section, block, number = shortcut.groups()
        kind = ("conv", "bn")[int(number)]
        return f"{_block(section, block)}/shortcut_{kind}", kind
    raise ValueError(
        f"{name} is not an array of torchvision's ResNet-18 or -34; deeper networks "
        "have bottleneck blocks, which our ResNet lacks"
    )


def _block(section: str, block: str) -> str:
    """Names a block, with sections from 0 instead of 1."""
    return f"block_{int(section) - 1}_{block}"
