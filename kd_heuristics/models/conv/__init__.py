"""One convolution for every platform, with the parameters of `flax.linen.Conv`.

On GPU and TPU it is `jax.lax.conv_general_dilated` with its ordinary gradients. On
CPU, where XLA's convolution is slow on small maps, in gradients inside loops and
under `vmap` over kernels, it is a mixture of matrix products and forward
convolutions. The choice falls when a program is lowered, so that one traced program
serves every platform and no CPU work space reaches an accelerator.

    `general.py`         the public function: checks, defaults, fallback
    `bilinear.py`        the operation as JAX sees it: derivatives, vmap, lowering
    `geometry.py`        static shape arithmetic
    `plain.py`           the operation for GPU and TPU
    `cpu.py`             the operation for CPU
"""

from kd_heuristics.models.conv.general import conv_general_dilated

__all__ = ["conv_general_dilated"]
