"""Adapts models of other libraries, and plain functions, to a `Network`.

The trainer, curves, similarity and checkpoints only use a `Network`, whose variables
are nested dictionaries of arrays. The adapters find a module's structure and mode once,
without allocating anything, and restore them when the module is called.

    `functions.py`    plain functions
    `flax_nnx.py`     Flax NNX modules
    `equinox.py`      Equinox modules, with their `eqx.nn.State`
    `naming.py`       any pytree as nested dictionaries, and back
"""

from kd_heuristics.models.adapters.equinox import from_equinox
from kd_heuristics.models.adapters.flax_nnx import from_nnx
from kd_heuristics.models.adapters.functions import from_functions

__all__ = ["from_equinox", "from_functions", "from_nnx"]
