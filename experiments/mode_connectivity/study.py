"""Are differently trained networks joined by curves of low loss? (Figures 1 and 7-10)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics", section 2.1.
Command: python -m experiments.mode_connectivity --preset demo | digits | cifar10

Hardware and time: `digits`, about 6 minutes of CPU time a seed; `cifar10` not run yet.
docs/designs.md says how `digits` was chosen, docs/results.md what it found. Expected: a
chain's worst point within 2 points of its worse end, and far above the segment's.

Seven networks (modes) are trained, all but the first, G, with one change. A chain with
one bend, the same with weight decay on the bend, a Bezier curve and, as a control, the
straight segment join G to each other mode. Accuracies and losses along them, at several
epochs of fitting, show whether and how soon modes are joined, and whether a bend
overfits.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import paths, task
from experiments.common.own import Own
from experiments.common.study import Study, StudyRun, stacked
from experiments.mode_connectivity import alignments, embedding, figures, optimizers
from experiments.mode_connectivity.claims import claims
from experiments.mode_connectivity.config import MODES, PRESETS, Config, Group
from experiments.mode_connectivity.networks import FORMS, Networks, fits, members
from experiments.mode_connectivity.plan import plan
from experiments.mode_connectivity.protocol import PROTOCOL
from experiments.mode_connectivity.results import results
from kd_heuristics import curves, data, training


def compute(
    config: Config, folder, progress, own: Own = task.NOTHING
) -> tuple[dict, dict]:
    """Trains, fits, evaluates and judges; `(results, arrays)` of the run folder."""
    run = StudyRun(config, folder, progress, by=compute)
    tasks = make_tasks(config, own)
    its = tasks["sgd"]
    nets = Networks(run, tasks)
    # Found before the training, since a network without symmetries is refused.
    spec = alignments.spec(its, config.first_seed) if config.aligned else None
    t = paths.paper_t(config.intervals)
    progress.start(total_steps(config, its, len(t)))

    arrays: dict[str, Any] = {"t": t}
    for group in config.groups:
        arrays |= train(run, tasks, group)
    for form in FORMS:
        if fits(run, form):
            arrays |= fit(run, its, nets, form)
    arrays |= evaluate_all(run, its, nets, t)
    if spec is not None:
        aligned = alignments.Aligned(run, its, nets, spec)
        arrays |= evaluate_aligned(run, its, aligned, t)
    arrays |= run.stage("distances", distances, run, nets)
    arrays["map"] = np.stack(
        [embedding.map_2d(d, config.perplexity) for d in arrays["distances"]]
    )
    return results(config, arrays, list(run.seeds)), arrays


def make_tasks(config: Config, own: Own = task.NOTHING) -> dict[Group, task.Task]:
    """The task of each group of modes; curves are fitted and evaluated on "sgd"."""
    its = task.make(config, own)
    if config.train_metrics == "augmented":
        key = jax.random.key(config.first_seed)
        seen = data.augment_batches(its.sets["train"], key, **its.augmentation)
        its = dataclasses.replace(its, sets=its.sets | {"train": seen})
    tasks = dict.fromkeys(config.groups, its)
    if "large" in tasks:
        tasks["large"] = its.with_batch_size(config.large_batch_size, "keep")
    if "plain" in tasks:
        batches = data.train_batches(its.train, config.batch_size)
        tasks["plain"] = dataclasses.replace(its, batches=batches)
    return tasks


def total_steps(config: Config, its: task.Task, num_points: int) -> int:
    """The length of the bar, in training steps of the small batches."""
    epochs = len(config.modes) * config.epochs
    epochs += len(config.kinds) * len(config.pairs) * config.curve.epochs
    paths_of_a_pair = 1 + len(config.kinds) * len(config.curve_epochs)
    paths_of_a_pair += len(config.aligned)
    points = len(config.pairs) * paths_of_a_pair * num_points * len(its.sets)
    return round(
        config.seeds * (epochs * its.steps_per_epoch + points * its.point_steps)
    )


def train(
    run: StudyRun, tasks: Mapping[Group, task.Task], group: Group
) -> dict[str, np.ndarray]:
    """Trains the modes of a group; `{"G/test_accuracy": [seeds, epochs], ...}`."""
    config, its, trained = run.config, tasks[group], members(run, group)
    names = dict.fromkeys(mode for mode, _ in trained)
    run.progress.training(f"training modes {', '.join(names)}")
    make = (optimizers.adam if group == "adam" else optimizers.sgd)(config)
    population = []
    for mode, seed in trained:
        params, batch_stats = start(config, its, mode, seed)
        optimizer = training.bind(
            make,
            jnp.asarray(config.rates(mode, its.steps_per_epoch)),
            jnp.float32(config.decay(mode)),
            jnp.float32(config.largest_norm(mode)),
        )
        population.append(
            training.Member(
                objective=its.classifier.supervised,
                params=params,
                batch_stats=batch_stats,
                optimizer=optimizer,
                seed=member_seed(mode, seed),
                stage=f"{mode}-seed{seed}",
            )
        )
    unit = its.steps_per_epoch / tasks["sgd"].steps_per_epoch
    run.train(group, population, its, config.epochs, unit, evaluate=its.tested)
    metrics = ("loss", "accuracy", "test_loss", "test_accuracy")
    return {k: v for mode in names for k, v in run.logged(mode, metrics).items()}


def member_seed(mode: str, seed: int) -> int:
    """Seed of a mode's batches, and of its start unless the modes share it."""
    return len(MODES) * seed + list(MODES).index(mode)


def start(config: Config, its: task.Task, mode: str, seed: int):
    """Parameters and statistics from which a mode's training starts."""
    own = member_seed("G" if config.same_start else mode, seed)
    params, batch_stats = its.start(own)
    if MODES[mode].wide_start:
        # Every kernel is drawn from a normal of mean 0, so its scale is a factor.
        params = jax.tree.map(
            lambda leaf, wide: leaf * config.init_factor if wide else leaf,
            params,
            training.kernels(params),
        )
    return params, batch_stats


def fit(
    run: StudyRun, its: task.Task, nets: Networks, form: str
) -> dict[str, np.ndarray]:
    """Fits curves; their losses, `{"GA-chain/loss": [seeds, epochs], ...}`."""
    config, fitted = run.config, fits(run, form)
    run.progress.training(f"fitting {len(fitted)} curves")
    make = functools.partial(config.curve.optimizer, its.steps_per_epoch)
    decay = dict.fromkeys(config.kinds, config.curve.bend_decay)
    decay["decayed"] = config.bend_decay
    objective = jax.tree_util.Partial(its.classifier.supervised)
    batch_stats = its.start(config.first_seed)[1]
    population = []
    for kind, pair, seed in fitted:
        ends = nets.ends(pair, seed)
        population.append(
            training.Member(
                objective=config.curve.objective(ends, objective, form),
                params=curves.midpoint(*ends),
                batch_stats=batch_stats,
                optimizer=training.bind(make, jnp.float32(decay[kind])),
                seed=seed,
                stage=f"{pair}-{kind}-seed{seed}",
            )
        )
    keep = {epoch * its.steps_per_epoch for epoch in config.curve_epochs}
    run.train(form, population, its, config.curve.epochs, keep_steps=keep)
    names = dict.fromkeys(f"{pair}-{kind}" for kind, pair, _ in fitted)
    return {k: v for name in names for k, v in run.logged(name, ["loss"]).items()}


def evaluate_all(
    run: StudyRun, its: task.Task, nets: Networks, t: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics along all segments and curves.

    Returns: `{"GA/segment/test_loss": [seeds, t], ...}` of the segments and
      `{"GA/chain/test_loss": [seeds, curve epochs, t], ...}` of the curves.
    """
    along = functools.partial(
        evaluate, run, its, nets, t, paths.refresh(run.config, its)
    )
    found = {"segment": run.stage("segments", along, "segment")}
    for kind in run.config.kinds:
        by_epoch = [
            run.stage(f"{kind}-{epoch}", along, kind, epoch)
            for epoch in run.config.curve_epochs
        ]
        found[kind] = stacked(by_epoch, axis=1)
    return _by_kind(found)


def evaluate_aligned(
    run: StudyRun, its: task.Task, aligned: alignments.Aligned, t: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics along the segments after alignment by each method.

    Returns: `{"GA/aligned-weights/test_loss": [seeds, t], ...}`, and the distance
      between the ends, `{"GA/aligned-weights/distance": [seeds], ...}`.
    """
    refresh = paths.refresh(run.config, its)
    found = {}
    for kind in map(alignments.kind, run.config.aligned):
        along = run.stage(kind, evaluate, run, its, aligned, t, refresh, kind)
        far = run.stage(f"{kind}-distances", aligned_distances, run, aligned, kind)
        found[kind] = along | far
    return _by_kind(found)


def aligned_distances(
    run: StudyRun, aligned: alignments.Aligned, kind: str
) -> dict[str, np.ndarray]:
    """Distances from G to the permuted modes, `{"GA/distance": [seeds], ...}`."""
    found: dict[str, Any] = {f"{pair}/distance": [] for pair in run.config.pairs}
    for pair in run.config.pairs:
        for seed in run.seeds:
            first = aligned.nets.mode(pair[0], seed)
            last = aligned.end(kind, pair, seed)
            found[f"{pair}/distance"].append(float(curves.distance(first, last)))
    return {name: np.array(values) for name, values in found.items()}


def _by_kind(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """`{"GA/chain/test_loss": values}` of `{"chain": {"GA/test_loss": values}}`."""
    return {
        name.replace("/", f"/{kind}/"): values
        for kind, by_name in found.items()
        for name, values in by_name.items()
    }


def evaluate(
    run, its, nets, t, refresh, kind: str, epoch: int | None = None
) -> dict[str, np.ndarray]:
    """Metrics along the paths of one kind, `{"GA/test_loss": [seeds, t], ...}`."""
    after = "" if epoch is None else f", epoch {epoch}"
    run.progress.stage(f"evaluating {kind}{after}")
    found: dict[str, np.ndarray] = {}
    for pair in run.config.pairs:
        by_seed = [
            paths.evaluate(
                nets.curve(kind, pair, seed, epoch),
                t,
                its.sets,
                its.classifier.metric,
                lambda count: run.progress.advance(count * its.point_steps),
                refresh,
            )
            for seed in run.seeds
        ]
        found |= {f"{pair}/{name}": v for name, v in stacked(by_seed).items()}
    return found


def distances(run: StudyRun, nets: Networks) -> dict[str, np.ndarray]:
    """Distances between the modes and the last bends of the chains, [seeds, n, n]."""
    config = run.config
    run.progress.stage("distances between the modes and the bends")
    last = config.curve_epochs[-1]
    found = []
    for seed in run.seeds:
        points = [nets.mode(mode, seed) for mode in config.modes]
        points += [nets.bend("chain", pair, seed, last) for pair in config.pairs]
        found.append([[float(curves.distance(a, b)) for a in points] for b in points])
    return {"distances": np.array(found)}


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
    shared=("t",),
    own=task.showing(),
)
