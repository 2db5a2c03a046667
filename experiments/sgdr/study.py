"""Do warm restarts carry SGD from one minimum to another? (Figures 2, 3 and 11 to 14)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.sgdr --preset demo | digits | cifar10

Hardware and time: `demo`, one seed, 3 minutes on 2 CPU cores; `digits`, 3 seeds, 26
minutes of CPU time, 39 on 2 cores busy with other work; `cifar10`, hours on a GPU or
TPU (not run). Expected with `digits` (mean and standard deviation over seeds 0, 1, 2):
test accuracy 92.9 +- 2.1 % (SGDR), 92.0 +- 3.2 % (step decay), 93.4 +- 2.3 % (cosine).
No segment of any arm has a barrier there (-1 to -5.5 % of the worse end's loss), so the
paper's claim on SGDR is contradicted at this scale; on CIFAR-10 it has +5, +180 and
+220 %. Figure 14's claims are reproduced: over a restart shallow layers stay more alike
than deep ones by 0.139 +- 0.002 (paper: 0.29); a restart changes less than a new seed.

Three schedules train the same network from the same start: SGDR, step decay, and one
cosine over the whole budget (the paper's footnote 4). Pairs of iterates of each run
are joined by the straight segment and by a fitted chain with one bend; the losses along
both say whether the run crossed a barrier. The weight distance stands beside each
barrier, and the cosine's pairs have SGDR's epochs, because a longer way meets a higher
barrier with or without a restart.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import maps, paths, task
from experiments.common.study import Study
from experiments.sgdr import figures, planes
from experiments.sgdr.claims import claims
from experiments.sgdr.config import ARMS, PRESETS, Config, Pair
from experiments.sgdr.results import results
from kd_heuristics import checkpoints, curves, training


class Laboratory:
    """What a run shares: the task, the optimisers, the populations' members."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.task = task.make(config)
        self.seeds = range(config.first_seed, config.first_seed + config.seeds)
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        steps = np.arange(config.epochs * self.task.steps_per_epoch)
        self.rates = {
            arm: np.asarray(
                jax.vmap(config.schedule(arm, self.task.steps_per_epoch))(steps)
            )
            for arm in ARMS
        }
        self.runs = [(arm, seed) for seed in self.seeds for arm in ARMS]
        self.paths = [
            (arm, seed, pair) for arm, seed in self.runs for pair in config.pairs(arm)
        ]
        self.t = paths.paper_t(config.intervals)
        self._iterates = functools.lru_cache(maxsize=4)(self._read_iterates)
        progress.start(self._total_steps())

    def _total_steps(self) -> int:
        """The length of the bar, a training step being its unit."""
        epochs = len(self.runs) * self.config.epochs
        epochs += len(self.paths) * self.config.chain.epochs
        on_paths = 2 * len(self.paths) * len(self.t)
        on_planes = len(self.config.planes) * np.prod(self.config.plane_grid)
        points = len(self.task.sets) * (on_paths + on_planes)
        return round(epochs * self.task.steps_per_epoch + points * self._point_steps)

    @property
    def _point_steps(self) -> float:
        """A point on one set: a forward pass costs about a third of a step's passes."""
        return self.task.images_per_set / self.config.batch_size / 3

    def advance_points(self, count: int) -> None:
        """Moves the bar by so many points, each on all sets."""
        self.progress.advance(count * len(self.task.sets) * self._point_steps)

    def _train(self, members, epochs: int, directory: str, **options):
        """Trains a population, or what is left of it."""
        return training.population(
            members,
            self.task.batches,
            num_steps=epochs * self.task.steps_per_epoch,
            mesh=self.task.mesh,
            logging=training.Logging(
                self.metrics,
                log_every_steps=self.task.steps_per_epoch,
                evaluate=options.get("evaluate"),
                progress=self.progress.advance,
            ),
            checkpoints=training.Checkpoints(
                self.folder.training(directory, type(self)),
                keep_steps=options.get("keep_steps", ()),
            ),
            **self.config.how,
        )

    def train(self) -> dict[str, np.ndarray]:
        """Trains all arms and seeds; `{"sgdr/test_accuracy": [seeds, epochs], ...}`."""
        self.progress.stage(f"training {len(self.runs)} networks")

        # The rates as a table: one program trains all arms.
        def make(rates):
            return training.sgd(
                lambda step: rates[step],
                self.config.momentum,
                self.config.weight_decay,
                self.config.clip_norm,
            )

        def test(state):
            metric = self.task.classifier.metric
            values = training.evaluate_members(metric, state, self.task.test)
            step = int(state.step) - 1
            rates = np.array([self.rates[arm][step] for arm, _ in self.runs])
            return {"learning_rate": rates} | {
                f"test_{name}": value for name, value in values.items()
            }

        starts = {seed: self.task.start(seed) for seed in self.seeds}
        members = [
            training.Member(
                objective=self.task.classifier.supervised,
                params=starts[seed][0],
                batch_stats=starts[seed][1],
                optimizer=training.bind(make, jnp.asarray(self.rates[arm])),
                seed=seed,
                stage=f"{arm}-seed{seed}",
            )
            for arm, seed in self.runs
        ]
        pairs = [pair for arm in ARMS for pair in self.config.pairs(arm)]
        epochs = {epoch for pair in pairs for epoch in pair}
        epochs |= {epoch for pair in self.config.map_pairs for epoch in pair}
        keep = {self.step_of(epoch) for epoch in epochs | {*self.config.plane_iterates}}
        self._train(
            members, self.config.epochs, "train", evaluate=test, keep_steps=keep
        )
        return {
            f"{arm}/{name}": np.array(
                [
                    [line[name] for line in self.metrics.read(f"{arm}-seed{seed}")]
                    for seed in self.seeds
                ],
                float,
            )
            for arm in ARMS
            for name in ("loss", "accuracy", "test_loss", "test_accuracy")
        }

    def step_of(self, epoch: int) -> int:
        """The step at which w_epoch is saved: after that epoch, counted from 0."""
        return (epoch + 1) * self.task.steps_per_epoch

    def _read_iterates(self, epoch: int):
        """The parameters w_epoch of all runs, stacked."""
        directory = self.folder.checkpoints("train")
        state = checkpoints.restore(directory, step=self.step_of(epoch))
        return self.task.place(state["params"])

    def iterate(self, arm: str, seed: int, epoch: int):
        """The parameters w_epoch of one run."""
        index = self.runs.index((arm, seed))
        return jax.tree.map(lambda leaf: leaf[index], self._iterates(epoch))

    def ends(self, arm: str, seed: int, pair: Pair):
        """The two iterates of a pair."""
        return tuple(self.iterate(arm, seed, epoch) for epoch in pair)

    def fit_chains(self):
        """Fits the chains of all pairs; their bends, stacked."""
        self.progress.stage(f"fitting {len(self.paths)} chains")
        optimizer = self.config.chain.optimizer(self.task.steps_per_epoch)
        objective = jax.tree_util.Partial(self.task.classifier.supervised)
        members = []
        for arm, seed, pair in self.paths:
            ends = self.ends(arm, seed, pair)
            members.append(
                training.Member(
                    objective=self.config.chain.objective(ends, objective),
                    params=curves.midpoint(*ends),
                    batch_stats={},
                    optimizer=optimizer,
                    seed=seed,
                    stage=path_name(arm, seed, pair),
                )
            )
        return self._train(members, self.config.chain.epochs, "chains").params

    def connect(self, arm: str, seed: int, pair: Pair, bend) -> dict[str, np.ndarray]:
        """Losses and accuracies between two iterates, on the segment and the chain."""
        self.progress.stage(f"seed {seed}: {arm} {pair[0]}-{pair[1]}")
        a, b = self.ends(arm, seed, pair)
        lines = {"segment": curves.line(a, b), "chain": curves.polychain([a, bend, b])}
        values: dict[str, Any] = {
            f"{path}/{name}": array
            for path, curve in lines.items()
            for name, array in paths.evaluate(
                curve,
                self.t,
                self.task.sets,
                self.task.classifier.metric,
                lambda count: self.progress.advance(count * self._point_steps),
            ).items()
        }
        return values | {"distance": np.float64(curves.distance(a, b))}

    def compare(self, seed: int) -> dict[str, np.ndarray]:
        """Figure 14: what a restart changes, a whole training, and another seed."""
        self.progress.stage(f"seed {seed}: similarities")
        restart, whole = self.config.map_pairs
        start = seed, restart[0]
        found = {
            "restart": self.map(start, (seed, restart[1])),
            "first-last": self.map((seed, whole[0]), (seed, whole[1])),
            # As unlike as two trainings make it: the same epoch of the next seed.
            "seeds": self.map(start, (self.next(seed), restart[0])),
            "floor": self.map(start, start, shuffle=True),
        }
        out: dict[str, np.ndarray] = {}
        for name, values in found.items():
            out |= maps.named(name, values, self.config.measure)
        return out

    def next(self, seed: int) -> int:
        """The seed after this one, the first after the last."""
        return self.seeds[(self.seeds.index(seed) + 1) % len(self.seeds)]

    def map(self, first, second, *, shuffle: bool = False) -> dict[str, np.ndarray]:
        """Similarities of SGDR's iterates (seed, epoch), by measure.

        NaN between equal ones.
        """
        a, b = ({"params": self.iterate("sgdr", *which)} for which in (first, second))
        if first == second and not shuffle:  # there is only one seed
            nothing = np.full((len(self.layers),) * 2, np.nan)
            return dict.fromkeys((self.config.measure, *maps.BESIDE), nothing)
        return maps.between(
            self.task.classifier,
            a,
            b,
            self.images,
            self.config.measure,
            batch_size=self.config.eval_batch_size,
            beside=maps.BESIDE,
            shuffle=shuffle,
            mesh=self.task.mesh,
        )

    @functools.cached_property
    def images(self) -> jax.Array:
        """The images of the maps, on the device."""
        images = self.task.train.take(self.config.map_examples).images
        return self.task.place(jnp.asarray(images))

    @functools.cached_property
    def layers(self) -> list[str]:
        """Names of the layers in the maps."""
        start = training.with_stats(*self.task.start(self.config.first_seed))
        return maps.layers(self.task.classifier, start, self.images)


def path_name(arm: str, seed: int, pair: Pair) -> str:
    """The stage of one chain.

    >>> path_name("sgdr", 0, (30, 70))
    'sgdr-30-70-seed0'
    """
    return f"{arm}-{pair[0]}-{pair[1]}-seed{seed}"


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, connects and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    arrays = lab.train()
    bends = lab.fit_chains()
    found: dict[str, list] = {}
    for index, (arm, seed, pair) in enumerate(lab.paths):
        bend = jax.tree.map(operator.itemgetter(index), bends)
        connect = functools.partial(lab.connect, arm, seed, pair, bend)
        path = folder.stage(path_name(arm, seed, pair), connect)
        for name, array in path.items():
            found.setdefault(f"{arm}/{pair[0]}-{pair[1]}/{name}", []).append(array)
    arrays |= {name: np.stack(values) for name, values in found.items()}
    for pair in config.planes:
        index = lab.paths.index((planes.ARM, config.first_seed, pair))
        bend = jax.tree.map(operator.itemgetter(index), bends)
        compute_plane = functools.partial(planes.evaluate, lab, pair, bend)
        plane = folder.stage(planes.name(pair), compute_plane)
        arrays |= {f"{planes.name(pair)}/{name}": v for name, v in plane.items()}
    compared = [
        folder.stage(f"maps-seed{seed}", functools.partial(lab.compare, seed))
        for seed in lab.seeds
    ]
    for name in compared[0]:
        arrays[f"maps/{name}"] = np.stack([values[name] for values in compared])
    arrays |= maps.all_calibrated(
        arrays, {f"maps/{name}": "maps/floor" for name in ("restart", "seeds")}
    )
    arrays["layers"] = np.array(lab.layers)
    arrays["t"] = lab.t
    every = max(1, lab.task.steps_per_epoch // 20)
    for arm, rates in lab.rates.items():
        arrays[f"{arm}/rate"] = rates[::every]
        arrays[f"{arm}/rate_epoch"] = (
            np.arange(len(rates))[::every] / lab.task.steps_per_epoch
        )
    return results(config, arrays, list(lab.seeds)), arrays


STUDY = Study(
    name="sgdr",
    headline="Do restarts escape minima?",
    question="Do warm restarts carry SGD from one minimum to another?",
    paper="Gotmare et al. 2019",
    answers=("barrier/sgdr",),
    figure="figure2",
    subject="{model} on {dataset}",
    presets=PRESETS,
    compute=compute,
    figures=figures.figures,
    claims=claims,
)
