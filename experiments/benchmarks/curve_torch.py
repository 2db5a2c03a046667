"""PyTorch's evaluation of the points of a curve, for `curve_eval`."""

from typing import Any

import numpy as np


def points(config: Any, arrays: dict[str, np.ndarray]) -> tuple[Any, str]:
    """Returns `ts -> losses`, and the version; arguments as in `curve_eval.ours`."""
    import torch

    torch.set_num_threads(config.threads)
    ends = [_weights(arrays, f"{end}/params/") for end in (0, 1)]
    # Loading weights keeps the model's memory format.
    network: Any = _vgg(ends[0])
    network = network.to(memory_format=torch.channels_last)
    sets = {name: _set(arrays, name) for name in ("train", "test")}

    def point(t):
        weights = {k: (1 - t) * a + t * ends[1][k] for k, a in ends[0].items()}
        network.load_state_dict(weights, strict=False)
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
        for images in sets["train"][0].split(config.batch_size):
            network(images)
        network.eval()
        images, labels = (x.split(config.batch_size) for x in sets["test"])
        losses = [
            torch.nn.functional.cross_entropy(network(x), y, reduction="sum")
            for x, y in zip(images, labels, strict=True)
        ]
        return float(sum(losses)) / config.examples

    def run(ts):
        with torch.inference_mode():
            return [point(float(t)) for t in ts]

    return run, f"torch {torch.__version__}"


def _weights(arrays, prefix):
    """Converts our VGG's parameters to the names and axes of `_vgg`."""
    import torch

    weights = {}
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    for name, array in arrays.items():
        if name.startswith(prefix):
            layer, kind = name.removeprefix(prefix).split("/")
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
            value = torch.from_numpy(array.transpose(axes).copy())
            if value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            weights[f"{layer}.{names[kind]}"] = value
    return weights


def _vgg(weights):
    """Builds the same network; `momentum=None` is PyTorch's cumulative average."""
    import collections

    from torch import nn

    from kd_heuristics.models.vgg import STAGES

    depth = sum(name.startswith("conv") for name in weights) // 2 + 3
    layers: dict[str, nn.Module] = {}
    index = 0
    for number, stage in enumerate(STAGES[depth]):
        for _ in stage:
            out, into = weights[f"conv_{index:02d}.weight"].shape[:2]
            layers[f"conv_{index:02d}"] = nn.Conv2d(into, out, 3, padding=1)
            layers[f"bn_{index:02d}"] = nn.BatchNorm2d(out, momentum=None)
            layers[f"relu_{index:02d}"] = nn.ReLU(inplace=True)
            index += 1
        layers[f"pool_{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    for number in range(3):
        out, into = weights[f"fc_{number}.weight"].shape
        layers[f"fc_{number}"] = nn.Linear(into, out)
        if number < 2:
            layers[f"fc_relu_{number}"] = nn.ReLU(inplace=True)
    return nn.Sequential(collections.OrderedDict(layers))


def _set(arrays, name):
    import torch

    pixels = arrays[f"{name}_images"].astype(np.float32)
    images = ((pixels - arrays["mean"]) / arrays["std"]).astype(np.float32)
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(arrays[f"{name}_labels"].astype(np.int64))
    return tensor.contiguous(memory_format=torch.channels_last), labels
