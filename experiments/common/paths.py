"""Paths between two networks: the straight segment and a fitted chain."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from experiments.common import fields
from kd_heuristics import curves, data, points, schedules, training
from kd_heuristics.runtime import nearest, parallel
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """Settings for fitting a chain with one bend."""

    epochs: fields.Count
    """Epochs of fitting, at the study's batch size."""
    rate: fields.Positive
    """Learning rate at the start."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the rate falls: in steps at `drops_epochs`, or along one cosine to 0."""
    drops_epochs: fields.Drops = (0.75,)
    """Epochs where the rate drops. Floats are shares of `epochs`."""
    drop_factor: fields.Share = 0.1
    """Factor of the rate at each drop, in (0, 1]."""
    momentum: fields.Fraction = 0.0
    """Momentum of SGD."""
    clip_norm: fields.Positive | None = None
    """Largest global norm of the gradient. `None` disables clipping."""
    bend_decay: fields.NotNegative = 0.0
    """L2 coefficient on the bend's kernels."""
    path_decay: fields.NotNegative = 0.0
    """L2 coefficient on the kernels at phi(t), in the loss."""
    num_t: fields.Count = 1
    """Points of the chain sampled in each step."""
    stratified: bool = False
    """Sample one point in each of `num_t` equal parts of [0, 1], else uniformly."""

    def __post_init__(self):
        fields.check(self)

    def derived(self) -> dict[str, Any]:
        """Returns the drops in epochs."""
        return {"drops_epochs": self._drops}

    @property
    def _drops(self) -> tuple[int, ...]:
        return fields.drops("drops_epochs", self.drops_epochs, self.epochs)

    def optimizer(self, steps_per_epoch: int, bend_decay: Any = None):
        """Makes SGD with this chain's schedule; make it once for all of a study's.

        Args:
          steps_per_epoch: number of the study's batches in an epoch.
          bend_decay: replaces the chain's own, as an array, so that members of a
            population may differ in it (`training.bind`).
        """
        if self.schedule == "cosine":
            rate = schedules.cosine_decay(self.rate, self.epochs * steps_per_epoch)
        else:
            boundaries = [epoch * steps_per_epoch for epoch in self._drops]
            rate = schedules.step_decay(self.rate, boundaries, self.drop_factor)
        decay = self.bend_decay if bend_decay is None else bend_decay
        return training.sgd(rate, self.momentum, decay, self.clip_norm)

    def objective(
        self, ends: tuple, objective: Callable, kind: str = "polychain"
    ) -> jax.tree_util.Partial:
        """Makes the loss of a bend: E over t ~ U(0, 1) of the network's loss at phi(t).

        Args:
          ends: trees at t = 0 and 1. They are arguments of the program, so all chains
            share one.
          objective: `(params, batch_stats, batch, key) -> (scalar, (batch_stats,
            metrics))`, for one network.
          kind: "polychain", or "bezier" for the curve through the ends with the same
            one bend.
        """
        at_once = parallel.strategies()["points"] == "vmap"
        return jax.tree_util.Partial(
            _BendLoss(self._loss(at_once, kind)), ends, as_partial(objective)
        )

    def _loss(self, at_once: bool, kind: str = "polychain") -> curves.CurveLoss:
        """Makes the curve's loss, with its points all at once or in turn."""
        return curves.CurveLoss(
            kind=kind,
            num_t=self.num_t,
            stratified=self.stratified,
            weight_decay=self.path_decay,
            decays=_is_kernel,
            at_once=at_once,
        )


@dataclasses.dataclass(frozen=True)
class _BendLoss:
    """Loss of a curve as a function of its one bend; equal ones compile once."""

    loss: curves.CurveLoss

    def __call__(self, ends, objective, bend, batch_stats, batch, key):
        return self.loss(ends, objective, (bend,), batch_stats, batch, key)


def _is_kernel(name: str) -> bool:
    return name.rsplit("/", 1)[-1] == "kernel"


def statistics(
    classifier: training.Classifier, batch_stats: PyTree, batches: PyTree, method: str
) -> Callable[[PyTree], PyTree] | None:
    """Makes the re-estimation of batch-norm statistics along a path, for `evaluate`.

    Args:
      classifier: classifier of the networks. Its dropout draws the same mask in every
        batch of a training-mode pass, so batch norm after dropout needs "exact".
      batch_stats: statistics of any network on the path; `{}` without batch norm.
      batches: the training set, see `data.eval_batches`.
      method: "exact", "pooled" or "cumulative", see `points`.

    Returns: `params -> batch_stats`; None without batch norm.
    """
    nearest.choose(method, ("exact", "pooled", "cumulative"), "method")
    if not jax.tree.leaves(batch_stats):
        return None
    if method == "exact":
        moments = points.input_moments(_Mode(classifier, train=False))
        return points.refit_exact(moments, batch_stats, batches)
    pooled = method == "pooled"
    refit = points.refit_pooled if pooled else points.refit_cumulative
    return refit(_Mode(classifier, train=True), batch_stats, batches)


def refresh(
    config: Any, its: Any, examples: int | None = None
) -> Callable[[PyTree], PyTree] | None:
    """Makes `statistics` for a study's networks; None without batch norm.

    Args:
      config: of the study.
      its: task of the networks.
      examples: takes the statistics of one batch of the first training images; `None`
        takes those of all images, exactly.
    """
    batch_stats = its.start(config.first_seed)[1]
    size = config.eval_batch_size if examples is None else examples
    batches = data.eval_batches(its.train.take(examples), size)
    method = "exact" if examples is None else "pooled"
    return statistics(its.classifier, batch_stats, batches, method)


@dataclasses.dataclass(frozen=True)
class _Mode:
    """A classifier's pass over a batch; in training mode it returns new statistics."""

    classifier: training.Classifier
    train: bool

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.classifier.inputs(batch["images"])
        network = self.classifier.network
        if self.train:
            return network.train(variables, inputs, jax.random.key(0))[1]
        return network.apply(variables, inputs)


def paper_t(num_intervals: int) -> np.ndarray:
    """Returns t = k / num_intervals with the ends, and the bend's t = 1/2, ascending.

    The paper has 29 intervals and shows k = 1..28.

    >>> paper_t(3).round(3).tolist()
    [0.0, 0.333, 0.5, 0.667, 1.0]
    """
    grid = np.arange(num_intervals + 1) / num_intervals
    return np.union1d(grid, [0.5])


def evaluate(
    curve: Any,
    t: np.ndarray,
    sets: Mapping[str, PyTree],
    metric: Callable,
    progress: Callable[[int], None] | None = None,
    refresh_stats: Callable | None = None,
) -> dict[str, np.ndarray]:
    """Evaluates metrics on sets along a curve: `{"train_loss": [points], ...}`."""
    return points.evaluate_sets(
        curve.at, t, sets, metric, refresh_stats, progress=progress
    )
