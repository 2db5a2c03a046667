"""One trainer for every recipe: takes an objective, returns a trained state."""

from kd_heuristics.training import sinks
from kd_heuristics.training.ema import ema, ema_params
from kd_heuristics.training.evaluate import evaluate
from kd_heuristics.training.fit import fit
from kd_heuristics.training.loop import NonFiniteError
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.objectives import (
    Classifier,
    cross_entropy_and_accuracy,
    unpacked,
    with_stats,
)
from kd_heuristics.training.optimizers import (
    adam,
    bind,
    decoupled,
    kernels,
    sgd,
    warmup_cosine,
)
from kd_heuristics.training.population import (
    Member,
    evaluate_members,
    member,
    population,
)
from kd_heuristics.training.provenance import ResumeWarning
from kd_heuristics.training.settings import Checkpoints, Logging
from kd_heuristics.training.shampoo import scale_by_shampoo, shampoo
from kd_heuristics.training.state import TrainState

__all__ = [
    "Checkpoints",
    "Classifier",
    "Logging",
    "Member",
    "MetricsFile",
    "NonFiniteError",
    "ResumeWarning",
    "TrainState",
    "adam",
    "bind",
    "cross_entropy_and_accuracy",
    "decoupled",
    "ema",
    "ema_params",
    "evaluate",
    "evaluate_members",
    "fit",
    "kernels",
    "member",
    "population",
    "scale_by_shampoo",
    "sgd",
    "shampoo",
    "sinks",
    "unpacked",
    "warmup_cosine",
    "with_stats",
]
