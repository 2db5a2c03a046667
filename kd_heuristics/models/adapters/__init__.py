"""Models of other libraries, and plain functions, as a `Network`.

The trainer, curves, similarity and checkpoints know a `Network` only, whose variables
are nested dictionaries of arrays; what a library keeps beside its arrays (the structure
of the module, its mode) is found once, without allocating anything, and put back where
the module is called.

    `functions.py`    plain functions
    `flax_nnx.py`     Flax NNX modules
    `equinox.py`      Equinox modules, with their `eqx.nn.State`
    `naming.py`       any pytree as nested dictionaries, and back
"""

from kd_heuristics.models.adapters.equinox import from_equinox
from kd_heuristics.models.adapters.flax_nnx import from_nnx
from kd_heuristics.models.adapters.functions import from_functions

__all__ = ["from_equinox", "from_functions", "from_nnx"]
