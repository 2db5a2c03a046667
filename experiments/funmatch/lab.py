"""What a run of the FunMatch study shares: sets, networks, teachers; its students."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.funmatch import lessons, sets
from experiments.funmatch.arms import ARMS, Arm, Setting
from experiments.funmatch.config import Config, name
from experiments.funmatch.held import HeldOut
from kd_heuristics import data, distill, models, runs, training
from kd_heuristics.models import bit_weights
from kd_heuristics.runtime import files, parallel

PyTree = Any
TEACHERS = 10_000  # added to a seed: no teacher has a student's start or batches


class Laboratory:
    """What a run shares: sets, networks, teachers."""

    def __init__(self, config: Config, folder: runs.RunFolder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        # Made once each: equal objects share compiled programs.
        self.classifier = functools.cache(self._classifier)
        self.make = functools.cache(self._make_optimizer)
        self.mesh = None if config.devices == 1 else parallel.mesh(config.devices)
        self.sets = sets.Sets(config, self.mesh)
        self.held_out = HeldOut(config, self.sets, self.mesh, lambda: self.looking)
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        self.steps_per_epoch = data.steps_per_epoch(
            self.sets.num_examples, config.batch_size
        )
        for arm in config.arms:
            for setting, _ in config.plan(arm):
                # Raises before anything is trained.
                training.warmup_cosine(self.steps(setting), config.warmup_steps)
        progress.start(self._total_steps())

    def steps(self, setting: Setting) -> int:
        """Steps of a student."""
        return setting.epochs * self.steps_per_epoch

    @property
    def teacher_steps(self) -> int:
        """Steps of a teacher that is trained here."""
        whole = self.sets.whole
        count = self.sets.num_examples if whole is None else len(whole)
        per_epoch = data.steps_per_epoch(count, self.config.batch_size)
        return self.config.teacher_epochs * per_epoch

    @property
    def steps_per_call(self) -> int:
        """So many batches of a stream are on the devices at once, twice."""
        return 4 if self.config.streamed else 50

    def _total_steps(self) -> int:
        config = self.config
        trained = [
            config.teacher_weights is None,
            "ensemble" in config.arms and config.second_weights is None,
            "pretrained" in config.arms and config.student_weights is None,
        ]
        return sum(trained) * self.teacher_steps + sum(
            seeds * self.steps(setting)
            for arm in config.arms
            for setting, seeds in config.plan(arm)
        )

    def _classifier(self, family: str) -> training.Classifier:
        """A network by its part: "teacher", "student", "mobilenet_gn", ..."""
        config = self.config
        net, options = {
            "teacher": (config.teacher, config.teacher_options),
            "student": (config.model, config.student_options),
            "mobilenet_gn": (config.family, config.family_options("group")),
            "mobilenet_bn": (config.family, config.family_options("batch")),
        }[family]
        network = models.create(net, self.sets.num_classes, **options)
        return training.Classifier(network, bit_weights.MEAN, bit_weights.STD)

    def start(self, family: str, seed: int, size: int) -> tuple[PyTree, PyTree]:
        """Fresh parameters and statistics."""
        images = jnp.zeros((1, size, size, self.sets.channels))
        variables = self.classifier(family).network.init(jax.random.key(seed), images)
        return variables["params"], variables.get("batch_stats", {})

    def view(self, arm: Arm) -> data.views.View:
        """Who sees which pixels in an arm."""
        config = self.config
        return data.views.create(
            arm.view,
            teacher_size=config.teacher_size,
            student_size=self.size(arm),
            flip=config.flip,
            mixup=arm.mixup,
            fraction=config.fraction,
            area=(config.smallest_area, 1.0),
        )

    def size(self, arm: Arm) -> int:
        """Pixels a side of what the student sees."""
        return self.config.teacher_size if arm.full_size else self.config.student_size

    # Networks trained on labels -----------------------------------------------------

    def from_labels(self, what: str, family: str, size: int) -> PyTree:
        """Variables of a network trained on the labels of all training images."""
        config = self.config
        self.progress.stage(f"training {what}")
        seed = TEACHERS + config.first_seed
        view = data.views.create(
            config.teacher_view,
            teacher_size=size,
            flip=config.flip,
            fraction=config.fraction,
            area=(config.smallest_area, 1.0),
        )
        steps = self.teacher_steps
        state = training.fit(
            lessons.Labels(self.classifier(family), view),
            *self.start(family, seed, size),
            self.optimizer("adam", config.teacher_rate, 1e-4, steps),
            self.sets.batches("whole", view, seed),
            num_steps=steps,
            seed=seed,
            mesh=self.mesh,
            steps_per_call=self.steps_per_call,
            stage=what,
            batch_norm=config.batch_norm,
            on_nonfinite=config.on_nonfinite,
            logging=training.Logging(
                self.metrics,
                log_every_steps=max(1, steps // config.points),
                progress=self.progress.advance,
            ),
            checkpoints=training.Checkpoints(self.folder.training(what, type(self))),
        )
        variables = training.with_stats(state.params, state.batch_stats)
        # For other runs, those of a sweep: --teacher-weights takes it.
        distill.transfer.save_npz(self.folder.checkpoints(f"{what}.npz"), variables)
        return variables

    def from_file(self, path: str, family: str, size: int, head: str) -> PyTree:
        """Variables from a released file, or from one that `from_labels` wrote."""
        variables = training.with_stats(*self.start(family, 0, size))
        try:
            with np.load(files.path(path), allow_pickle=False) as file:
                released = "params/fc/kernel" not in file
            if released:
                return bit_weights.load(path, variables, head)  # pyrefly: ignore
            tree, kept = distill.transfer.adapt(
                variables, distill.transfer.load_npz(path)
            )
        except FileNotFoundError as error:
            raise runs.RunError(
                f"the weights {path} are not there; download the file from "
                "gs://bit_models, or give another path in the preset's fields"
            ) from error
        if kept and head == "load":
            raise runs.RunError(
                f"the weights {path} are of other classes: {', '.join(kept)}"
            )
        return tree

    @functools.cached_property
    def teacher(self) -> PyTree:
        """The variables of the teacher."""
        size, path = self.config.teacher_size, self.config.teacher_weights
        if path is not None:
            return self.from_file(path, "teacher", size, "load")
        return self.from_labels("teacher", "teacher", size)

    @functools.cached_property
    def second_teacher(self) -> PyTree:
        """The variables of the ensemble's other teacher."""
        size, path = self.config.student_size, self.config.second_weights
        if path is not None:
            return self.from_file(path, "teacher", size, "load")
        return self.from_labels("second-teacher", "teacher", size)

    @functools.cached_property
    def pretrained(self) -> tuple[PyTree, PyTree]:
        """Where the students of the arm "pretrained" start."""
        size, path = self.config.student_size, self.config.student_weights
        if path is None:
            variables = self.from_labels("pretraining", "student", size)
        else:
            variables = self.from_file(path, "student", size, "keep")
        return variables["params"], variables.get("batch_stats", {})

    # Students ------------------------------------------------------------------------

    def optimizer(self, kind: str, rate: float, decay: float, steps: int):
        """The optimiser of a kind; all its numbers are data."""
        config = self.config
        factor = {
            "adam": 1.0,
            "sgd": config.sgd_rate_factor,
            "shampoo": config.shampoo_rate_factor,
        }[kind]
        numbers = (factor * rate, decay, steps, config.warmup_steps)
        return training.bind(self.make(kind), *map(jnp.float32, numbers))

    def _make_optimizer(self, kind: str):
        config = self.config

        def make(rate, decay, steps, warmup_steps):
            schedule = training.warmup_cosine(steps, warmup_steps)
            if kind == "adam":
                dtype = config.moment_dtype
                return training.adam(
                    rate, schedule, decay, config.clip_norm, moment_dtype=dtype
                )
            if kind == "shampoo":
                return training.shampoo(rate, schedule, decay, config.clip_norm)
            return optax.chain(
                optax.clip_by_global_norm(config.clip_norm),
                optax.trace(config.sgd_momentum),
                *training.decoupled(rate, schedule, decay),
            )

        return make

    def objective(self, arm: Arm, setting: Setting):
        """What a student of an arm minimises."""
        student, view = self.classifier(arm.family), self.view(arm)
        if arm.labels:
            return lessons.Labels(student, view)
        return jax.tree_util.Partial(
            lessons.Matching(student, view),
            jnp.float32(setting.temperature),
            self.teacher_of(arm, setting),
        )

    def teacher_of(self, arm: Arm, setting: Setting) -> distill.Teacher:
        """An arm's teacher, as a function of what its view shows."""
        # A stream cuts what a fixed teacher sees, which is the same at every step.
        online = self.config.streamed and arm.view != "fix/ic_ens"
        if arm.view.startswith("fix/") and not online:
            return distill.stored(self.targets(arm, setting))
        own = distill.Teacher(lessons.Sees(self.classifier("teacher")), self.teacher)
        if not arm.ensemble:
            return own
        sees = lessons.Sees(self.classifier("teacher"), "student")
        return distill.mean_of_logits([own, distill.Teacher(sees, self.second_teacher)])

    @property
    def looking(self) -> distill.Teacher:
        """The teacher as a function of pixels."""
        return distill.Teacher(lessons.Looks(self.classifier("teacher")), self.teacher)

    def crops(self, arm: Arm, setting: Setting) -> int:
        """Crops over which an arm's stored targets are averaged."""
        return setting.epochs if arm.equal_forwards else self.config.ensemble_crops

    def targets(self, arm: Arm, setting: Setting) -> Any:
        """Stored logits [n, classes] of the training images."""
        config, train = self.config, self.sets.in_memory()
        if arm.view == "fix/ic_ens":
            crops = self.crops(arm, setting)
            self.progress.stage(f"targets of {crops} crops an image")
            file = f"targets-{crops}-{setting.temperature:g}.npz"
            return data.ensemble_targets(
                self.looking,
                train,
                self.view(arm),
                crops=crops,
                temperature=setting.temperature,
                batch_size=config.eval_batch_size,
                path=self.folder.path / "stages" / file,
            )
        return sets.logits(
            self.looking,
            train,
            config.eval_batch_size,
            config.teacher_size,
            config.fraction,
            "whole" if arm.view == "fix/rs" else "central",
            self.mesh,
        )

    def forwards(self, arm: Arm, setting: Setting) -> int:
        """How many images the teachers of one student look at, in all."""
        if arm.labels:
            return 0
        if arm.view == "fix/ic_ens":
            return self.crops(arm, setting) * self.sets.num_examples
        if arm.view.startswith("fix/") and not self.config.streamed:
            return self.sets.num_examples
        return self.steps(setting) * self.config.batch_size * (1 + arm.ensemble)

    def train(self, arm_name: str, setting: Setting, seeds: int) -> dict:
        """Trains an arm at a length, or what is left of it; its arrays."""
        config, arm = self.config, ARMS[arm_name]
        stage = name(arm_name, setting.epochs)
        objective = self.objective(arm, setting)
        drawn = range(config.first_seed, config.first_seed + seeds)
        self.progress.stage(stage)
        steps = self.steps(setting)
        members = [
            training.Member(
                objective=objective,
                params=params,
                batch_stats=batch_stats,
                optimizer=self.optimizer(
                    arm.optimizer, setting.rate, setting.decay, steps
                ),
                seed=seed,
                stage=f"{stage}-seed{seed}",
            )
            for seed in drawn
            for params, batch_stats in [
                self.pretrained
                if arm.init == "pretrained"
                else self.start(arm.family, seed, self.size(arm))
            ]
        ]
        whose = "train" if arm.images == "own" else "others"
        state = training.population(
            members,
            self.sets.batches(whose, self.view(arm), config.first_seed),
            num_steps=steps,
            mesh=self.mesh,
            steps_per_call=self.steps_per_call,
            logging=training.Logging(
                self.metrics,
                log_every_steps=max(1, steps // config.points),
                evaluate=functools.partial(self.held, arm, "validation"),
                progress=self.progress.advance,
            ),
            checkpoints=training.Checkpoints(self.folder.training(stage, type(self))),
            **config.how,
        )
        lines = [self.metrics.read(f"{stage}-seed{seed}") for seed in drawn]
        found = {
            key: np.array([[row[key] for row in own] for own in lines], np.float64)
            for key in [*lines[0][0]][2:]  # after the stage and the step
        }
        steps_done = np.array([row["step"] for row in lines[0]])
        return {**found, **self.held(arm, "test", state), "step": steps_done}

    def held(self, arm: Arm, split: str, state: training.TrainState) -> dict:
        """Metrics of a held-out set, a value a member each."""
        classifier = self.classifier(arm.family)
        return self.held_out.metrics(classifier, self.size(arm), split, state)
