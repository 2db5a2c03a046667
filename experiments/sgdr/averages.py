"""What the minima of cycles are good for, at the cost of one training: their averages.

The predictions of the networks at the ends of SGDR's cycles are averaged (snapshot
ensembles, Huang et al. 2017, arXiv 1704.00109), and so are their weights (SWA, Izmailov
et al. 2018, arXiv 1803.05407). The arm fge has short cycles at the end of a training,
whose minima predict together (FGE, Garipov et al. 2018, arXiv 1802.10026).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from experiments.common import paths
from experiments.common.study import StudyRun, stacked
from experiments.common.task import Task
from experiments.sgdr.config import Config
from experiments.sgdr.iterates import Iterates
from kd_heuristics import averaging, training

ARM = "sgdr"
KINDS = ("last", "ensemble", "average")
SHORT = "fge"


def kinds(config: Config) -> tuple[str, ...]:
    """The averages of a config, and the last minimum beside them."""
    return KINDS + ((SHORT,) if SHORT in config.more_arms else ())


def evaluate_all(run: StudyRun, its: Task, nets: Iterates) -> dict[str, np.ndarray]:
    """Metrics of the whole test set, `{"averages/ensemble/test_loss": [seeds], ...}`.

    "last" is the last minimum alone; its statistics and those of "average" are
    estimated anew, those of the ensembles' networks are their own.
    """
    found = [
        run.stage(f"averages-seed{seed}", evaluate, run, its, nets, seed)
        for seed in run.seeds
    ]
    return {f"averages/{name}": values for name, values in stacked(found).items()}


def evaluate(
    run: StudyRun, its: Task, nets: Iterates, seed: int
) -> dict[str, np.ndarray]:
    """Metrics of one run's last minimum, ensembles and average, by name."""
    run.progress.stage(f"seed {seed}: averages of the minima")
    minima = [nets.variables(ARM, seed, epoch) for epoch in run.config.minima]
    refresh = paths.refresh(run.config, its, run.config.stats_examples)

    def alone(params):
        stats = {} if refresh is None else refresh(params)
        return training.evaluate(its.classifier.metric, params, stats, its.test)

    def together(networks):
        return training.evaluate(Ensemble(its.classifier), networks, {}, its.test)

    metrics = {
        "last": alone(minima[-1]["params"]),
        "ensemble": together(minima),
        "average": alone(averaging.mean(own["params"] for own in minima)),
    }
    if short := run.config.short_minima:
        metrics[SHORT] = together([nets.variables(SHORT, seed, e) for e in short])
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
