"""The networks of `train_step` in PyTorch, with its best settings.

Channels last, the fused optimiser, gradients set to None, inference mode. On a CPU,
`best_threads` chooses the number of threads. `torch.compile` is used if requested and
if it works; bfloat16 uses autocast, as the documentation recommends.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kd_heuristics.models.resnet import CONFIGS
from kd_heuristics.models.vgg import STAGES


@dataclasses.dataclass(frozen=True)
class Settings:
    """Device and options of PyTorch.

    Attributes:
      device: "cpu" or "cuda".
      bfloat16: whether activations are bfloat16, by autocast; parameters stay float32.
      mode: mode of `torch.compile`, such as "default"; `None` runs eagerly.
    """

    device: str = "cpu"
    bfloat16: bool = False
    mode: str | None = None


class Rival:
    """A network with its optimiser and one batch.

    Args:
      name: name as in `models.create`: a VGG without batch norm, or a ResNet.
      options: `width`, `classifier_width`.
      images: float32 [batch, h, w, c].
      labels: int32 [batch].
      settings: device and options.
    """

    def __init__(
        self,
        name: str,
        options: dict,
        images: np.ndarray,
        labels: np.ndarray,
        settings: Settings = Settings(),
    ):
        torch.manual_seed(0)
        self.settings = settings
        network = _vgg if name.startswith("vgg") else _resnet
        self.model: nn.Module = network(name, **options)
        self.model.to(settings.device, memory_format=torch.channels_last)  # pyrefly: ignore
        self._optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, fused=True
        )
        own = torch.from_numpy(images).permute(0, 3, 1, 2).to(settings.device)
        self._images = own.contiguous(memory_format=torch.channels_last)
        self._labels = torch.from_numpy(labels).long().to(settings.device)
        self._run, self._loss = self.model, self._mean_loss
        if settings.mode is not None:
            # A ResNet's blocks need more than the default limit of 8 programs.
            torch._dynamo.config.recompile_limit = 64
            self._run = torch.compile(self.model, mode=settings.mode)
            self._loss = torch.compile(self._mean_loss, mode=settings.mode)

    def _mean_loss(self, images, labels):
        return F.cross_entropy(self.model(images), labels)

    def _autocast(self):
        half = self.settings.bfloat16
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=half)

    def _wait(self):
        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def train(self, steps: int) -> None:
        """Takes steps of SGD with momentum on the batch."""
        self.model.train()
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss = self._loss(self._images, self._labels)
            loss.backward()
            self._optimizer.step()
        self._wait()

    def infer(self, steps: int) -> None:
        """Runs forward passes in evaluation mode."""
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            for _ in range(steps):
                self._run(self._images)
        self._wait()

    def flops(self) -> int:
        """Counts the operations of a training step's convolutions and products."""
        with FlopCounterMode(display=False) as counter:
            self.train(1)
        return counter.get_total_flops()


def rival(
    name: str,
    options: dict,
    images: np.ndarray,
    labels: np.ndarray,
    settings: Settings,
) -> Rival:
    """Returns a rival that has run; eager, with a printed line, if compiling fails."""
    found = Rival(name, options, images, labels, settings)
    try:
        found.train(1)
        found.infer(1)
    except Exception as error:  # any of its many parts may raise
        if settings.mode is None:
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        print(f"\nPyTorch runs {name} eager: torch.compile failed ({reason})\n")
        eager = dataclasses.replace(settings, mode=None)
        return rival(name, options, images, labels, eager)
    return found


def best_threads(run: Callable[[], object], most: int) -> int:
    """Returns the number of threads, a power of two or `most`, that runs fastest.

    It compares the shortest of several runs in turn, since other programs disturb one.
    """
    choices = sorted({2**n for n in range(most.bit_length()) if 2**n <= most} | {most})
    seconds = dict.fromkeys(choices, math.inf)
    for _ in range(6):
        for threads in choices:
            torch.set_num_threads(threads)
            start = time.perf_counter()
            run()
            seconds[threads] = min(seconds[threads], time.perf_counter() - start)
    return min(seconds, key=lambda threads: seconds[threads])


def _vgg(name, width=1.0, classifier_width=512, num_classes=10):
    layers: list[nn.Module] = []
    into = 3
    for stage in STAGES[int(name.removeprefix("vgg"))]:
        for channels in stage:
            out = max(1, round(channels * width))
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(inplace=True)]
            into = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(into, classifier_width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(classifier_width, classifier_width),
        nn.ReLU(inplace=True),
        nn.Linear(classifier_width, num_classes),
    )


def _resnet(name, width=1.0, num_classes=10):
    config = CONFIGS[name]
    into = round(config["channels"][0] * width)
    layers: list[nn.Module] = [_conv(3, into, 3, 1)]
    layers += [nn.BatchNorm2d(into), nn.ReLU(inplace=True)]
    sections = zip(config["num_blocks"], config["channels"], strict=True)
    for section, (count, channels) in enumerate(sections):
        out = round(channels * width)
        for index in range(count):
            stride = 2 if section > 0 and index == 0 else 1
            pads = config.get("shortcut") == "padding"
            layers.append(_Block(into, out, stride, pads))
            into = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, num_classes)]
    return nn.Sequential(*layers)


def _conv(into, out, size, stride):
    return nn.Conv2d(into, out, size, stride, padding=size // 2, bias=False)


class _Block(nn.Module):
    """Two convolutions and the shortcut, like `models.resnet.BasicBlock`."""

    def __init__(self, into, out, stride, pads):
        super().__init__()
        self.conv_0, self.bn_0 = _conv(into, out, 3, stride), nn.BatchNorm2d(out)
        self.conv_1, self.bn_1 = _conv(out, out, 3, 1), nn.BatchNorm2d(out)
        # A module for each case: torch.compile compiles each branch on numbers.
        self.shortcut: nn.Module = nn.Identity()
        if (stride != 1 or into != out) and pads:
            self.shortcut = _Pad(stride, out - into)
        elif stride != 1 or into != out:
            self.shortcut = nn.Sequential(
                _conv(into, out, 1, stride), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = F.relu(self.bn_0(self.conv_0(x)), inplace=True)
        y = self.bn_1(self.conv_1(y))
        return F.relu(y.add_(self.shortcut(x)), inplace=True)


class _Pad(nn.Module):
    """Takes every `stride`-th pixel, and appends channels of zeros."""

    def __init__(self, stride, added):
        super().__init__()
        self.stride, self.added = stride, added

    def forward(self, x):
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.added))
