"""The rows of the FSP study's tables: what each starts from, and how it is trained."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import task, teaching
from experiments.fsp import tasks
from experiments.fsp.config import Config, Phase
from experiments.fsp.nets import (
    Net,
    Shuffled,
    distance,
    first_row,
    guides,
    is_map,
    number,
    probabilities,
    stage_name,
    vote,
)
from experiments.fsp.rows import FAST, HINTS, NEVER
from kd_heuristics import data, distill, training
from kd_heuristics.runtime import parallel

Starts = dict[Net, tuple]  # of each net: params, batch_stats


class Laboratory:
    """What a run shares: data, networks, and each row of the tables."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.tasks = tasks.make(config)
        self.batches = {
            part: data.train_batches(
                of.train, config.batch_size, padding=config.padding
            )
            for (part, size), of in self.tasks.items()
            if size == "large"
        }
        self.seeds = range(config.first_seed, config.first_seed + config.seeds)
        self.all_nets = [
            (seed, net) for seed in self.seeds for net in range(config.nets)
        ]
        self.first_nets = [(seed, 0) for seed in self.seeds]
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        self.shapes = {
            size: teaching.shapes(of.classifier, of.train.images)
            for (part, size), of in self.tasks.items()
            if part == "all"
        }
        progress.start(config.seeds * self._steps_of_a_seed())

    def _steps_of_a_seed(self) -> int:
        """Of all rows; a first stage that rows share is trained once."""
        config, steps = self.config, 0
        for arm in config.arms:
            phase = config.first_phase(arm)
            again = phase is not None and first_row(config.rows, arm) != arm
            steps += config.iterations(arm) - (phase.steps if again and phase else 0)
        return steps

    def nets(self, arm: str) -> list[Net]:
        """The nets of a row."""
        return self.all_nets if arm in FAST else self.first_nets

    def task_of(self, arm: str) -> task.Task:
        """The task of a row."""
        return self.tasks[self.config.rows[arm].part, self.config.rows[arm].size]

    def starts(self, arm: str, nets: list[Net]) -> Starts:
        """Fresh nets."""
        return {net: self.task_of(arm).start(number(net)) for net in nets}

    def optimizer(self, phase: Phase, clipped: bool):
        """SGD whose rate drops; one program for all phases."""
        drops = np.full(4, NEVER, np.int32)
        drops[: len(phase.drops)] = phase.drops
        return training.bind(
            self._make,
            jnp.float32(phase.rate),
            jnp.asarray(drops),
            jnp.float32(
                self.config.clip_norm if clipped and self.config.clip_norm else np.inf
            ),
        )

    @functools.cached_property
    def _make(self) -> Callable:
        config = self.config

        def make(rate, drops, clip_norm):
            return training.sgd(
                lambda step: rate * config.drop_factor ** (step >= drops).sum(),
                config.momentum,
                config.weight_decay,
                clip_norm,
            )

        return make

    def train(
        self,
        name: str,
        phase: Phase,
        batches: Callable,
        objectives: Mapping[Net, Callable],
        starts: Starts,
        tested: task.Task | None = None,
    ) -> Starts:
        """Trains a population, or what is left of it; where its nets end."""
        self.progress.stage(f"training {len(starts)} networks, {name}")
        members = [
            training.Member(
                objective=objectives[net],
                params=params,
                batch_stats=batch_stats,
                optimizer=self.optimizer(phase, clipped=tested is None),
                seed=number(net),
                stage=stage_name(name, net),
            )
            for net, (params, batch_stats) in starts.items()
        ]

        def test(state):
            assert tested is not None
            values = training.evaluate_members(
                tested.classifier.metric, state, tested.test
            )
            return {f"test_{key}": value for key, value in values.items()}

        state = training.population(
            members,
            batches,
            num_steps=phase.steps,
            mesh=self.tasks["all", "large"].mesh,
            logging=training.Logging(
                self.metrics,
                log_every_steps=self.config.log_every_steps,
                evaluate=None if tested is None else test,
                progress=self.progress.advance,
            ),
            checkpoints=training.Checkpoints(self.folder.training(name, type(self))),
            **self.config.how,
        )
        return teaching.members_of(state, list(starts))

    def row(self, arm: str) -> Starts:
        """The trained nets of a row."""
        if arm not in self._rows:
            self._rows[arm] = self._last_stage(arm, self._before(arm))
        return self._rows[arm]

    @functools.cached_property
    def _rows(self) -> dict[str, Starts]:
        return {}

    def _before(self, arm: str) -> Starts:
        """What a row's last stage starts from."""
        start, nets = self.config.rows[arm].start, self.nets(arm)
        if start == "fresh":
            return self.starts(arm, nets)
        if start == "shuffled":
            return self.flowed(arm)
        if start in (*HINTS, "flow"):
            # One first stage for all nets of a seed, as in the paper.
            first = first_row(self.config.rows, arm)
            shared = self.hinted(first) if start in HINTS else self.flowed(first)
            return {net: shared[net[0], 0] for net in nets}
        if start == "weights":
            weights = self.weights
            return {net: self._adapted(arm, net, *weights) for net in nets}
        before = {net: self.row(start)[net] for net in nets}
        if self.config.rows[arm].part == self.config.rows[start].part:
            return before
        return {net: self._adapted(arm, net, *own) for net, own in before.items()}

    @functools.cached_property
    def weights(self) -> tuple:
        """Parameters and statistics of the teacher's form, from a file."""
        assert self.config.source_weights is not None
        found = distill.transfer.load_npz(self.config.source_weights)
        variables = distill.imagenet.from_torchvision(found)
        variables = jax.tree.map(jnp.asarray, variables)
        return variables["params"], variables["batch_stats"]

    def _adapted(self, arm: str, net: Net, params, batch_stats) -> tuple:
        """A net of other classes, with a fresh last layer."""
        fresh = self.starts(arm, [net])[net][0]
        adapted, _ = distill.transfer.adapt(
            fresh, params, lambda path: path.startswith("fc/")
        )
        return adapted, batch_stats

    def _last_stage(self, arm: str, starts: Starts) -> Starts:
        """Labels alone, or the second stage of FitNets: labels and soft targets."""
        row, of, phase = (
            self.config.rows[arm],
            self.task_of(arm),
            self.config.last_phase(arm),
        )
        batches = self.batches[row.part]
        if not row.soft:
            objectives = dict.fromkeys(starts, of.classifier.supervised)
            return self.train(arm, phase, batches, objectives, starts, of)
        weight = distill.annealed_weight(phase.steps)
        student = teaching.Student(of.classifier, teaching.logits)
        objectives = {
            net: distill.fitnet_stage(
                student,
                self.teacher(arm, teaching.logits, net),
                weight,
                self.config.temperature,
            )
            for net in starts
        }
        batches = distill.numbered(batches)
        return self.train(arm, phase, batches, objectives, starts, of)

    def teacher(self, arm: str, read: Callable, net: Net) -> distill.Teacher:
        """`read(layers)` of what teaches a net: the first net of its teacher's row."""
        name = self.config.rows[arm].teacher
        taught = teaching.Taught(self.task_of(name).classifier, read)
        variables = training.with_stats(*self.row(name)[net[0], 0])
        return distill.Teacher(taught, variables)

    @functools.cache  # noqa: B019 - a run has one laboratory
    def flowed(self, arm: str) -> Starts:
        """Nets after the first stage of FSP: one a seed; all of them where shuffled."""
        row, of = self.config.rows[arm], self.task_of(arm)
        mine, theirs = distill.matching_sections(
            self.shapes[row.size], self.shapes["large"], is_map
        )
        student = teaching.Student(of.classifier, teaching.Matrices(tuple(mine)))
        taught = Shuffled(
            self.task_of(row.teacher).classifier, teaching.Matrices(tuple(theirs))
        )
        loss = jax.tree_util.Partial(distance, jnp.float32(self.config.pair_weight))
        nets = self.all_nets if arm == "shuffled" else self.first_nets
        objectives = {}
        for net in nets:
            teacher = self.teacher(arm, teaching.logits, net).variables
            orders = self.orders(theirs, net if arm == "shuffled" else None)
            objectives[net] = distill.matching_stage(
                student, distill.Teacher(taught, (teacher, orders)), loss
            )
        phase, batches = self.config.first_phase(arm), self.batches[row.part]
        assert phase is not None
        starts = self.starts(arm, nets)
        return self.train(f"{arm}-stage", phase, batches, objectives, starts)

    def orders(self, pairs, net: Net | None) -> tuple:
        """The teacher's channels in a net's own order, or as they are."""
        shapes = self.shapes["large"]
        sizes = [tuple(shapes[name].shape[-1] for name in pair) for pair in pairs]
        if net is None:
            return tuple((jnp.arange(m), jnp.arange(n)) for m, n in sizes)
        matrices = [jax.ShapeDtypeStruct((1, *size), jnp.float32) for size in sizes]
        return distill.channel_orders(jax.random.key(number(net)), matrices)

    @functools.cache  # noqa: B019
    def hinted(self, arm: str) -> Starts:
        """Nets after the first stage of FitNets, one a seed."""
        row, of = self.config.rows[arm], self.task_of(arm)
        mine, theirs = self.shapes[row.size], self.shapes["large"]
        guided, hints = (guides(shapes, HINTS[row.start]) for shapes in (mine, theirs))
        regressors = tuple(
            distill.regressor(mine[here], theirs[there])
            for here, there in zip(guided, hints, strict=True)
        )
        student = teaching.Student(of.classifier, teaching.Layers(guided))
        objectives, starts, rests = {}, {}, {}
        for net, (params, batch_stats) in self.starts(arm, self.first_nets).items():
            below, rests[net] = teaching.below(
                of.classifier,
                training.with_stats(params, batch_stats),
                guided[-1],
                of.train.images,
            )
            keys = jax.random.split(jax.random.key(number(net)), len(regressors))
            own = {
                "student": below["params"],
                "regressor": tuple(
                    regressor.init(key)
                    for regressor, key in zip(regressors, keys, strict=True)
                ),
            }
            starts[net] = own, batch_stats
            objectives[net] = distill.hint_stage(
                student,
                self.teacher(arm, teaching.Layers(hints), net),
                regressors,
                rests[net],
            )
        phase, batches = self.config.hint_phase, self.batches[row.part]
        found = self.train(f"{arm}-stage", phase, batches, objectives, starts)
        return {
            net: (distill.merge(params["student"], rests[net]["params"]), batch_stats)
            for net, (params, batch_stats) in found.items()
        }

    def ensemble(self, arm: str) -> dict[str, np.ndarray]:
        """Test accuracy of each seed's nets voting together, [seeds]."""
        of, found = self.task_of(arm), []
        labels, mask = parallel.to_host((of.test["labels"], of.test["mask"]))
        for seed in self.seeds:
            nets = [own for net, own in self.row(arm).items() if net[0] == seed]
            votes = [probabilities(of.classifier, *own, of.test) for own in nets]
            found.append(vote(np.stack(parallel.to_host(votes)), labels, mask))
        return {f"{arm}/ensemble": np.array(found)}

    def curves(self, arm: str) -> dict[str, np.ndarray]:
        """Steps and metrics of a row's last stage, [seeds, nets, points]."""
        nets = [[net for net in self.nets(arm) if net[0] == s] for s in self.seeds]
        lines = [
            [self.metrics.read(stage_name(arm, net)) for net in own] for own in nets
        ]
        steps = np.array([line["step"] for line in lines[0][0]])
        return {f"{arm}/step": steps} | {
            f"{arm}/{name}": np.array(
                [[[line[name] for line in net] for net in own] for own in lines], float
            )
            for name in ("loss", "test_loss", "test_accuracy")
        }
