"""One trainer for every recipe: an objective in, a trained state out."""

from kd_heuristics.training.ema import ema, ema_params
from kd_heuristics.training.evaluate import evaluate
from kd_heuristics.training.fit import NonFiniteError, fit
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.objectives import (
    Classifier,
    cross_entropy_and_accuracy,
    with_stats,
)
from kd_heuristics.training.optimizers import bind, kernels, sgd
from kd_heuristics.training.population import (
    Member,
    evaluate_members,
    member,
    population,
)
from kd_heuristics.training.state import TrainState

__all__ = [
    "Classifier",
    "Member",
    "MetricsFile",
    "NonFiniteError",
    "TrainState",
    "bind",
    "cross_entropy_and_accuracy",
    "ema",
    "ema_params",
    "evaluate",
    "evaluate_members",
    "fit",
    "kernels",
    "member",
    "population",
    "sgd",
    "with_stats",
]
