"""Every recipe of the library in small, as a study that a run folder can hold.

    python -m tests.faults.recipes NAME WORKDIR

Networks of a few numbers on a few digits: a run takes a fraction of a second, so that
it can be killed at each of its changes to the file system.
"""

import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import launch
from experiments.common.study import Study
from kd_heuristics import curves, data, distill, freezing, schedules, training
from tests.data import prepared_fixture
from tests.grouped import grouped

STEPS = 8
SET = data.load("digits", "train").take(48)
BATCHES = data.train_batches(SET, 8, padding=1)
EVAL = data.eval_batches(SET.take(16), 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What a recipe's run folder is of."""

    recipe: str
    on_nonfinite: str = "raise"


def start(seed):
    keys = jax.random.split(jax.random.key(seed), 3)

    def draw(key, *shape):
        return 0.5 * jax.random.normal(key, shape)

    params = {
        "conv_0": {"kernel": draw(keys[0], 1, 4)},
        "conv_1": {"kernel": draw(keys[1], 4, 4)},
        "fc": {"kernel": draw(keys[2], 4, 10), "bias": jnp.zeros(10)},
    }
    return params, {"mean": jnp.zeros(4)}


def layers(params, images):
    """The maps of two layers, and logits."""
    x = images.astype(jnp.float32) / 255
    first = jax.nn.relu(x @ params["conv_0"]["kernel"])
    second = jax.nn.relu(first @ params["conv_1"]["kernel"])
    logits = second.mean((1, 2)) @ params["fc"]["kernel"] + params["fc"]["bias"][None]
    return first, second, logits


def student(read, params, batch_stats, batch, key):
    found = layers(params, batch["images"])
    noise = 0.01 * jax.random.normal(key, found[2].shape)  # the key matters
    mean = 0.9 * batch_stats["mean"] + 0.1 * found[1].mean((0, 1, 2))
    return read((*found[:2], found[2] + noise)), {"mean": mean}


def taught(read, params, batch):
    return read(layers(params, batch["images"]))


@functools.cache
def stage(read, loss):
    """The same object each time, which compiles once."""
    teacher = distill.Teacher(functools.partial(taught, read), start(7)[0])
    return distill.matching_stage(functools.partial(student, read), teacher, loss)


def logits(found):
    return found[2]


def last_map(found):
    return found[1]


def pair(found):
    return (found[:2],)


def supervised(params, batch_stats, batch, key):
    found, batch_stats = student(logits, params, batch_stats, batch, key)
    values = training.cross_entropy_and_accuracy(found, batch["labels"])
    metrics = {name: value.mean() for name, value in values.items()}
    return metrics["loss"], (batch_stats, metrics)


def sometimes_infinite(params, batch_stats, batch, key):
    value, rest = supervised(params, batch_stats, batch, key)
    return jnp.where(batch["labels"][0] < 3, jnp.inf, value), rest


def metric(params, batch_stats, batch):
    values = training.cross_entropy_and_accuracy(
        layers(params, batch["images"])[2], batch["labels"]
    )
    return {**values, "mask": batch["mask"]}


SCHEDULES: dict[str, Callable] = {
    "sgdr": lambda: schedules.sgdr(0.1, 2, 2, warmup_steps=1),
    "step_decay": lambda: schedules.step_decay(0.1, [3, 6], 0.1),
    "linear_decay": lambda: schedules.linear_decay(0.1, STEPS),
    "cosine_decay": lambda: schedules.cosine_decay(0.1, STEPS),
    "cyclic": lambda: schedules.cyclic(0.1, 4, 0.01),
}


class Run:
    """What the recipes share: where things lie, and `fit` with its options."""

    def __init__(self, config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        progress.start(STEPS)

    def options(self, name, **more):
        self.progress.stage(name)
        return {
            "num_steps": STEPS,
            "log_every_steps": 4,
            "steps_per_call": 2,
            "metrics": self.metrics,
            "directory": self.folder.checkpoints(name),
            "on_nonfinite": self.config.on_nonfinite,
            "progress": self.progress.advance,
        } | more

    def fit(self, name, objective, optimizer, begin=None, batches=BATCHES, **more):
        params, batch_stats = start(0) if begin is None else begin
        own = self.options(name, stage=name, **more)
        return training.fit(
            objective, params, batch_stats, optimizer, batches, **grouped(own)
        )


def by_schedule(schedule, run):
    return run.fit(
        "train",
        supervised,
        averaged(schedule),
        keep_steps=[0, 3],
        evaluate=tested,
        score=lambda line: line["accuracy"],
    )


def tested(state):
    return training.evaluate(metric, state.params, state.batch_stats, EVAL)


@functools.cache
def averaged(schedule):
    return training.ema(optimizer_of(schedule), 0.9)


@functools.cache
def optimizer_of(schedule):
    rate = SCHEDULES[schedule]() if isinstance(schedule, str) else schedule
    return training.sgd(rate, 0.9, 1e-3, 1.0)


@functools.cache
def frozen_optimizer():
    rate = schedules.warmup(schedules.step_decay(0.1, [6], 0.1), 3)
    inner = training.sgd(rate, 0.9)
    return freezing.freeze(inner, lambda path: path.startswith("fc"), until=3)


def warmup_and_freezing(run):
    return run.fit("train", supervised, frozen_optimizer(), keep_steps=[3])


def curve(run):
    ends = [
        run.fit(f"end-{s}", supervised, optimizer_of(0.1), start(s)) for s in (0, 1)
    ]
    a, b = (state.params for state in ends)
    loss = curves.CurveLoss(kind="polychain", num_t=2)
    network = jax.tree_util.Partial(supervised)
    objective = jax.tree_util.Partial(loss, (a, b), network)
    begin = (curves.midpoint(a, b),), ends[0].batch_stats
    bend = run.fit("bend", objective, optimizer_of(0.05), begin)
    path = curves.polychain([a, *bend.params, b])
    run.folder.stage("middle", lambda: flat(path.at(0.25)))
    return bend


@jax.tree_util.Partial
def _base(params, batch_stats, batch, key):
    return supervised(params, batch_stats, batch, key)


def soft_targets(student_logits, teacher_logits):
    return distill.kl(student_logits, teacher_logits, 4.0)


def distillation(run):
    return run.fit("train", stage(logits, soft_targets), optimizer_of(0.1))


def two_stages(read, loss, run):
    """The first stage, then labels: FitNets' and FSP's order, and the boundary."""
    objective = stage(read, loss)
    first = run.fit("stage", objective, optimizer_of(0.01))
    run.folder.stage("between", lambda: flat(first.params))
    return run.fit(
        "train", supervised, optimizer_of(0.1), (first.params, first.batch_stats)
    )


VIEW = data.views.create("mix", teacher_size=8, student_size=6)
TEACHER = distill.Teacher(functools.partial(taught, logits), start(7)[0])


@functools.cache
def prepared_set():
    """A folder with 23 JPEGs of several sizes, which goes with the process."""
    folder = tempfile.TemporaryDirectory()
    prepared_fixture.write(folder.name, "caltech_birds2011", {"train": 23, "test": 2})
    return folder


def patient(params, batch_stats, batch, key):
    """FunMatch: both see one crop, mixed with another; labels are not read."""
    seen = VIEW.finish(batch, key)
    own, theirs = ({"images": seen[who][..., :1]} for who in ("student", "teacher"))
    found, batch_stats = student(logits, params, batch_stats, own, key)
    loss = distill.kl(found, TEACHER(theirs), 2.0).mean()
    return loss, (batch_stats, {"loss": loss, "mixup": seen["mixup"]})


def funmatch(run, workers=0):
    """Records are read, decoded and cut while the student trains."""
    os.environ["TFDS_DATA_DIR"] = prepared_set().name
    batches = data.stream(
        "caltech_birds2011", "train", 6, seed=3, view=VIEW, workers=workers
    )
    return run.fit("train", patient, optimizer_of(0.1), batches=batches)


def population(run):
    members = [
        training.Member(
            objective=supervised,
            params=start(seed)[0],
            batch_stats=start(seed)[1],
            optimizer=training.bind(rated, jnp.float32(rate)),
            seed=seed,
            stage=f"member-{seed}",
        )
        for seed, rate in ((0, 0.1), (1, 0.01))
    ]
    return training.population(
        members, BATCHES, **grouped(run.options("train", keep_steps=[0, 4]))
    )


def rated(rate):
    return training.sgd(rate, 0.9)


def skipping(run):
    return run.fit("train", sometimes_infinite, optimizer_of(0.1))


RECIPES: dict[str, Callable] = {
    **{name: functools.partial(by_schedule, name) for name in SCHEDULES},
    "warmup_and_freezing": warmup_and_freezing,
    "curve": curve,
    "distillation": distillation,
    "hints": functools.partial(two_stages, last_map, distill.hint_loss),
    "fsp": functools.partial(two_stages, pair, distill.fsp_loss),
    "funmatch": funmatch,
    "population": population,
    "skipping": skipping,
}


def flat(tree):
    return {f"{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def compute(config, folder, progress):
    state = RECIPES[config.recipe](Run(config, folder, progress))
    return {"sum": float(sum(map(jnp.sum, jax.tree.leaves(state.params))))}, flat(state)


STUDY = Study(
    name="recipe",
    headline="Is anything lost?",
    paper="",
    question="Is anything lost?",
    presets={"cifar10": Config(recipe="sgdr")},
    compute=compute,
    figures=lambda config, results, arrays: {},  # the studies' own are killed too
    claims=lambda config: (),
)


def run(name, workdir):
    """Runs a recipe, or what is left of it."""
    how = "skip" if name == "skipping" else "raise"
    return launch.run(STUDY, Config(recipe=name, on_nonfinite=how), workdir)


if __name__ == "__main__":
    with launch.explained_errors():
        run(*sys.argv[1:])
