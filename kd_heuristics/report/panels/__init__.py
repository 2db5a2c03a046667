"""What of a study can be looked into, by the name of its figure.

Each function takes a run's config, results and arrays, and what each figure shows in
words; it returns `{"figure2": [panel, ...]}`. A study without an entry is shown by its
still images.
"""

from collections.abc import Callable
from typing import Any

from kd_heuristics.report.panels.distillation import distillation
from kd_heuristics.report.panels.fsp import fsp
from kd_heuristics.report.panels.funmatch import funmatch
from kd_heuristics.report.panels.mode_connectivity import mode_connectivity
from kd_heuristics.report.panels.sgdr import sgdr
from kd_heuristics.report.panels.warmup import warmup

PANELS: dict[str, Callable[..., dict[str, Any]]] = {
    "sgdr": sgdr,
    "mode_connectivity": mode_connectivity,
    "warmup": warmup,
    "distillation": distillation,
    "fsp": fsp,
    "funmatch": funmatch,
}

__all__ = ["PANELS"]
