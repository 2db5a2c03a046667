"""Provides one convolution for all platforms, with `flax.linen.Conv`'s parameters.

On GPU and TPU it is `jax.lax.conv_general_dilated` with its ordinary gradients. On CPU
it mixes matrix products and forward convolutions, because XLA's convolution is slow
there on small maps, in gradients inside loops and under `vmap` over kernels. The choice
is made when a program is lowered, so one traced program serves every platform and no
CPU workspace reaches an accelerator.

    `general.py`         the public function: checks, defaults, fallback
    `bilinear.py`        the operation as JAX sees it: derivatives, vmap, lowering
    `geometry.py`        static shape arithmetic
    `plain.py`           the operation for GPU and TPU
    `cpu.py`             the operation for CPU
"""

from kd_heuristics.models.conv.general import conv_general_dilated

__all__ = ["conv_general_dilated"]
