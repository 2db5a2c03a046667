"""Are differently trained networks joined by curves of low loss? (Figures 1 and 7-10)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics", section 2.1.
Command: python -m experiments.mode_connectivity --preset demo | digits | cifar10

Hardware and time: `demo`, one seed and three curves, 2.5 minutes of CPU time; `digits`,
three seeds, 30 minutes of CPU time, 51 on 2 cores busy with other work; `cifar10` not
run yet. `digits`: worst test accuracy of a chain less its segment's, 65 to 73 points
but for mode E (one seed stays at chance); less its worse end's, -4 to -8 (paper: 0 to
-2).

Seven networks (modes), each but the first, G, trained with one change. From G to each
other one: a chain with one bend, the same with weight decay on the bend, a Bezier curve
and, as a control, the straight segment. Accuracies and losses along them, at several
epochs of the fitting, say whether modes are joined, how soon, and if a bend overfits.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import paths, task
from experiments.common.study import Study
from experiments.mode_connectivity import embedding, figures, optimizers
from experiments.mode_connectivity.claims import claims
from experiments.mode_connectivity.config import KINDS, MODES, PRESETS, Config, Group
from experiments.mode_connectivity.plan import plan
from experiments.mode_connectivity.protocol import PROTOCOL
from experiments.mode_connectivity.results import results
from kd_heuristics import checkpoints, curves, data, training

# Kinds of one form are fitted in one program; what differs is the decay on the bend.
FORMS = {"polychain": ("chain", "decayed"), "bezier": ("bezier",)}
MAKE = {"chain": curves.polychain, "decayed": curves.polychain, "bezier": curves.bezier}


class Laboratory:
    """What a run shares: the task in its variants, the populations, where they lie."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.task = task.make(config)
        self.tasks = {group: self._task_of(group) for group in config.groups}
        self.seeds = range(config.first_seed, config.first_seed + config.seeds)
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        self.t = paths.paper_t(config.intervals)
        self.batch_stats = self.task.start(config.first_seed)[1]
        self.sets = self._sets()
        progress.start(self._total_steps())

    def _task_of(self, group: Group) -> task.Task:
        if group == "large":
            return self.task.with_batch_size(self.config.large_batch_size)
        if group == "plain":
            batches = data.train_batches(self.task.train, self.config.batch_size)
            return dataclasses.replace(self.task, batches=batches)
        return self.task

    def _sets(self) -> dict[str, Any]:
        """Where metrics along the curves are taken."""
        if self.config.train_metrics == "plain":
            return self.task.sets
        key = jax.random.key(self.config.first_seed)
        augmentation: dict[str, Any] = data.default_augmentation(self.config.dataset)
        seen = data.augment_batches(self.task.sets["train"], key, **augmentation)
        return self.task.sets | {"train": seen}

    def _total_steps(self) -> int:
        """The length of the bar, a training step of the small batches its unit."""
        config = self.config
        epochs = len(config.modes) * config.epochs
        epochs += len(KINDS) * len(config.pairs) * config.curve.epochs
        paths_of_a_pair = 1 + len(KINDS) * len(config.curve_epochs)
        points = len(config.pairs) * paths_of_a_pair * len(self.t) * len(self.sets)
        steps = epochs * self.task.steps_per_epoch + points * self._point_steps
        return round(config.seeds * steps)

    @property
    def _point_steps(self) -> float:
        """A point on one set: a forward pass costs about a third of a step's passes."""
        return self.task.images_per_set / self.config.batch_size / 3

    def _population(self, members, its: task.Task, epochs: int, directory, **options):
        """Trains a population, or what is left of it."""
        unit = its.steps_per_epoch / self.task.steps_per_epoch
        training.population(
            members,
            its.batches,
            num_steps=epochs * its.steps_per_epoch,
            mesh=its.mesh,
            log_every_steps=its.steps_per_epoch,
            metrics=self.metrics,
            directory=self.folder.training(directory, type(self)),
            **self.config.how,
            progress=lambda steps, loss: self.progress.advance(steps / unit, loss),
            **options,
        )

    def _logged(self, stage: str, names) -> dict[str, np.ndarray]:
        """Metrics of a training after each epoch, {name: [seeds, epochs]}."""
        lines = [self.metrics.read(f"{stage}-seed{seed}") for seed in self.seeds]
        return {
            f"{stage}/{name}": np.array(
                [[line[name] for line in s] for s in lines], float
            )
            for name in names
        }

    def modes(self, group: Group) -> list[str]:
        """The modes that are trained together, in order."""
        return [mode for mode in self.config.modes if MODES[mode].group == group]

    def runs(self, group: Group) -> list[tuple[str, int]]:
        """The members of a population, in order."""
        return [(mode, seed) for seed in self.seeds for mode in self.modes(group)]

    def member_seed(self, mode: str, seed: int) -> int:
        """Of a mode's batches, and of its start unless the modes share it."""
        return len(MODES) * seed + list(MODES).index(mode)

    def start(self, mode: str, seed: int):
        """Parameters and statistics from which a mode's training starts."""
        own = self.member_seed("G" if self.config.same_start else mode, seed)
        params, batch_stats = self.task.start(own)
        if MODES[mode].wide_start:
            # Every kernel is drawn from a normal of mean 0, so its scale is a factor.
            params = jax.tree.map(
                lambda leaf, wide: leaf * self.config.init_factor if wide else leaf,
                params,
                training.kernels(params),
            )
        return params, batch_stats

    def train(self, group: Group) -> dict[str, np.ndarray]:
        """Trains modes; `{"G/test_accuracy": [seeds, epochs], ...}`."""
        modes, its = self.modes(group), self.tasks[group]
        self.progress.stage(f"training modes {', '.join(modes)}")
        make = optimizers.adam if group == "adam" else optimizers.sgd(self.config)

        def test(state):
            metric = its.classifier.metric
            values = training.evaluate_members(metric, state, its.test)
            return {f"test_{name}": value for name, value in values.items()}

        members = []
        for mode, seed in self.runs(group):
            params, batch_stats = self.start(mode, seed)
            optimizer = training.bind(
                make,
                jnp.asarray(self.config.rates(mode, its.steps_per_epoch)),
                jnp.float32(self.config.decay(mode)),
                jnp.float32(self.config.largest_norm(mode)),
            )
            members.append(
                training.Member(
                    objective=its.classifier.supervised,
                    params=params,
                    batch_stats=batch_stats,
                    optimizer=optimizer,
                    seed=self.member_seed(mode, seed),
                    stage=f"{mode}-seed{seed}",
                )
            )
        self._population(members, its, self.config.epochs, group, evaluate=test)
        names = ("loss", "accuracy", "test_loss", "test_accuracy")
        return {
            name: values
            for mode in modes
            for name, values in self._logged(mode, names).items()
        }

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a laboratory lives for one run
    def _trained(self, directory: str, step: int):
        """The parameters of a population at a step, stacked."""
        folder = self.folder.checkpoints(directory)
        return self.task.place(checkpoints.restore(folder, step=step)["params"])

    def network(self, mode: str, seed: int):
        """The trained parameters of a mode."""
        group = MODES[mode].group
        step = self.config.epochs * self.tasks[group].steps_per_epoch
        return _own(self._trained(group, step), self.runs(group).index((mode, seed)))

    def ends(self, pair: str, seed: int):
        """The two modes of a pair."""
        return tuple(self.network(mode, seed) for mode in pair)

    def fits(self, form: str) -> list[tuple[str, str, int]]:
        """The curves that are fitted together, in order: kind, pair and seed."""
        return [
            (kind, pair, seed)
            for kind in FORMS[form]
            for pair in self.config.pairs
            for seed in self.seeds
        ]

    def fit(self, form: str) -> dict[str, np.ndarray]:
        """Fits curves; their losses, `{"GA-chain/loss": [seeds, epochs], ...}`."""
        fits, config = self.fits(form), self.config
        self.progress.stage(f"fitting {len(fits)} curves")
        make = functools.partial(config.curve.optimizer, self.task.steps_per_epoch)
        decay = dict.fromkeys(KINDS, config.curve.bend_decay)
        decay["decayed"] = config.bend_decay
        objective = jax.tree_util.Partial(self.task.classifier.supervised)
        members = []
        for kind, pair, seed in fits:
            ends = self.ends(pair, seed)
            members.append(
                training.Member(
                    objective=config.curve.objective(ends, objective, form),
                    params=curves.midpoint(*ends),
                    batch_stats=self.batch_stats,
                    optimizer=training.bind(make, jnp.float32(decay[kind])),
                    seed=seed,
                    stage=f"{pair}-{kind}-seed{seed}",
                )
            )
        keep = {epoch * self.task.steps_per_epoch for epoch in config.curve_epochs}
        self._population(members, self.task, config.curve.epochs, form, keep_steps=keep)
        names = dict.fromkeys(f"{pair}-{kind}" for kind, pair, _ in fits)
        return {k: v for n in names for k, v in self._logged(n, ["loss"]).items()}

    def bend(self, kind: str, pair: str, seed: int, epoch: int):
        """The bend of a curve after so many epochs."""
        form = next(form for form, kinds in FORMS.items() if kind in kinds)
        bends = self._trained(form, epoch * self.task.steps_per_epoch)
        return _own(bends, self.fits(form).index((kind, pair, seed)))

    def segments(self) -> dict[str, np.ndarray]:
        """Metrics on the segments, `{"GA/test_loss": [seeds, t], ...}`."""
        self.progress.stage("evaluating the segments")
        return self._evaluate(
            lambda pair, seed: curves.line(*self.ends(pair, seed)),
        )

    def curves(self, kind: str, epoch: int) -> dict[str, np.ndarray]:
        """Metrics on the curves of a kind after so many epochs, as `segments`."""
        self.progress.stage(f"evaluating {kind} curves, epoch {epoch}")

        def curve_of(pair, seed):
            a, b = self.ends(pair, seed)
            return MAKE[kind]([a, self.bend(kind, pair, seed, epoch), b])

        return self._evaluate(curve_of)

    def _evaluate(self, curve_of) -> dict[str, np.ndarray]:
        found: dict[str, list] = {}
        for pair in self.config.pairs:
            for seed in self.seeds:
                values = paths.evaluate(
                    curve_of(pair, seed),
                    self.t,
                    self.sets,
                    self.task.classifier.metric,
                    lambda count: self.progress.advance(count * self._point_steps),
                    self._refresh,
                )
                for name, array in values.items():
                    found.setdefault(f"{pair}/{name}", []).append(array)
        return {name: np.stack(arrays) for name, arrays in found.items()}

    @functools.cached_property
    def _refresh(self):
        """Batch-norm statistics, of the whole training set; None without batch norm."""
        if not jax.tree.leaves(self.batch_stats):
            return None
        batches = data.eval_batches(self.task.train, self.config.eval_batch_size)
        return paths.statistics(
            self.task.classifier, self.batch_stats, batches, "exact"
        )

    def distances(self) -> dict[str, np.ndarray]:
        """Between all modes and last bends of the chains, [seeds, points, points]."""
        self.progress.stage("distances between the modes and the bends")
        last = self.config.curve_epochs[-1]
        found = []
        for seed in self.seeds:
            networks = [self.network(mode, seed) for mode in self.config.modes]
            networks += [
                self.bend("chain", pair, seed, last) for pair in self.config.pairs
            ]
            found.append(
                [[float(curves.distance(a, b)) for a in networks] for b in networks]
            )
        return {"distances": np.array(found)}


def _own(stacked, index: int):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, fits, evaluates and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    arrays: dict[str, Any] = {"t": lab.t}
    for group in config.groups:
        arrays |= lab.train(group)
    for form in FORMS:
        arrays |= lab.fit(form)
    for name, values in folder.stage("segments", lab.segments).items():
        pair, metric = name.split("/")
        arrays[f"{pair}/segment/{metric}"] = values
    for kind in KINDS:
        by_epoch = [
            folder.stage(f"{kind}-{epoch}", functools.partial(lab.curves, kind, epoch))
            for epoch in config.curve_epochs
        ]
        for name in by_epoch[0]:
            pair, metric = name.split("/")
            values = [found[name] for found in by_epoch]
            arrays[f"{pair}/{kind}/{metric}"] = np.stack(values, axis=1)
    arrays |= folder.stage("distances", lab.distances)
    arrays["map"] = np.stack(
        [embedding.map_2d(d, config.perplexity) for d in arrays["distances"]]
    )
    return results(config, arrays, list(lab.seeds)), arrays


STUDY = Study(
    name="mode_connectivity",
    headline="Are differently trained networks joined?",
    question="Are differently trained networks joined by curves of low loss?",
    paper="Gotmare et al. 2019",
    answers=("worst-minus-end",),
    figure="figure1",
    subject="{model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
)
