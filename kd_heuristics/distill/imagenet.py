"""ImageNet weights for the teacher of Yim et al. 2017, table 5, from torchvision.

The paper's teacher is a ResNet-34 trained on ImageNet, fine-tuned on CUB-200. Such
weights are published with torchvision as `ResNet34_Weights.IMAGENET1K_V1`, 73.3 % top-1
(https://docs.pytorch.org/vision/stable/models.html). Where torch is installed, this
writes them to a file:

    import numpy as np, torchvision
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    state = torchvision.models.resnet34(weights=weights).state_dict()
    np.savez("resnet34.npz", **{k: v.numpy() for k, v in state.items()})

and this reads them for `models.create("resnet34_imagenet", num_classes=1000)`:

    variables = imagenet.from_torchvision(np.load("resnet34.npz"))

Images go in as torchvision has them: in [0, 1], minus (0.485, 0.456, 0.406), divided by
(0.229, 0.224, 0.225). Without these weights the teacher is trained from scratch, on
ImageNet or, as the paper's own comparison (47.53 % against 77.72 %), on CUB alone.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_heuristics.distill.net2net.units import unflatten


def from_torchvision(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of our ResNet of basic blocks from torchvision's (18 and 34 layers).

    Kernels turn from [out, in, h, w] to [h, w, in, out]; layers and blocks, which
    torchvision counts from 1 and 0, become "block_s_b".

    Args:
      arrays: torchvision's name, "layer1.0.conv1.weight", to a NumPy array.

    Returns: {"params": ..., "batch_stats": ...}, nested dictionaries.

    Raises: ValueError for a name that is none of such a network's: bottleneck blocks
      (50 layers and more) have others.

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
            raise ValueError(f"{name} is no array of a torchvision ResNet-18 or -34")
        array = np.asarray(value)
        if ours == "kernel":
            array = array.transpose((2, 3, 1, 0) if array.ndim == 4 else (1, 0))
        flat[f"{collection}/{path}/{ours}"] = array
    return unflatten(flat)


# Kind of layer and torchvision's name of an array: where it is in ours.
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
    """Our path of a layer, and its kind."""
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
        f"{name} is no array of a torchvision ResNet-18 or -34; deeper ones have "
        "bottleneck blocks, which our ResNet lacks"
    )


def _block(section: str, block: str) -> str:
    return f"block_{int(section) - 1}_{block}"
