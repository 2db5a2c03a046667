"""oneDNN's convolution on CPU, in place of XLA's own.

    KD_HEURISTICS_ONEDNN=off | inference | all

jaxlib for x86 Linux contains oneDNN, and XLA runs its convolution if a program calls
`__onednn$convolution`; no flag of XLA makes it do so. "inference", the default, does it
where nothing is differentiated: evaluation, curves, surfaces, features, teachers. "all"
does it in training too, for the output and the gradient in the input. Bits of results
differ with the setting, so it is part of a run's identity.

The call belongs to XLA's inner interface, and a bad one ends the process. It serves
float32 on one device, by default with the jaxlib wheels that our tests cover (others: a
child process tries it), and not with a compilation cache: XLA cannot serialise it.
"""

import functools
import json
import os
import platform
import subprocess
import sys
from importlib import metadata

import jax
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from kd_heuristics.runtime.errors import InputError

VARIABLE = "KD_HEURISTICS_ONEDNN"
SETTINGS = ("off", "inference", "all")
TESTED = frozenset({"0.10.2"})  # versions of jaxlib

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_conv_p = Primitive("kd_onednn_convolution")


def setting() -> str:
    """Returns "off", "inference" or "all"; InputError, if the variable is another."""
    kept = jax.config.jax_compilation_cache_dir  # pyrefly: ignore
    return "off" if kept or jax.default_backend() != "cpu" else asked()


@functools.cache
def asked() -> str:
    """Returns the variable's word or its default; "off" where jaxlib cannot do it."""
    word = os.environ.get(VARIABLE) or None
    if word not in (None, *SETTINGS):
        raise InputError(f"{VARIABLE} must be one of {SETTINGS}, got {word!r}")
    if word == "off" or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "off"
    jaxlib = metadata.distribution("jaxlib")
    if jaxlib.version in TESTED and "manylinux" in (jaxlib.read_text("WHEEL") or ""):
        return word or "inference"
    return word if word is not None and _works() else "off"


def convolve(x, kernel, *, differentiated: bool, **options) -> jax.Array:
    """Convolves on CPU; without derivatives.

    Args:
      x: float [n, h, w, c].
      kernel: float [kh, kw, c, d].
      differentiated: whether it is part of a derivative.
      **options: `window_strides`, `padding` in pixels and `precision`, tuples, as in
        `jax.lax.conv_general_dilated`.
    """
    if setting() == "off" or (differentiated and setting() != "all"):
        return _by_xla(x, kernel, **options)
    return _conv_p.bind(x, kernel, **options)


_by_xla = functools.partial(lax.conv_general_dilated, dimension_numbers=_LAYOUT)


def _abstract(x, kernel, **options):
    return jax.make_jaxpr(functools.partial(_by_xla, **options))(x, kernel).out_avals[0]


def _lower(context, x, kernel, *, window_strides, padding, precision):
    if not _serves(context, padding):
        lower = mlir.lower_fun(_by_xla, multiple_results=False)
        options = {"window_strides": window_strides, "padding": padding}
        return lower(context, x, kernel, precision=precision, **options)
    config = _configuration(context.avals_in[1].shape, window_strides, padding)
    options = {"backend_config": config, "api_version": 2}  # 2: returns a status
    return jax.ffi.ffi_lowering("__onednn$convolution", **options)(context, x, kernel)


def _serves(context, padding) -> bool:
    """Whether oneDNN takes these operands: float32, on one device, not exported."""
    x, kernel = context.avals_in
    module = context.module_context
    return (
        x.dtype == kernel.dtype == np.float32
        and getattr(module.axis_context, "num_devices", None) == 1
        and not module.lowering_parameters.for_export
        and all(isinstance(size, int) and size > 0 for size in x.shape + kernel.shape)
        and all(
            min(edges) >= 0 and max(edges) < size
            for edges, size in zip(padding, kernel.shape, strict=False)
        )
    )


def _configuration(kernel_shape, strides, padding) -> str:
    before, after = zip(*padding, strict=True)
    of_images = {"batch_dim": 0, "feature_dim": 3, "spatial_dims": (1, 2)}
    of_kernel = {"input_feature_dim": 2, "output_feature_dim": 3}
    window = {"size": kernel_shape[:2], "pad_left": before, "pad_right": after}
    config = {
        "dims": 4,
        "input": {"dims": 4, "data": of_images},
        "kernel": {"dims": 4, "filter": {**of_kernel, "spatial_dims": (0, 1)}},
        "output": {"dims": 4, "data": of_images},
        "window": {**window, "strides": strides, "window_dilations": (1, 1)},
        "feature_groups": 1,
        "fusions": {"ops": ()},
        "optimization_config": {},
    }
    return json.dumps({"onednn_conv_config": config})


def _works() -> bool:
    """Whether a child process gets XLA's values; seconds, once a process."""
    command = [sys.executable, "-c", f"from {__name__} import probe; probe()"]
    own = {**os.environ, "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(command, env=own, capture_output=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def probe() -> None:
    """Compares oneDNN's convolutions with XLA's; ends the process if they fail."""
    for size, stride, channels, edge in ((9, 1, 3, 1), (8, 2, 16, 0), (16, 1, 64, 1)):
        x = jax.random.normal(jax.random.key(0), (4, size, size, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, 8))
        pads = ((edge, edge), (edge, edge))
        how = {"window_strides": (stride, stride), "padding": pads, "precision": None}
        expected = _by_xla(x, kernel, **how)
        found = jax.jit(functools.partial(_conv_p.bind, **how))
        np.testing.assert_allclose(found(x, kernel), expected, atol=1e-3)


_conv_p.def_abstract_eval(_abstract)
mlir.register_lowering(_conv_p, _lower, platform="cpu")
