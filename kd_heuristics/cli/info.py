"""`kd-heuristics info`: lists installed versions, devices, sets and models."""

from importlib import metadata

import jax

from kd_heuristics import data, models
from kd_heuristics.data import tfds
from kd_heuristics.runtime import compiled, onednn

_PACKAGES = (
    "kd_heuristics",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "tensorflow-datasets",
)


def info() -> None:
    """List devices, versions, prepared sets and models, for a bug report.

    For example:

        kd-heuristics info
    """
    for device in jax.devices():
        print(f"device    {device.platform}:{device.id} {device.device_kind}")
    for name in _PACKAGES:
        print(f"version   {name} {metadata.version(name)}")
    if jax.default_backend() == "cpu" and compiled.knows_the_option():
        print(f"faster    own jax.jit of convolutions: XLA_FLAGS={compiled.FLAG}")
    words = ", ".join(onednn.SETTINGS)
    print(f"oneDNN    {onednn.setting()}; {onednn.VARIABLE} is one of {words}")
    print(f"sets in   {tfds.data_dir()}")
    for name in data.names():
        print(f"set       {name}: {_state(name)}")
    print(f"models    {' '.join(models.names())}")


def _state(name: str) -> str:
    """Returns whether a set is prepared, and where or how."""
    try:
        found = data.find(name)
    except data.MissingDatasetError as error:
        return f"not prepared; {str(error).splitlines()[-1].strip()}"
    return "comes with the package" if found is None else f"prepared, {found}"
