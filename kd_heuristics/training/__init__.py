"""One trainer for every recipe: an objective in, a trained state out."""

from kd_heuristics.training.evaluate import evaluate
from kd_heuristics.training.fit import NonFiniteError, fit
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.objectives import (
    Classifier,
    cross_entropy_and_accuracy,
    with_stats,
)
from kd_heuristics.training.optimizers import bind, kernels, sgd
from kd_heuristics.training.state import TrainState

__all__ = [
    "Classifier",
    "MetricsFile",
    "NonFiniteError",
    "TrainState",
    "bind",
    "cross_entropy_and_accuracy",
    "evaluate",
    "fit",
    "kernels",
    "sgd",
    "with_stats",
]
