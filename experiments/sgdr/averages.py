"""What SGDR's minima are good for, at the cost of one training: their averages.

The predictions of the networks at the ends of the cycles are averaged (snapshot
ensembles, Huang et al. 2017, arXiv 1704.00109; FGE, Garipov et al. 2018, arXiv
1802.10026), and so are their weights (SWA, Izmailov et al. 2018, arXiv 1803.05407).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from experiments.common import paths
from experiments.common.study import StudyRun, stacked
from experiments.common.task import Task
from experiments.sgdr.iterates import Iterates
from kd_heuristics import averaging, training

ARM = "sgdr"
KINDS = ("last", "ensemble", "average")


def evaluate_all(run: StudyRun, its: Task, nets: Iterates) -> dict[str, np.ndarray]:
    """Metrics of the whole test set, `{"averages/ensemble/test_loss": [seeds], ...}`.

    "last" is the last minimum alone; its statistics and those of "average" are
    estimated anew, those of the ensemble's networks are their own.
    """
    found = [
        run.stage(f"averages-seed{seed}", evaluate, run, its, nets, seed)
        for seed in run.seeds
    ]
    return {f"averages/{name}": values for name, values in stacked(found).items()}


def evaluate(
    run: StudyRun, its: Task, nets: Iterates, seed: int
) -> dict[str, np.ndarray]:
    """Metrics of one run's last minimum, ensemble and average, by name."""
    run.progress.stage(f"seed {seed}: averages of the minima")
    minima = [nets.variables(ARM, seed, epoch) for epoch in run.config.minima]
    refresh = paths.refresh(run.config, its, run.config.stats_examples)

    def alone(params):
        stats = {} if refresh is None else refresh(params)
        return training.evaluate(its.classifier.metric, params, stats, its.test)

    together = training.evaluate(Ensemble(its.classifier), minima, {}, its.test)
    metrics = {
        "last": alone(minima[-1]["params"]),
        "ensemble": together,
        "average": alone(averaging.mean(own["params"] for own in minima)),
    }
    return {
        f"{kind}/test_{name}": np.asarray(value)
        for kind, values in metrics.items()
        for name, value in values.items()
    }


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The metric of networks' mean prediction; `params` are a list of variables."""

    classifier: training.Classifier

    def __call__(self, params, batch_stats, batch):
        """Loss (nats) and accuracy per example, and the mask."""
        del batch_stats  # the networks have theirs
        inputs = self.classifier.inputs(batch["images"])
        apply = self.classifier.network.apply
        logits = jnp.stack([apply(variables, inputs) for variables in params])
        mean = averaging.ensemble(logits)
        values = training.cross_entropy_and_accuracy(mean, batch["labels"])
        return {**values, "mask": batch["mask"]}
