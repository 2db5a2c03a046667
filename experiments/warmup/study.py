"""What does warmup protect? (Figures 4, 5 and 15 and section 4)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.warmup --preset demo | digits | cifar10

Hardware and time: `digits`, 9 arms and 3 seeds, 33 minutes on 2 shared CPU cores
(measured); `cifar10`, hours on a GPU or TPU (not run). Expected with `digits` (final
test accuracy of seeds 0, 1, 2): small batch 94, 94, 95 %; large batch 12, 10, 10 %;
with warmup 10, 95, 94 %; clipped instead 96, 95, 94 %. Seed 0 stays at chance with
warmup and with FC frozen, so all verdicts are inconclusive with three seeds.

Small batches, large batches with and without warmup, and large batches with the fully
connected (FC) stack frozen for as long as the warmup takes; beside them the controls
that the paper lacks: the convolutions frozen instead, as many other parameters frozen,
a low rate, clipped gradients, and a warmup of the FC stack alone. How alike a layer's
activations are before and after the warmup says where the network changed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import maps, task
from experiments.common.study import Study
from experiments.warmup import figures
from experiments.warmup.claims import claims, difference
from experiments.warmup.config import ARMS, NEVER, PRESETS, Config
from experiments.warmup.layers import (
    in_convolutions,
    in_fc,
    kernels,
    layer_of,
    random_layers,
    relative_change,
)
from experiments.warmup.plan import plan
from experiments.warmup.protocol import PROTOCOL
from kd_heuristics import checkpoints, freezing, training
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runs import judge_all, summary


def make_optimizer(chosen: frozenset[str], config: Config) -> Callable:
    """SGD for all arms: what differs between them are the arguments of the result."""

    def labels(params):
        return leaf_names.tree_map(
            lambda path, _: "fc" if in_fc(path) else "rest", params
        )

    def make(rates, clip_norm, starts, length):
        optimizer = optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.add_decayed_weights(config.weight_decay, mask=training.kernels),
            optax.multi_transform(
                {
                    group: optax.sgd(
                        functools.partial(_look_up, table), config.momentum
                    )
                    for group, table in rates.items()
                },
                labels,
            ),
        )
        # Each is active in its own arm only: elsewhere it starts after the end.
        frozen = {
            "fc": in_fc,
            "conv": in_convolutions,
            "random": lambda path: layer_of(path) in chosen,
        }
        for name, predicate in frozen.items():
            optimizer = freezing.freeze(
                optimizer, predicate, starts[name] + length, starts[name]
            )
        return optimizer

    return make


def _look_up(table, step):
    return table[step]


class Laboratory:
    """What a run shares: the task with large and with small batches, the optimiser."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.large = task.make(config)
        self.small = self.large.with_batch_size(config.small_batch_size)
        self.seeds = range(config.first_seed, config.first_seed + config.seeds)
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        # Similarities are taken at equal iterations, as in the paper, not epochs.
        self.warmup_steps = config.warmup_epochs * self.large.steps_per_epoch
        self.starts = {seed: self.large.start(seed) for seed in self.seeds}
        params = self.starts[config.first_seed][0]
        self.chosen = random_layers(params, config.first_seed)
        self.make = make_optimizer(self.chosen, config)
        images = self.large.train.take(config.map_examples).images
        self.images = self.large.place(jnp.asarray(images))
        progress.start(self._total_steps())

    def group(self, arm: str) -> str:
        """The population that an arm belongs to."""
        return "small" if ARMS[arm].small else "large"

    def arms(self, group: str) -> list[str]:
        """The arms of a population, in order."""
        return [arm for arm in self.config.arms if self.group(arm) == group]

    def runs(self, group: str) -> list[tuple[str, int]]:
        """The members of a population, in order."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms(group)]

    def task_of(self, group: str) -> task.Task:
        """The task with the batches of a population."""
        return self.small if group == "small" else self.large

    def last_step(self, group: str) -> int:
        """Steps of a training."""
        return self.config.epochs * self.task_of(group).steps_per_epoch

    def _total_steps(self) -> int:
        """The length of the bar, a step of large batches being its unit."""
        epochs = self.config.epochs * self.large.steps_per_epoch
        return len(self.config.arms) * self.config.seeds * epochs

    def member(self, arm: str, seed: int) -> training.Member:
        """One network of a population."""
        kind, config = ARMS[arm], self.config
        rates = config.rates(arm, self.task_of(self.group(arm)).steps_per_epoch)
        params, batch_stats = self.starts[seed]
        optimizer = training.bind(
            self.make,
            {group: jnp.asarray(table) for group, table in rates.items()},
            jnp.float32(config.clip_norm if kind.clip else np.inf),
            {
                name: jnp.int32(0 if kind.freeze == name else NEVER)
                for name in ("fc", "conv", "random")
            },
            jnp.int32(self.warmup_steps),
        )
        return training.Member(
            objective=self.large.classifier.supervised,
            params=params,
            batch_stats=batch_stats,
            optimizer=optimizer,
            seed=seed,
            stage=f"{arm}-seed{seed}",
        )

    def train(self, group: str) -> dict[str, np.ndarray]:
        """Trains a population; `{"warmup/test_accuracy": [seeds, epochs], ...}`."""
        runs, its = self.runs(group), self.task_of(group)
        self.progress.stage(f"training {len(runs)} networks, {group} batches")
        unit = its.steps_per_epoch / self.large.steps_per_epoch

        def test(state):
            metric = its.classifier.metric
            values = training.evaluate_members(metric, state, its.test)
            return {f"test_{name}": value for name, value in values.items()}

        training.population(
            [self.member(arm, seed) for arm, seed in runs],
            its.batches,
            num_steps=self.last_step(group),
            micro_batches=1 if group == "small" else self.config.micro_batches,
            mesh=its.mesh,
            log_every_steps=its.steps_per_epoch,
            evaluate=test,
            metrics=self.metrics,
            directory=self.folder.training(group, type(self)),
            keep_steps={0, self.warmup_steps},
            **self.config.how,
            progress=lambda steps, loss: self.progress.advance(steps / unit, loss),
        )
        return {
            f"{arm}/{name}": np.array([self._epochs(arm, s, name) for s in self.seeds])
            for arm in self.arms(group)
            for name in ("loss", "accuracy", "test_loss", "test_accuracy")
        }

    def _epochs(self, arm, seed, name) -> np.ndarray:
        """A metric after each epoch, NaN where it was not finite."""
        every = self.task_of(self.group(arm)).steps_per_epoch
        lines = self.metrics.read(f"{arm}-seed{seed}")
        return np.array(
            [line[name] for line in lines if line["step"] % every == 0], float
        )

    def variables(self, arm: str, seed: int, step: int):
        """Parameters and statistics of one run at a step that was kept."""
        group = self.group(arm)
        state = checkpoints.restore(self.folder.checkpoints(group), step=step)
        index = self.runs(group).index((arm, seed))
        state = jax.tree.map(
            lambda leaf: leaf[index],
            {name: state.get(name, {}) for name in ("params", "batch_stats")},
        )
        params, batch_stats = self.large.place((state["params"], state["batch_stats"]))
        return training.with_stats(params, batch_stats)

    def compare(self, arm: str, seed: int) -> dict[str, np.ndarray]:
        """What changed in a run until the end of the warmup, and from there on."""
        self.progress.stage(f"seed {seed}: similarities, {arm}")
        first, middle, last = (
            self.variables(arm, seed, step)
            for step in (0, self.warmup_steps, self.last_step(self.group(arm)))
        )
        measure = self.config.measure
        values = {
            **maps.named("similarity", self.map(first, middle), measure),
            "change": relative_change(first["params"], middle["params"]),
        }
        if arm == "warmup":  # Figure 5d
            values["similarity_later"] = self.map(middle, last)[measure]
        return values

    def map(self, a, b, *, shuffle: bool = False) -> dict[str, np.ndarray]:
        """Every layer of one network against every layer of another, by measure."""
        return maps.between(
            self.large.classifier,
            a,
            b,
            self.images,
            self.config.measure,
            batch_size=self.config.eval_batch_size,
            beside=maps.BESIDE,
            shuffle=shuffle,
            mesh=self.large.mesh,
        )

    def floor(self) -> dict[str, np.ndarray]:
        """Similarities of layers that have nothing in common, at the start of a run."""
        self.progress.stage("noise floor")
        start = self.variables(self.config.arms[0], self.config.first_seed, 0)
        found = self.map(start, start, shuffle=True)
        return maps.named("similarity_floor", found, self.config.measure)

    @functools.cached_property
    def layers(self) -> list[str]:
        """Names of the layers in the maps, "00_conv" first."""
        start = training.with_stats(*self.starts[self.config.first_seed])
        return maps.layers(self.large.classifier, start, self.images)


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, compares and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    arrays: dict[str, Any] = {}
    for group in dict.fromkeys(lab.group(arm) for arm in config.arms):
        arrays |= lab.train(group)
    for arm in config.arms:
        found = [
            folder.stage(f"{arm}-seed{seed}", functools.partial(lab.compare, arm, seed))
            for seed in lab.seeds
        ]
        arrays |= {
            f"{arm}/{name}": np.stack([values[name] for values in found])
            for name in found[0]
        }
        rates = config.rates(arm, lab.task_of(lab.group(arm)).steps_per_epoch)
        every = len(rates["rest"]) // config.epochs
        arrays |= {f"{arm}/rate_{k}": table[::every] for k, table in rates.items()}
    arrays |= folder.stage("floor", lab.floor)
    arrays |= maps.all_calibrated(
        arrays, {f"{arm}/similarity": "similarity_floor" for arm in config.arms}
    )
    arrays["layers"] = np.array(lab.layers)
    arrays["kernels"] = np.array(list(kernels(lab.starts[config.first_seed][0])))
    return results(config, arrays, lab), arrays


def results(config: Config, arrays: dict, lab: Laboratory) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    fc = [i for i, name in enumerate(lab.layers) if name.endswith("_fc")]
    per_arm: dict[str, dict[str, np.ndarray]] = {}
    for arm in config.arms:
        accuracy = arrays[f"{arm}/test_accuracy"]
        diagonal = np.diagonal(arrays[f"{arm}/similarity"], axis1=1, axis2=2)
        per_arm[arm] = {
            "early accuracy": accuracy[:, config.warmup_epochs - 1],
            "final accuracy": accuracy[:, -1],
            "FC similarity": diagonal[:, fc].mean(1),
        }

    def similarities(kind: str) -> dict[str, np.ndarray]:
        of = {
            arm: np.diagonal(arrays[f"{arm}/similarity{kind}"], axis1=1, axis2=2)
            for arm in config.arms
        }
        values = {arm: diagonal[:, fc].mean(1) for arm, diagonal in of.items()}
        return {
            difference("FC similarity", a, b): values[a] - values[b]
            for a in config.arms
            for b in config.arms
            if a != b
        }

    statistics = {
        difference(name, a, b): per_arm[a][name] - per_arm[b][name]
        for a in config.arms
        for b in config.arms
        if a != b
        for name in per_arm[a]
    }
    first = kernels(lab.starts[config.first_seed][0])
    sizes = {
        name: sum(array.size for key, array in kernels_of.items())
        for name, kernels_of in {
            "fc": {k: v for k, v in first.items() if in_fc(k)},
            "random": {k: v for k, v in first.items() if k in lab.chosen},
        }.items()
    }
    return {
        "seeds": list(lab.seeds),
        "arms": {
            arm: {name: summary(values) for name, values in rows.items()}
            for arm, rows in per_arm.items()
        },
        "frozen_at_random": {"layers": sorted(lab.chosen), "parameters": sizes},
        "similarities_by_measure": maps.by_measure(similarities, config.measure),
        "claims": judge_all(claims(config), statistics),
    }


STUDY = Study(
    name="warmup",
    headline="What does warmup protect?",
    question="What does warmup protect?",
    paper="Gotmare et al. 2019",
    answers=(
        "fc-similarity/warmup/large",
        "early-accuracy/freeze_fc/warmup",
        "early-accuracy/freeze_fc/freeze_random",
    ),
    figure="figure4",
    subject="{model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
    extendable=("epochs",),
)
