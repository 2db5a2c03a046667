"""The SGDR study's work as one would write it in PyTorch, for `study`.

    python -m experiments.benchmarks.study_torch WORK.npz RESULTS.json

Three trainings in turn, chains fitted between their iterates, losses point by point on
segments, chains and a plane, and similarity maps pair by pair by google/svcca's steps.
Eager, as most such code is: `torch.compile` would take longer to compile than these
trainings run, on a CPU. Seconds count from after the imports and the choice of threads.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from experiments.benchmarks.similarity import mean_correlation
from experiments.benchmarks.torch_models import best_threads
from kd_heuristics.models.vgg import STAGES

Joined = tuple[str, int, int]  # arm, and the epochs that a path joins


class Work:
    """Images, rates and pairs of the study, as `study` wrote them."""

    def __init__(self, path: str):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        self.settings: dict[str, Any] = json.loads(str(arrays.pop("settings")))
        self.rates = {
            name.removeprefix("rates/"): array.tolist()
            for name, array in arrays.items()
            if name.startswith("rates/")
        }
        self.images, self.labels = {}, {}
        for name in ("train", "test"):
            images = torch.from_numpy(arrays[f"{name}_images"]).permute(0, 3, 1, 2)
            self.images[name] = images.contiguous(memory_format=torch.channels_last)
            self.labels[name] = torch.from_numpy(arrays[f"{name}_labels"]).long()

    def __getattr__(self, name: str) -> Any:
        return self.settings[name]

    def network(self) -> nn.Module:
        """Returns a new VGG-11 with batch norm."""
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        into = 3
        for stage in STAGES[11]:
            for channels in stage:
                out = max(1, round(channels * self.width))
                layers += [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out)]
                layers.append(nn.ReLU(inplace=True))
                into = out
            layers.append(nn.MaxPool2d(2))
        size = self.classifier_width
        layers += [nn.Flatten(), nn.Linear(into, size), nn.ReLU(inplace=True)]
        layers += [nn.Linear(size, size), nn.ReLU(inplace=True), nn.Linear(size, 10)]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # pyrefly: ignore


def train(work: Work, rates: list[float], epochs: int) -> dict[int, dict]:
    """Trains one arm; returns its kept iterates by epoch, as state dictionaries."""
    network = work.network()
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": work.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=work.momentum, fused=True)
    step, kept = 0, {}
    for epoch in range(epochs):
        network.train()
        for images, labels in batches(work):
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(images), labels).backward()
            nn.utils.clip_grad_norm_(network.parameters(), work.clip_norm)
            optimizer.step()
            step += 1
        test(work, network, "test", len(work.labels["test"]))
        if epoch in work.kept:
            kept[epoch] = {k: v.clone() for k, v in network.state_dict().items()}
    return kept


def batches(work: Work):
    """Yields an epoch of shuffled batches."""
    order = torch.randperm(len(work.labels["train"]))
    size = work.batch_size
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield work.images["train"][chosen], work.labels["train"][chosen]


@torch.inference_mode()
def test(work: Work, network: nn.Module, name: str, examples: int) -> float:
    """Returns the mean loss on the first examples of a set."""
    network.eval()
    images = work.images[name][:examples].split(work.eval_batch_size)
    labels = work.labels[name][:examples].split(work.eval_batch_size)
    total = 0.0
    for x, y in zip(images, labels, strict=True):
        total += float(F.cross_entropy(network(x), y, reduction="sum"))
    return total / examples


def fit_chain(work: Work, a: dict, b: dict) -> dict:
    """Fits the bend of a chain between two iterates."""
    network = work.network()
    params = dict(network.named_parameters())
    bend = {name: ((a[name] + b[name]) / 2).clone() for name in params}
    speed = {name: torch.zeros_like(value) for name, value in bend.items()}
    chain, step = work.chain, 0
    total = chain["epochs"] * (len(work.labels["train"]) // work.batch_size)
    network.train()
    for _ in range(chain["epochs"]):
        for images, labels in batches(work):
            t = float(torch.rand(()))
            share, end = (2 * t, a) if t < 0.5 else (2 - 2 * t, b)
            with torch.no_grad():
                for name, param in params.items():
                    torch.lerp(end[name], bend[name], share, out=param)
            network.zero_grad(set_to_none=True)
            F.cross_entropy(network(images), labels).backward()
            for param in params.values():
                param.grad.mul_(share)
            if chain["clip_norm"] is not None:
                nn.utils.clip_grad_norm_(network.parameters(), chain["clip_norm"])
            rate = chain["rate"] * 0.5 * (1 + math.cos(math.pi * step / total))
            with torch.no_grad():
                for name, param in params.items():
                    speed[name].mul_(chain["momentum"]).add_(param.grad)
                    bend[name].sub_(speed[name], alpha=rate)
            step += 1
    return bend


def losses_at(work: Work, network: nn.Module, weights: dict) -> list[float]:
    """Returns train and test loss of weights, with batch statistics of their own."""
    network.load_state_dict(weights, strict=False)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.inference_mode():
        network(work.images["train"][: work.stats_examples])
    return [test(work, network, name, work.eval_examples) for name in work.images]


def along(work: Work, network: nn.Module, nodes: list[dict]) -> np.ndarray:
    """Returns the losses at each t of the segments through the nodes."""
    found = []
    for t in work.t:
        place = t * (len(nodes) - 1)
        index = min(int(place), len(nodes) - 2)
        a, b = nodes[index], nodes[index + 1]
        found.append(losses_at(work, network, mix(a, b, place - index)))
    return np.array(found)


def mix(a: dict, b: dict, share: float) -> dict:
    """Returns the weights at a share of the way from a to b."""
    return {name: torch.lerp(a[name], b[name], share) for name in own(a) & own(b)}


def own(weights: dict) -> set[str]:
    """The names of the parameters alone."""
    return {k for k in weights if k.endswith(("weight", "bias"))}


def plane(work: Work, network: nn.Module, ends: list[dict], bend: dict) -> np.ndarray:
    """Returns the losses on a grid of the plane through two iterates and a bend."""
    a, b = ends
    columns, rows = work.plane_grid
    names = own(bend)
    return np.array(
        [
            losses_at(
                work,
                network,
                {k: a[k] + x * (b[k] - a[k]) + y * (bend[k] - a[k]) for k in names},
            )
            for y in np.linspace(-0.25, 1.25, rows)
            for x in np.linspace(-0.25, 1.25, columns)
        ]
    )


@torch.inference_mode()
def activations(work: Work, network: nn.Module, state: dict) -> list[np.ndarray]:
    """Returns the outputs of the layers that have kernels, in order."""
    network.load_state_dict(state)
    network.eval()
    found: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda *call: found.append(call[2].clone()))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    network(work.images["train"][: work.map_examples])
    for hook in hooks:
        hook.remove()
    return [value.numpy() for value in found]


def compare(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """Returns the map of all layers against all, pair by pair."""
    return np.array([[between(x, y) for y in b] for x in a])


def between(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean CCA of two layers, of maps at each frequency that both have.

    The steps are those of google/svcca's dft_ccas.py; a dense layer is a map of one
    pixel.
    """
    x, y = (a if a.ndim == 4 else a[:, :, None, None] for a in (x, y))
    size = min(x.shape[-1], y.shape[-1])
    x, y = (spectrum(a, size) for a in (x, y))
    found = [
        mean_correlation(x[:, :, i, j], y[:, :, i, j])
        for i in range(size)
        for j in range(size)
    ]
    return float(np.mean(found))


def spectrum(a: np.ndarray, size: int) -> np.ndarray:
    """Returns the lowest frequencies of maps [n, c, h, w], complex [n, c, s, s]."""
    width = a.shape[-1]
    if width == 1:
        return a
    places = np.fft.fftfreq(width, 1 / width)
    low = np.flatnonzero((places >= -size / 2) & (places < size / 2))
    return np.fft.fft2(a)[:, :, low][:, :, :, low]


def main(file: str, out: str) -> None:
    """Does the work; writes losses along the paths, and the seconds of each part."""
    work = Work(file)
    threads = choose_threads(work)
    watch = Watch()
    nets = {arm: train(work, rates, work.epochs) for arm, rates in work.rates.items()}
    watch.lap("trainings")
    ends: dict[Joined, list[dict]] = {
        (arm, first, last): [nets[arm][first], nets[arm][last]]
        for arm, pairs in work.pairs.items()
        for first, last in pairs
    }
    bends: dict[Joined, dict] = {}
    for arm, pairs in work.joined.items():
        for first, last in pairs:
            path = arm, first, last
            bends[path] = fit_chain(work, *ends[path])
    watch.lap("chains")
    network = work.network()
    losses = {_name(p, "segment"): along(work, network, n) for p, n in ends.items()}
    for path, bend in bends.items():
        first, last = ends[path]
        losses[_name(path, "chain")] = along(work, network, [first, bend, last])
    watch.lap("paths")
    for first, last in work.planes:
        path = "sgdr", first, last
        plane(work, network, ends[path], bends[path])
    watch.lap("plane")
    for pair in work.map_pairs:
        compare(*(activations(work, network, nets["sgdr"][epoch]) for epoch in pair))
    watch.lap("maps")
    found = {
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "threads": threads,
        "version": torch.__version__,
        "losses": {name: values.tolist() for name, values in losses.items()},
    }
    Path(out).write_text(json.dumps(found))


def choose_threads(work: Work) -> int:
    """Sets and returns the number of threads with which a step is fastest."""
    network = work.network()
    images, labels = next(iter(batches(work)))

    def step():
        F.cross_entropy(network(images), labels).backward()

    threads = best_threads(step, torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads


class Watch:
    """Wall-clock seconds of parts, and CPU seconds of all of them."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, part: str) -> None:
        """Notes the seconds since the last lap."""
        now = time.perf_counter()
        self.seconds[part], self._start = now - self._start, now

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds since the start, of all threads."""
        return time.process_time() - self._cpu


def _name(path: Joined, kind: str) -> str:
    return "-".join(map(str, (*path, kind)))


if __name__ == "__main__":
    main(*sys.argv[1:])
