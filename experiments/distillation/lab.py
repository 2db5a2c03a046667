"""What the study of a teacher's knowledge shares: data, networks, maps."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import maps, task, teaching
from experiments.distillation.config import Config, soft
from kd_heuristics import distill, models, training

PyTree = Any
TEACHERS = 10_000  # added to a seed: a teacher shares neither start nor batches


def last_map(shapes: dict[str, Any], size: tuple[int, ...]) -> str:
    """The last ReLU whose map has a size.

    Raises: ValueError where there is none.
    """
    maps = teaching.relu_maps(shapes)
    found = [name for name, shape in maps.items() if shape[1:3] == size]
    if not found:
        listed = ", ".join(f"{name} {shape[1:3]}" for name, shape in maps.items())
        raise ValueError(f"no ReLU of the teacher has a map of {size}: {listed}")
    return found[-1]


def flow(shapes: dict[str, Any], channels: int) -> tuple[str, str]:
    """The first and the last ReLU whose maps have so many channels.

    Raises: ValueError where there are no two of them.
    """
    maps = teaching.relu_maps(shapes)
    found = [name for name, shape in maps.items() if shape[-1] == channels]
    if len(found) < 2:
        listed = sorted({shape[-1] for shape in maps.values()})
        raise ValueError(
            f"flow matrices need two ReLUs with {channels} channels, as the student "
            f"has, and the teacher's have {listed}; choose other widths, or leave "
            '"fsp" out of the kinds'
        )
    return found[0], found[-1]


class Laboratory:
    """What a run shares: data, both networks, and everything trained from them."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.task = task.make(config)
        teacher = models.create(
            config.teacher, self.task.train.num_classes, **config.teacher_options
        )
        self.school = self.task.with_network(teacher)
        self.seeds = range(config.first_seed, config.first_seed + config.seeds)
        # Every seed has a teacher and an independent student of its own; the nulls take
        # those of the next seed, so there are at least two.
        self.drawn = range(config.first_seed, config.first_seed + max(config.seeds, 2))
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        self.starts = {seed: self.task.start(seed) for seed in self.drawn}
        images = self.task.train.take(config.map_examples).images
        self.images = self.task.place(jnp.asarray(images))
        mine, theirs = (
            teaching.shapes(of.classifier, self.images)
            for of in (self.task, self.school)
        )
        self.layers, self.teacher_layers = list(mine), list(theirs)
        # Found before anything is trained: widths that do not fit are refused here.
        self.guided = list(teaching.relu_maps(mine))[-1]
        self.hint = last_map(theirs, mine[self.guided].shape[1:3])
        self.regressor = distill.regressor(mine[self.guided], theirs[self.hint])
        self.flow = next(iter(teaching.relu_maps(mine))), self.guided
        if "fsp" in config.kinds:
            self.teacher_flow = flow(theirs, mine[self.guided].shape[-1])
        progress.start(self._total_steps())

    def other(self, seed: int) -> int:
        """The seed whose networks are the nulls of this one."""
        return self.drawn[(self.drawn.index(seed) + 1) % len(self.drawn)]

    def _total_steps(self) -> int:
        config, seeds = self.config, len(self.seeds)
        epochs = len(self.drawn) * (config.teacher_epochs + config.epochs)
        epochs += seeds * len(config.temperatures) * config.epochs
        kinds = seeds * len(config.kinds)
        epochs += kinds * (config.first_stage_epochs + config.epochs)
        return epochs * self.task.steps_per_epoch

    def optimizer(self, peak: float, epochs: int, clip_norm: float | None):
        """SGD with its rates as a table."""
        rates = self.config.rates(peak, epochs * self.task.steps_per_epoch)
        largest = np.inf if clip_norm is None else clip_norm
        return training.bind(self._make, jnp.asarray(rates), jnp.float32(largest))

    @functools.cached_property
    def _make(self) -> Callable:
        config = self.config

        def make(rates, clip_norm):
            return training.sgd(
                lambda step: rates[step],
                config.momentum,
                config.weight_decay,
                clip_norm,
            )

        return make

    def train(self, name, members, epochs, tested: task.Task | None):
        """Trains a population, or what is left of it; its last state."""
        self.progress.stage(f"training {len(members)} networks, {name}")

        def test(state):
            assert tested is not None
            values = training.evaluate_members(
                tested.classifier.metric, state, tested.test
            )
            return {f"test_{key}": value for key, value in values.items()}

        return training.population(
            members,
            self.task.batches,
            num_steps=epochs * self.task.steps_per_epoch,
            mesh=self.task.mesh,
            logging=training.Logging(
                self.metrics,
                log_every_steps=self.task.steps_per_epoch,
                evaluate=None if tested is None else test,
                progress=self.progress.advance,
            ),
            checkpoints=training.Checkpoints(self.folder.training(name, type(self))),
            **self.config.how,
        )

    @functools.cached_property
    def teachers(self) -> dict[int, PyTree]:
        """A trained teacher a seed, as variables."""
        config = self.config
        members = []
        for seed in self.drawn:
            params, batch_stats = self.school.start(TEACHERS + seed)
            members.append(
                training.Member(
                    objective=self.school.classifier.supervised,
                    params=params,
                    batch_stats=batch_stats,
                    optimizer=self.optimizer(
                        config.teacher_rate, config.teacher_epochs, config.clip_norm
                    ),
                    seed=TEACHERS + seed,
                    stage=f"teacher-seed{seed}",
                )
            )
        state = self.train("teachers", members, config.teacher_epochs, self.school)
        return variables_of(state, self.drawn)

    def teacher(self, read: Callable, seed: int) -> distill.Teacher:
        """`read(layers)` of a seed's teacher, as a function of a batch."""
        taught = teaching.Taught(self.school.classifier, read)
        return distill.Teacher(taught, self.teachers[seed])

    def student(self, read: Callable) -> teaching.Student:
        """`read(layers)` of the student in training mode, as a stage takes it."""
        return teaching.Student(self.task.classifier, read)

    def member(self, arm: str, seed: int, objective, start=None) -> training.Member:
        """One student of the last stage."""
        params, batch_stats = self.starts[seed] if start is None else start
        return training.Member(
            objective=objective,
            params=params,
            batch_stats=batch_stats,
            optimizer=self.optimizer(
                self.config.rate, self.config.epochs, self.config.clip_norm
            ),
            seed=seed,
            stage=f"{arm}-seed{seed}",
        )

    @functools.cached_property
    def distilled(self) -> dict[tuple[str, int], PyTree]:
        """Students of soft targets alone, `{(arm, seed): variables}`."""
        runs = [(t, seed) for seed in self.seeds for t in self.config.temperatures]
        members = []
        for temperature, seed in runs:
            objective = distill.matching_stage(
                self.student(teaching.logits),
                self.teacher(teaching.logits, seed),
                jax.tree_util.Partial(_kl, jnp.float32(temperature)),
            )
            members.append(self.member(soft(temperature), seed, objective))
        state = self.train("distilled", members, self.config.epochs, self.task)
        return variables_of(state, [(soft(t), seed) for t, seed in runs])

    @functools.cached_property
    def labelled(self) -> dict[tuple[str, int], PyTree]:
        """Students whose last stage is labels alone, `{(arm, seed): variables}`."""
        starts: dict[tuple[str, int], Any] = {
            ("independent", seed): self.starts[seed] for seed in self.drawn
        }
        for kind in self.config.kinds:
            found = self._hinted() if kind == "hint" else self._flowed()
            starts |= {(kind, seed): start for seed, start in found.items()}
        members = [
            self.member(arm, seed, self.task.classifier.supervised, start)
            for (arm, seed), start in starts.items()
        ]
        state = self.train("labelled", members, self.config.epochs, self.task)
        return variables_of(state, list(starts))

    def _first_stage(self, kind, members):
        return self.train(
            f"{kind}-stage", members, self.config.first_stage_epochs, None
        )

    def _first_optimizer(self):
        config = self.config
        return self.optimizer(
            config.first_stage_rate,
            config.first_stage_epochs,
            config.first_stage_clip_norm,
        )

    def _flowed(self) -> dict[int, Any]:
        """Students after the first stage of FSP, a start a seed."""
        read, teach = (
            teaching.Pairs((names,)) for names in (self.flow, self.teacher_flow)
        )
        members = [
            training.Member(
                objective=distill.matching_stage(
                    self.student(read), self.teacher(teach, seed), distill.fsp_loss
                ),
                params=self.starts[seed][0],
                batch_stats=self.starts[seed][1],
                optimizer=self._first_optimizer(),
                seed=seed,
                stage=f"fsp-stage-seed{seed}",
            )
            for seed in self.seeds
        ]
        return teaching.members_of(self._first_stage("fsp", members), self.seeds)

    def _hinted(self) -> dict[int, Any]:
        """Students after the first stage of FitNets, a start a seed."""
        read, teach = teaching.Layer(self.guided), teaching.Layer(self.hint)
        members, rests = [], {}
        for seed in self.seeds:
            below, rests[seed] = teaching.below(
                self.task.classifier,
                training.with_stats(*self.starts[seed]),
                self.guided,
                self.images,
            )
            params = {
                "student": below["params"],
                "regressor": self.regressor.init(jax.random.key(seed)),
            }
            objective = distill.hint_stage(
                self.student(read),
                self.teacher(teach, seed),
                self.regressor,
                rests[seed],
            )
            members.append(
                training.Member(
                    objective=objective,
                    params=params,
                    batch_stats=self.starts[seed][1],
                    optimizer=self._first_optimizer(),
                    seed=seed,
                    stage=f"hint-stage-seed{seed}",
                )
            )
        found = teaching.members_of(self._first_stage("hint", members), self.seeds)
        return {
            seed: (distill.merge(params["student"], rests[seed]["params"]), batch_stats)
            for seed, (params, batch_stats) in found.items()
        }

    def maps(self, seed: int) -> dict[str, np.ndarray]:
        """Similarity of the teacher's layers to those of each student, and floors."""
        self.progress.stage(f"seed {seed}: similarities")
        own, second = self.teachers[seed], self.teachers[self.other(seed)]
        students = self.labelled | self.distilled
        distilled, independent = (
            students[arm, seed] for arm in (self.config.distilled, "independent")
        )
        pairs = {arm: (own, students[arm, seed]) for arm in self.config.arms} | {
            "other_independent": (own, students["independent", self.other(seed)]),
            "second/distilled": (second, distilled),
            "second/independent": (second, independent),
        }
        out: dict[str, np.ndarray] = {}
        for name, pair in pairs.items():
            for kind, shuffle in (("map", False), ("floor", True)):
                found = self.map(*pair, shuffle=shuffle)
                out |= maps.named(f"{kind}/{name}", found, self.config.measure)
        return out

    def map(self, teacher: PyTree, student: PyTree, *, shuffle: bool) -> dict:
        """[teacher's layers, student's layers] by measure."""
        return maps.between(
            self.school.classifier,
            teacher,
            student,
            self.images,
            self.config.measure,
            batch_size=self.config.eval_batch_size,
            beside=maps.BESIDE,
            other=self.task.classifier,
            shuffle=shuffle,
            mesh=self.task.mesh,
        )

    def curves(self, arm: str) -> dict[str, np.ndarray]:
        """Metrics after each epoch, [seeds, epochs]."""
        lines = [self.metrics.read(f"{arm}-seed{seed}") for seed in self.seeds]
        return {
            f"{arm}/{name}": np.array(
                [[row[name] for row in own] for own in lines], float
            )
            for name in ("loss", "test_loss", "test_accuracy")
        }


def _kl(temperature, student, teacher):
    return distill.kl(student, teacher, temperature)


def variables_of(state: training.TrainState, names: Any) -> dict[Any, PyTree]:
    """The variables of each member of a population's state, by name."""
    found = teaching.members_of(state, names)
    return {name: training.with_stats(*own) for name, own in found.items()}
