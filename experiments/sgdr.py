"""Do warm restarts carry SGD from one minimum to another? (Figure 2 and section 3)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.sgdr --preset demo | digits | cifar10

Hardware and time: `demo`, one seed, 3 minutes on 2 CPU cores; `digits`, 3 seeds, 24
minutes on 2 shared CPU cores (measured); `cifar10`, hours on a GPU or TPU (not run).
Expected with `digits` (mean and standard deviation over seeds 0, 1, 2): test accuracy
94.0 +- 1.6 % (SGDR), 92.7 +- 1.7 % (step decay), 93.6 +- 2.8 % (cosine). No segment of
any arm has a barrier there (-2 to -5.5 % of the worse end's loss), so the paper's claim
on SGDR is contradicted at this scale; on CIFAR-10 it has +5, +180 and +220 %.

Three schedules train the same network from the same start: SGDR, step decay, and one
cosine over the whole budget (the paper's footnote 4). Pairs of iterates of each run
are joined by the straight segment and by a fitted chain with one bend; the losses along
both say whether the run crossed a barrier. The weight distance stands beside each
barrier, and the cosine's pairs have SGDR's epochs, because a longer way meets a higher
barrier with or without a restart.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch, paths
from experiments.presets.sgdr import ARMS, PRESETS, Config, Pair, claims
from kd_heuristics import checkpoints, curves, data, models, plots, points, training
from kd_heuristics.report import judge_all, summary


class Laboratory:
    """What all seeds of a run share: data, network, objective, compiled programs."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        train = data.load(config.dataset, "train").take(config.train_examples)
        test = data.load(config.dataset, "test")
        network = models.create(config.model, train.num_classes, **config.model_options)
        mean, std = data.channel_stats(train)
        self.classifier = training.Classifier(network, mean, std)
        augmentation: dict[str, Any] = data.default_augmentation(config.dataset)
        self.batches = data.train_batches(train, config.batch_size, **augmentation)
        self.test = data.eval_batches(test, config.eval_batch_size)
        along = {"train": train, "test": test}
        along = {name: s.take(config.eval_examples) for name, s in along.items()}
        self.sets = {
            name: data.eval_batches(dataset, config.eval_batch_size)
            for name, dataset in along.items()
        }
        self.steps_per_epoch = data.steps_per_epoch(len(train), config.batch_size)
        self.example = jnp.zeros((1, *train.images.shape[1:]))
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        steps = np.arange(config.epochs * self.steps_per_epoch)
        self.rates = {
            arm: np.asarray(jax.vmap(config.schedule(arm, self.steps_per_epoch))(steps))
            for arm in ARMS
        }

        def make(rates):
            return training.sgd(
                lambda step: rates[step],
                config.momentum,
                config.weight_decay,
                config.clip_norm,
            )

        # The rates as a table: one program trains all arms.
        self.optimizers = {
            arm: training.bind(make, jnp.asarray(rates))
            for arm, rates in self.rates.items()
        }
        self.chain_optimizer = config.chain.optimizer(self.steps_per_epoch)
        self.t = paths.paper_t(config.intervals)
        self.images_per_set = sum(len(s) for s in along.values()) / len(along)
        progress.start(self._total_steps())

    def _total_steps(self) -> int:
        """The length of the bar, a training step being its unit."""
        pairs = [pair for arm in ARMS for pair in self.config.pairs(arm)]
        epochs = len(ARMS) * self.config.epochs + len(pairs) * self.config.chain.epochs
        points = 2 * len(self.sets) * len(pairs) * len(self.t)
        steps = epochs * self.steps_per_epoch + points * self._steps_per_point
        return self.config.seeds * round(steps)

    @property
    def _steps_per_point(self) -> float:
        """A point on one set: a forward pass costs about a third of a step's passes."""
        return self.images_per_set / self.config.batch_size / 3

    def train(self, arm: str, seed: int) -> dict[str, np.ndarray]:
        """Trains one arm; its test accuracy an epoch, [epochs]."""
        stage = f"{arm}-seed{seed}"
        self.progress.stage(f"seed {seed}: {arm}")

        def test(state):
            values = training.evaluate(
                self.classifier.metric, state.params, state.batch_stats, self.test
            )
            rate = float(self.rates[arm][int(state.step) - 1])
            return {"learning_rate": rate} | {f"test_{k}": v for k, v in values.items()}

        training.fit(
            self.classifier.supervised,
            *self.start(seed),
            self.optimizers[arm],
            self.batches,
            num_steps=self.config.epochs * self.steps_per_epoch,
            seed=seed,
            log_every_steps=self.steps_per_epoch,
            evaluate=test,
            stage=stage,
            metrics=self.metrics,
            directory=self.folder.checkpoints(stage),
            keep_steps={self.step_of(n) for p in self.config.pairs(arm) for n in p},
            progress=self.progress.advance,
        )
        lines = self.metrics.read(stage)
        names = ("loss", "accuracy", "test_loss", "test_accuracy")
        return {name: np.array([line[name] for line in lines], float) for name in names}

    def start(self, seed: int):
        """Initial parameters and statistics: the same for all arms of a seed."""
        variables = self.classifier.network.init(jax.random.key(seed), self.example)
        return variables["params"], variables.get("batch_stats", {})

    def step_of(self, epoch: int) -> int:
        """The step at which w_epoch is saved: after that epoch, counted from 0."""
        return (epoch + 1) * self.steps_per_epoch

    def iterate(self, arm: str, seed: int, epoch: int):
        """The parameters w_epoch of an arm."""
        like = jax.eval_shape(functools.partial(self._state, arm))
        directory = self.folder.checkpoints(f"{arm}-seed{seed}")
        return checkpoints.restore(directory, like, self.step_of(epoch)).params

    def _state(self, arm: str) -> training.TrainState:
        params, batch_stats = self.start(0)
        opt_state = self.optimizers[arm].init(params)
        return training.TrainState(jnp.int32(0), params, batch_stats, opt_state)

    def connect(self, arm: str, seed: int, pair: Pair) -> dict[str, np.ndarray]:
        """Losses and accuracies between two iterates, on the segment and the chain."""
        stage = f"{arm}-{pair[0]}-{pair[1]}-seed{seed}"
        self.progress.stage(f"seed {seed}: {arm} {pair[0]}-{pair[1]}")
        ends = tuple(self.iterate(arm, seed, epoch) for epoch in pair)
        state = training.fit(
            jax.tree_util.Partial(
                paths.chain_objective,
                ends,
                jax.tree_util.Partial(self.classifier.supervised),
            ),
            curves.midpoint(*ends),
            {},
            self.chain_optimizer,
            self.batches,
            num_steps=self.config.chain.epochs * self.steps_per_epoch,
            seed=seed,
            log_every_steps=self.steps_per_epoch,
            stage=stage,
            metrics=self.metrics,
            directory=self.folder.checkpoints(stage),
            progress=self.progress.advance,
        )
        lines = {
            "segment": curves.line(*ends),
            "chain": curves.polychain([ends[0], state.params, ends[1]]),
        }
        values: dict[str, Any] = {
            f"{path}/{name}": array
            for path, curve in lines.items()
            for name, array in paths.evaluate(
                curve, self.t, self.sets, self.classifier.metric, self._advance_points
            ).items()
        }
        return values | {"distance": np.float64(curves.distance(*ends))}

    def _advance_points(self, count: int) -> None:
        self.progress.advance(count * self._steps_per_point)


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, connects and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    found: dict[str, list] = {}

    def collect(prefix, stage, function, *arguments):
        arrays = folder.stage(stage, lambda: function(*arguments))
        for name, array in arrays.items():
            found.setdefault(f"{prefix}/{name}", []).append(array)

    for seed in seeds:
        for arm in ARMS:
            collect(arm, f"{arm}-seed{seed}", lab.train, arm, seed)
        for arm in ARMS:
            for a, b in config.pairs(arm):
                name = f"{arm}/{a}-{b}"
                stage = f"{arm}-{a}-{b}-seed{seed}"
                collect(name, stage, lab.connect, arm, seed, (a, b))
    arrays = {name: np.stack(values) for name, values in found.items()}
    arrays["t"] = lab.t
    every = max(1, lab.steps_per_epoch // 20)
    for arm, rates in lab.rates.items():
        arrays[f"{arm}/rate"] = rates[::every]
        arrays[f"{arm}/rate_epoch"] = (
            np.arange(len(rates))[::every] / lab.steps_per_epoch
        )
    return results(config, arrays, list(seeds)), arrays


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    statistics: dict[str, Any] = {}
    pairs, gains = [], []
    for arm in ARMS:
        for a, b in config.pairs(arm):
            name = f"{arm}/{a}-{b}"
            row = _pair(arrays, name)
            statistics[f"barrier {arm} {a}-{b}"] = row.pop("relative_barrier")
            gains.append(row.pop("gain"))
            pairs.append(
                {"arm": arm, "epochs": [a, b]}
                | {"relative_barrier": summary(statistics[f"barrier {arm} {a}-{b}"])}
                | {key: summary(value) for key, value in row.items()}
            )
    final = {arm: arrays[f"{arm}/test_accuracy"][:, -1] for arm in ARMS}
    statistics["least gain of a chain over its segment"] = np.min(gains, axis=0)
    statistics["final test accuracy, cosine minus SGDR"] = (
        final["cosine"] - final["sgdr"]
    )
    return {
        "seeds": seeds,
        "final_test_accuracy": {arm: summary(value) for arm, value in final.items()},
        "pairs": pairs,
        "claims": judge_all(claims(config), statistics),
    }


def _pair(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """The numbers of one pair, [seeds] each."""
    segment = arrays[f"{name}/segment/train_loss"]
    chain = arrays[f"{name}/chain/train_loss"]
    worse_end = np.maximum(segment[:, 0], segment[:, -1])
    barrier = np.array([points.crossing(values) for values in segment])
    mean = {
        key: np.trapezoid(values, arrays["t"], axis=1)
        for key, values in (("segment", segment), ("chain", chain))
    }
    bend = int(np.searchsorted(arrays["t"], 0.5))
    return {
        "relative_barrier": barrier / worse_end,
        "gain": 1 - mean["chain"] / mean["segment"],
        "barrier_nats": barrier,
        "weight_distance": arrays[f"{name}/distance"],
        "start_train_loss": segment[:, 0],
        "end_train_loss": segment[:, -1],
        "segment_mean_train_loss": mean["segment"],
        "chain_mean_train_loss": mean["chain"],
        "chain_maximum_train_loss": chain.max(axis=1),
        "bend_train_loss": chain[:, bend],
        "bend_test_loss": arrays[f"{name}/chain/test_loss"][:, bend],
        "end_test_loss": arrays[f"{name}/segment/test_loss"][:, -1],
        "least_segment_test_accuracy": arrays[f"{name}/segment/test_accuracy"].min(1),
        "least_chain_test_accuracy": arrays[f"{name}/chain/test_accuracy"].min(1),
    }


STUDY = launch.Study(
    name="sgdr",
    question="Do warm restarts carry SGD from one minimum to another?",
    presets=PRESETS,
    compute=compute,
    draw=plots.sgdr,
    claims=claims,
)

if __name__ == "__main__":
    launch.main(STUDY)
