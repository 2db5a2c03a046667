"""What does warmup protect? (Figures 4, 5 and 15 and section 4)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.warmup --preset demo | digits | cifar10

Hardware and time: `digits`, about 4.5 minutes of CPU time a seed; `cifar10`, hours on a
GPU or TPU (not run). docs/designs.md says how `digits` was chosen, docs/results.md what
it found. Expected after the warmup's epochs: chance without warmup, 60 to 90 % with it
or with the FC layers frozen.

The arms of the paper train with small batches, with large batches with and without
warmup, and with large batches and the fully connected (FC) stack frozen during the
warmup. Five controls that the paper lacks freeze the convolutions instead, freeze as
many parameters elsewhere, use a low rate, clip gradients, or warm up the FC stack
alone. The similarity of a layer's activations before and after the warmup shows where
the network changed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.common import maps, task
from experiments.common.own import Own
from experiments.common.study import Study, StudyRun, stacked
from experiments.common.trained import Trained
from experiments.warmup import curvature, figures, optimizers
from experiments.warmup.claims import claims
from experiments.warmup.config import ARMS, PRESETS, Config
from experiments.warmup.layers import kernels, random_layers, relative_change
from experiments.warmup.plan import plan
from experiments.warmup.protocol import PROTOCOL
from experiments.warmup.results import results
from kd_heuristics import training
from kd_heuristics.runtime.errors import InputError


def compute(
    config: Config, folder, progress, own: Own = task.NOTHING
) -> tuple[dict, dict]:
    """Trains, compares and judges; `(results, arrays)` of the run folder."""
    run = StudyRun(config, folder, progress, by=compute)
    tasks = make_tasks(config, own)
    its = tasks["large"]
    if config.sharpness_steps and config.steps_per_epoch() != its.steps_per_epoch:
        raise InputError(
            f"sharpness_steps follow from {config.steps_per_epoch()} steps an epoch of "
            f"{config.dataset}, but your images make {its.steps_per_epoch}; give "
            f"train_examples={len(its.train)} and whole numbers of steps"
        )
    progress.start(total_steps(config, its))

    arrays: dict[str, Any] = {}
    for group in dict.fromkeys(group_of(arm) for arm in config.arms):
        arrays |= train(run, tasks, group)
    for arm in config.arms:
        arrays |= learning_rates(config, tasks[group_of(arm)], arm)
    arrays |= compare_all(run, tasks)
    if config.sharpness_steps:
        groups = {arm: group_of(arm) for arm in config.arms}
        length = warmup_steps(config, tasks)
        nets = networks(run, its)
        arrays |= curvature.measure_all(run, tasks, nets, groups, length)

    params = its.start(config.first_seed)[0]
    arrays["kernels"] = np.array(list(kernels(params)))
    return results(
        config, arrays, list(run.seeds), params, its.classifier_paths
    ), arrays


def make_tasks(config: Config, own: Own = task.NOTHING) -> dict[str, task.Task]:
    """The task with large and with small batches."""
    large = task.make(config, own)
    return {"large": large, "small": large.with_batch_size(config.small_batch_size)}


def total_steps(config: Config, its: task.Task) -> int:
    """The length of the bar, in steps of large batches."""
    return len(config.arms) * config.seeds * config.epochs * its.steps_per_epoch


def group_of(arm: str) -> str:
    """The population that an arm belongs to."""
    return "small" if ARMS[arm].small else "large"


def members(run: StudyRun, group: str) -> list[tuple[str, int]]:
    """Arm and seed of each member of a population, in order."""
    arms = [arm for arm in run.config.arms if group_of(arm) == group]
    return [(arm, seed) for seed in run.seeds for arm in arms]


def warmup_steps(config: Config, tasks: Mapping[str, task.Task]) -> int:
    """Length of the warmup.

    Small batches are compared after as many steps: the paper compares networks at equal
    iterations, not epochs.
    """
    return config.warmup_epochs * tasks["large"].steps_per_epoch


def learning_rates(config: Config, its: task.Task, arm: str) -> dict[str, np.ndarray]:
    """The rates of an arm, `{"warmup/rate_fc": [epochs], ...}`."""
    tables = config.rates(arm, its.steps_per_epoch)
    return {f"{arm}/rate_{k}": v[:: its.steps_per_epoch] for k, v in tables.items()}


def train(
    run: StudyRun, tasks: Mapping[str, task.Task], group: str
) -> dict[str, np.ndarray]:
    """Trains a population; `{"warmup/test_accuracy": [seeds, epochs], ...}`."""
    config, its, trained = run.config, tasks[group], members(run, group)
    run.progress.training(f"training {len(trained)} networks, {group} batches")
    starts = {seed: its.start(seed) for seed in run.seeds}
    length = warmup_steps(config, tasks)
    fc = its.classifier_paths
    chosen = random_layers(starts[config.first_seed][0], config.first_seed, fc)
    make = optimizers.shared(fc, chosen, config)
    population = [
        training.Member(
            objective=its.classifier.supervised,
            params=starts[seed][0],
            batch_stats=starts[seed][1],
            optimizer=optimizers.of_arm(make, config, arm, its.steps_per_epoch, length),
            seed=seed,
            stage=f"{arm}-seed{seed}",
        )
        for arm, seed in trained
    ]
    run.train(
        group,
        population,
        its,
        config.epochs,
        unit=its.steps_per_epoch / tasks["large"].steps_per_epoch,
        micro_batches=1 if group == "small" else config.micro_batches,
        evaluate=its.tested,
        keep_steps={0, length, *config.sharpness_steps},
    )
    names = ("loss", "accuracy", "test_loss", "test_accuracy")
    arrays = {}
    for arm in dict.fromkeys(arm for arm, _ in trained):
        arrays |= run.logged(arm, names, every=its.steps_per_epoch)
    return arrays


def compare_all(run: StudyRun, tasks: Mapping[str, task.Task]) -> dict[str, np.ndarray]:
    """What changed in each run, the noise floor and the calibrated maps."""
    config, its = run.config, tasks["large"]
    nets = networks(run, its)
    images = maps.images(config, its)
    arrays: dict[str, Any] = {}
    for arm in config.arms:
        found = [
            run.stage(f"{arm}-seed{seed}", compare, run, tasks, nets, images, arm, seed)
            for seed in run.seeds
        ]
        arrays |= {f"{arm}/{name}": v for name, v in stacked(found).items()}
    arrays |= run.stage("floor", floor, run, its, nets, images)
    arrays |= maps.all_calibrated(
        arrays, {f"{arm}/similarity": "similarity_floor" for arm in config.arms}
    )
    start = training.with_stats(*its.start(config.first_seed))
    layers = maps.layers(maps.shown(config, its), start, images)
    return arrays | {"layers": np.array(layers)}


def networks(run: StudyRun, its: task.Task) -> dict[str, Trained]:
    """The trained networks of each population."""
    groups = ("large", "small")
    return {group: Trained(run, its, group, members(run, group)) for group in groups}


def compare(
    run: StudyRun,
    tasks: Mapping[str, task.Task],
    nets: Mapping[str, Trained],
    images: jax.Array,
    arm: str,
    seed: int,
) -> dict[str, np.ndarray]:
    """What changed in a run during the warmup, and in the arm "warmup" after it."""
    run.progress.stage(f"seed {seed}: similarities, {arm}")
    config, group = run.config, group_of(arm)
    last_step = config.epochs * tasks[group].steps_per_epoch
    steps = (0, warmup_steps(config, tasks), last_step)
    first, middle, last = (nets[group].at((arm, seed), step) for step in steps)
    during = maps.of_task(config, tasks["large"], images, first, middle)
    values = {
        **maps.named("similarity", during, config.measure),
        "change": relative_change(first["params"], middle["params"]),
    }
    if arm == "warmup":  # Figure 5d
        later = maps.of_task(config, tasks["large"], images, middle, last)
        values["similarity_later"] = later[config.measure]
    return values


def floor(
    run: StudyRun, its: task.Task, nets: Mapping[str, Trained], images: jax.Array
) -> dict[str, np.ndarray]:
    """Similarities of unrelated layers, measured at the start of a run."""
    run.progress.stage("noise floor")
    config, arm = run.config, run.config.arms[0]
    start = nets[group_of(arm)].at((arm, config.first_seed), 0)
    found = maps.of_task(config, its, images, start, start, shuffle=True)
    return maps.named("similarity_floor", found, config.measure)


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
    shared=("layers", "kernels", "*/rate_*", "similarity_floor*", "sharpness_steps"),
    own=task.showing("_conv", "_fc"),
    extendable=("epochs",),
)
