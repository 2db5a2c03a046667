"""Do warm restarts carry SGD from one minimum to another? (Figures 2, 3 and 11 to 14)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.sgdr --preset demo | digits | cifar10

Hardware and time: `digits`, about 6 minutes of CPU time a seed; `cifar10`, hours on a
GPU or TPU (not run). docs/designs.md says how `digits` was chosen, docs/results.md what
it found. Expected: barriers between SGDR's last two minima, as in the paper.

Three schedules train the same network from the same start: SGDR, step decay, and one
cosine over the whole budget (the paper's footnote 4). Pairs of iterates of each run
are joined by the straight segment and by a fitted chain with one bend; the losses along
both show whether the run crossed a barrier. A longer segment meets a higher barrier
with or without a restart; each barrier is therefore reported with the weight distance,
and the cosine's pairs have SGDR's epochs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import maps, paths, task
from experiments.common.own import Own
from experiments.common.study import Study, StudyRun, stacked
from experiments.sgdr import averages, figures, optimizers, planes, twins
from experiments.sgdr.claims import claims
from experiments.sgdr.config import ARMS, PRESETS, Config, Pair
from experiments.sgdr.iterates import Iterates
from experiments.sgdr.plan import plan
from experiments.sgdr.protocol import PROTOCOL
from experiments.sgdr.results import results
from kd_heuristics import curves, data, training


def compute(
    config: Config, folder, progress, own: Own = task.NOTHING
) -> tuple[dict, dict]:
    """Trains, connects and judges; returns `(results, arrays)` for the run folder."""
    run = StudyRun(config, folder, progress, by=compute)
    its = task.make(config, own)
    if not config.augmented:
        plain = data.train_batches(its.train, config.batch_size)
        its = dataclasses.replace(its, batches=plain)
    nets = Iterates(run, its)
    t = paths.paper_t(config.intervals)
    progress.start(total_steps(config, its, len(t)))

    arrays = train(run, its, nets)
    bends = fit_chains(run, its, nets)
    arrays |= connect_all(run, its, nets, bends, t)
    for pair in config.planes:
        bend = bends[planes.ARM, config.first_seed, pair]
        plane = run.stage(
            planes.name(pair), planes.evaluate, run, its, nets, pair, bend
        )
        arrays |= {f"{planes.name(pair)}/{name}": v for name, v in plane.items()}
    arrays |= compare_all(run, its, nets)
    tables = learning_rates(config, its)
    arrays |= twins.compare_all(run, its, nets, tables["sgdr"], t)
    if config.averaged:
        arrays |= averages.evaluate_all(run, its, nets)

    for arm, rates in tables.items():
        epochs = np.arange(len(rates)) / its.steps_per_epoch
        every = max(1, its.steps_per_epoch // 20)
        arrays |= {f"{arm}/rate": rates[::every], f"{arm}/rate_epoch": epochs[::every]}
    arrays["t"] = t
    return results(config, arrays, list(run.seeds)), arrays


def total_steps(config: Config, its: task.Task, num_points: int) -> int:
    """Returns the length of the bar: training steps, and points in units of steps."""
    chains = config.seeds * sum(len(config.joined(arm)) for arm in ARMS)
    segments = config.seeds * sum(len(config.pairs(arm)) for arm in ARMS)
    epochs = config.seeds * len(config.arms) * config.epochs
    epochs += chains * config.chain.epochs
    segments += config.seeds * len(config.twin_epochs)
    left = (config.last_minimum + 1 - start for start in config.twin_epochs)
    epochs += config.seeds * sum(left)
    on_planes = len(config.planes) * np.prod(config.plane_grid)
    points = len(its.sets) * ((segments + chains) * num_points + on_planes)
    return round(epochs * its.steps_per_epoch + points * its.point_steps)


def learning_rates(config: Config, its: task.Task) -> dict[str, np.ndarray]:
    """Returns the learning rate of each arm at each step, [steps]."""
    steps = np.arange(config.epochs * its.steps_per_epoch)
    return {
        arm: np.asarray(jax.vmap(config.schedule(arm, its.steps_per_epoch))(steps))
        for arm in config.arms
    }


def train(run: StudyRun, its: task.Task, nets: Iterates) -> dict[str, np.ndarray]:
    """Trains all arms and seeds: `{"sgdr/test_accuracy": [seeds, epochs], ...}`."""
    config = run.config
    run.progress.training(f"training {len(nets.runs)} networks")
    tables = learning_rates(config, its)

    make = optimizers.sgd(config)

    def test(state):
        step = int(state.step) - 1
        rates = np.array([tables[arm][step] for arm, _ in nets.runs])
        return {"learning_rate": rates} | its.tested(state)

    starts = {seed: its.start(seed) for seed in run.seeds}
    members = [
        training.Member(
            objective=its.classifier.supervised,
            params=starts[seed][0],
            batch_stats=starts[seed][1],
            optimizer=training.bind(make, jnp.asarray(tables[arm])),
            seed=seed,
            stage=f"{arm}-seed{seed}",
        )
        for arm, seed in nets.runs
    ]
    pairs = [pair for arm in ARMS for pair in config.pairs(arm)] + [*config.map_pairs]
    kept = {epoch for pair in pairs for epoch in pair} | {*config.plane_iterates}
    kept |= {*config.lens_iterates}
    keep_steps = {its.steps_after(epoch) for epoch in kept}
    run.train(
        "train", members, its, config.epochs, evaluate=test, keep_steps=keep_steps
    )
    names = ("loss", "accuracy", "test_loss", "test_accuracy")
    return {k: v for arm in config.arms for k, v in run.logged(arm, names).items()}


def all_paths(run: StudyRun) -> list[tuple[str, int, Pair]]:
    """Lists the pairs of iterates to join: arm, seed and epochs."""
    return [
        (arm, seed, pair)
        for seed in run.seeds
        for arm in ARMS
        for pair in run.config.pairs(arm)
    ]


def fit_chains(run: StudyRun, its: task.Task, nets: Iterates) -> dict[tuple, Any]:
    """Fits the chains of the joined pairs; returns the bend of each path."""
    joined = [path for path in all_paths(run) if path[2] in run.config.joined(path[0])]
    chain, batch_stats = run.config.chain, its.start(run.config.first_seed)[1]
    run.progress.training(f"fitting {len(joined)} chains")
    optimizer = chain.optimizer(its.steps_per_epoch)
    objective = jax.tree_util.Partial(its.classifier.supervised)
    members = []
    for path in joined:
        ends = nets.ends(*path)
        members.append(
            training.Member(
                objective=chain.objective(ends, objective),
                params=curves.midpoint(*ends),
                batch_stats=batch_stats,
                optimizer=optimizer,
                seed=path[1],
                stage=path_name(*path),
            )
        )
    bends = run.train("chains", members, its, chain.epochs).params
    return {
        path: jax.tree.map(lambda leaf, index=index: leaf[index], bends)
        for index, path in enumerate(joined)
    }


def connect_all(run, its, nets, bends, t) -> dict[str, np.ndarray]:
    """Evaluates the paths of all pairs: `{"sgdr/30-70/distance": [seeds], ...}`."""
    found: dict[str, list] = {}
    refresh = paths.refresh(run.config, its, run.config.stats_examples)
    for arm, seed, pair in all_paths(run):
        path = arm, seed, pair
        joined = nets, bends.get(path), t, refresh
        values = run.stage(path_name(*path), connect, run, its, *joined, *path)
        for name, array in values.items():
            found.setdefault(f"{arm}/{pair[0]}-{pair[1]}/{name}", []).append(array)
    return {name: np.stack(values) for name, values in found.items()}


def connect(
    run: StudyRun, its: task.Task, nets: Iterates, bend, t, refresh, arm, seed, pair
) -> dict[str, np.ndarray]:
    """Evaluates losses and accuracies on a pair's segment and, with a bend, chain."""
    run.progress.stage(f"seed {seed}: {arm} {pair[0]}-{pair[1]}")
    a, b = nets.ends(arm, seed, pair)
    lines: dict[str, Any] = {"segment": curves.line(a, b)}
    if bend is not None:
        lines["chain"] = curves.polychain([a, bend, b])
    values: dict[str, Any] = {
        f"{path}/{name}": array
        for path, curve in lines.items()
        for name, array in paths.evaluate(
            curve,
            t,
            its.sets,
            its.classifier.metric,
            lambda count: run.progress.advance(count * its.point_steps),
            refresh,
        ).items()
    }
    return values | {"distance": np.float64(curves.distance(a, b))}


def compare_all(run: StudyRun, its: task.Task, nets: Iterates) -> dict[str, np.ndarray]:
    """Computes the maps of all seeds: `{"maps/restart": [seeds, layers, layers]}`."""
    config = run.config
    images = maps.images(config, its)
    start = training.with_stats(*its.start(config.first_seed))
    layers = maps.layers(maps.shown(config, its), start, images)
    compared = [
        run.stage(f"maps-seed{seed}", compare, run, its, nets, images, layers, seed)
        for seed in run.seeds
    ]
    arrays = {f"maps/{name}": values for name, values in stacked(compared).items()}
    pairs = ("restart", "first-last", "seeds")
    floors = {f"maps/{name}": "maps/floor" for name in pairs}
    return arrays | maps.all_calibrated(arrays, floors) | {"layers": np.array(layers)}


def compare(run, its, nets, images, layers, seed) -> dict[str, np.ndarray]:
    """Figure 14: maps over a restart, over a whole training, and to another seed."""
    config = run.config
    run.progress.stage(f"seed {seed}: similarities")
    restart, whole = config.map_pairs
    start = seed, restart[0]
    other = run.seeds[(run.seeds.index(seed) + 1) % len(run.seeds)]

    def similarity(first, second, *, shuffle=False):
        if first == second and not shuffle:  # there is only one seed
            nothing = np.full((len(layers),) * 2, np.nan)
            return dict.fromkeys((config.measure, *maps.BESIDE), nothing)
        a, b = (nets.variables("sgdr", *which) for which in (first, second))
        return maps.of_task(config, its, images, a, b, shuffle=shuffle)

    found = {
        "restart": similarity(start, (seed, restart[1])),
        "first-last": similarity((seed, whole[0]), (seed, whole[1])),
        # The difference between two trainings: the same epoch of the next seed.
        "seeds": similarity(start, (other, restart[0])),
        "floor": similarity(start, start, shuffle=True),
    }
    out: dict[str, np.ndarray] = {}
    for name, values in found.items():
        out |= maps.named(name, values, config.measure)
    return out


def path_name(arm: str, seed: int, pair: Pair) -> str:
    """Returns the name of a chain's stage.

    >>> path_name("sgdr", 0, (30, 70))
    'sgdr-30-70-seed0'
    """
    return f"{arm}-{pair[0]}-{pair[1]}-seed{seed}"


STUDY = Study(
    name="sgdr",
    headline="Do restarts escape minima?",
    question="Do warm restarts carry SGD from one minimum to another?",
    paper="Gotmare et al. 2019",
    answers=("barrier/sgdr",),
    figure="figure2",
    subject="{model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
    shared=("t", "layers", "*/rate", "*/rate_epoch", "plane-*"),
    own=task.showing("_conv"),
)
