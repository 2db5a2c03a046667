"""Time of a convolution's three operations in a training step, by shape.

    python -m experiments.benchmarks.conv_ops [--batch 128] [--repeats 9]

Needs the extra `[bench]` (PyTorch). Takes about two minutes on 2 cores; RESULTS.md in
this folder has the last table. Ours are the forward pass, the gradient in the input and
that in the kernel, compiled separately with the options of `training.fit`. PyTorch
computes both gradients in one backward pass (channels last), so compare the totals. All
take turns; milliseconds are medians.
"""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.train_step import describe, take_turns
from kd_heuristics.models import conv
from kd_heuristics.runtime.compiled import jit

# (pixels a side, channels in, channels out, stride) in the VGGs, at full and quarter
# width, and in the ResNets.
SHAPES = (
    (32, 3, 64, 1),
    (32, 3, 16, 1),
    (32, 16, 16, 1),
    (32, 16, 32, 2),
    (16, 32, 32, 1),
    (8, 64, 64, 1),
    (4, 128, 128, 1),
    (2, 128, 128, 1),
    (32, 64, 64, 1),
    (16, 128, 128, 1),
    (8, 256, 256, 1),
    (4, 512, 512, 1),
    (2, 512, 512, 1),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and repeats."""

    batch: int = 128
    repeats: int = 9


HEADER = (
    "| map, channels, stride | forward, ms | in the input | in the kernel | sum "
    "| PyTorch: forward, all | ratio of sums | GF/s: ours, PyTorch |",
    "|---|---|---|---|---|---|---|---|",
)


def convolve(x, kernel, stride):
    """Convolves 3x3, padded by one pixel, as all the networks do."""
    return conv.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def contenders(config: Config, torch, side, channels, features, stride):
    """Returns the contenders by name, and the multiply-adds of a forward pass."""
    random = np.random.default_rng(0)
    x = random.normal(size=(config.batch, side, side, channels)).astype(np.float32)
    kernel = random.normal(size=(3, 3, channels, features)).astype(np.float32)
    a, k = jnp.asarray(x), jnp.asarray(kernel)
    forward = jit(lambda x, k: convolve(x, k, stride))
    dy = forward(a, k)
    in_x = jit(lambda x, k, dy: jax.vjp(lambda x: convolve(x, k, stride), x)[1](dy))
    in_k = jit(lambda x, k, dy: jax.vjp(lambda k: convolve(x, k, stride), k)[1](dy))

    like = torch.channels_last
    theirs = torch.from_numpy(x).permute(0, 3, 1, 2).to(memory_format=like)
    theirs.requires_grad_()
    layer = torch.nn.Conv2d(channels, features, 3, stride, 1, bias=False)
    layer = layer.to(memory_format=like)
    end = torch.randn_like(layer(theirs))

    def backward():
        torch.autograd.grad(layer(theirs), (theirs, layer.weight), end)

    return {
        "forward": lambda: jax.block_until_ready(forward(a, k)),
        "in the input": lambda: jax.block_until_ready(in_x(a, k, dy)),
        "in the kernel": lambda: jax.block_until_ready(in_k(a, k, dy)),
        "PyTorch forward": lambda: layer(theirs),
        "PyTorch both": backward,
    }, dy.size * 9 * channels


def main(config: Config) -> None:
    """Measures and prints a Markdown table."""
    try:
        import torch
    except ImportError as error:
        raise SystemExit(
            "this benchmark needs PyTorch: pip install 'kd_heuristics[bench]'"
        ) from error
    print(describe("conv_ops", torch))
    print("\n".join(HEADER))
    for shape in SHAPES:
        run, products = contenders(config, torch, *shape)
        seconds = take_turns(run, config.repeats)
        middle = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
        *ours, forward, both = middle.values()
        side, channels, features, stride = shape
        speed = [3 * 2 * products / 1e6 / total for total in (sum(ours), both)]
        cells = [
            f"{side}×{side}, {channels} to {features}, {stride}",
            *(f"{value:.1f}" for value in ours),
            f"{sum(ours):.1f}",
            f"{forward:.1f}, {both:.1f}",
            f"{both / sum(ours):.2f}",
            f"{speed[0]:.0f}, {speed[1]:.0f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
