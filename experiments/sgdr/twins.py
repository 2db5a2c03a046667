"""Twins that branch off an SGDR run and see other batches, and the way between them.

Two copies of the network after k epochs train on, under one schedule, with the images
in other orders. From the k on from which the error hardly rises on the segment between
their ends, the minimum is decided by then: the network is stable to the noise of SGD
(linear mode connectivity, Frankle et al. 2020, arXiv 1912.05671). The run itself is one
of the copies. Both end at SGDR's last minimum.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import paths
from experiments.common.study import StudyRun, stacked
from experiments.common.task import Task
from experiments.sgdr import optimizers
from experiments.sgdr.iterates import Iterates
from kd_heuristics import checkpoints, curves, training

ARM = "sgdr"
_OTHER = 500_000  # more than there are seeds


def name(epochs: int) -> str:
    """The name of the twins that branch off after so many epochs.

    >>> name(8)
    'twin8'
    """
    return f"twin{epochs}"


def seed_of(seed: int) -> int:
    """The seed of a twin's batches, which no run of the study has."""
    return seed + _OTHER


def compare_all(
    run: StudyRun, its: Task, nets: Iterates, rates: np.ndarray, t: np.ndarray
) -> dict[str, np.ndarray]:
    """Trains the twins and evaluates the segments to the runs that they left.

    Args:
      run: run of the SGDR study.
      its: task of all networks.
      nets: the trained runs.
      rates: of SGDR, [steps].
      t: places on the segments.

    Returns: `{"twin8/test_loss": [seeds, epochs], "twin8/segment/test_accuracy":
      [seeds, t], "twin8/distance": [seeds], ...}`.
    """
    arrays: dict[str, np.ndarray] = {}
    refresh = paths.refresh(run.config, its, run.config.stats_examples)
    for epochs in run.config.twin_epochs:
        twins = train(run, its, nets, rates, epochs)
        arrays |= run.logged(name(epochs), ("test_loss", "test_accuracy"))
        found = [
            run.stage(
                f"{name(epochs)}-seed{seed}",
                evaluate,
                *(run, its, nets, t, refresh, twins, seed),
            )
            for seed in run.seeds
        ]
        arrays |= {f"{name(epochs)}/{key}": v for key, v in stacked(found).items()}
    return arrays


def train(
    run: StudyRun, its: Task, nets: Iterates, rates: np.ndarray, epochs: int
) -> Any:
    """The parameters of the twins after SGDR's last minimum, stacked over seeds."""
    config = run.config
    run.progress.training(f"training twins from epoch {epochs} on")
    optimizer = training.bind(optimizers.sgd(config), jnp.asarray(rates))
    state = branched(run, its, nets, optimizer, epochs)
    members = []
    for seed in run.seeds:
        own = training.member(state, nets.runs.index((ARM, seed)))
        given = jax.tree_util.Partial(_given, own.opt_state)
        members.append(
            training.Member(
                objective=its.classifier.supervised,
                params=own.params,
                batch_stats=own.batch_stats,
                # With the momentum and the count of steps of the run that it leaves.
                optimizer=optax.GradientTransformation(given, optimizer.update),
                seed=seed_of(seed),
                stage=f"{name(epochs)}-seed{seed}",
            )
        )
    length = config.last_minimum + 1 - epochs
    trained = run.train(name(epochs), members, its, length, evaluate=its.tested)
    return trained.params


def branched(
    run: StudyRun,
    its: Task,
    nets: Iterates,
    optimizer: optax.GradientTransformation,
    epochs: int,
) -> training.TrainState:
    """The state of all runs after some epochs, optimisers included."""
    params, batch_stats = its.start(run.config.first_seed)
    state = params, batch_stats, optimizer.init(params)

    def of_all(leaf):
        shape = len(nets.runs), *jnp.shape(leaf)
        return jax.ShapeDtypeStruct(shape, jnp.asarray(leaf).dtype)

    step = jax.ShapeDtypeStruct((), jnp.int32)
    like = training.TrainState(step, *jax.tree.map(of_all, state))
    folder = run.folder.checkpoints("train")
    found = checkpoints.restore(folder, like, step=epochs * its.steps_per_epoch)
    return training.TrainState(found.step, *its.place(_arrays(found)))


def _arrays(state):
    return state.params, state.batch_stats, state.opt_state


def _given(state, params):
    """Starts an optimiser from a state that is there already."""
    del params
    return state


def evaluate(run, its, nets, t, refresh, twins, seed) -> dict[str, np.ndarray]:
    """Metrics on the segment from a run to its twin, and their distance."""
    run.progress.stage(f"seed {seed}: segment between twins")
    first = nets.at(ARM, seed, run.config.last_minimum)
    index = run.seeds.index(seed)
    second = jax.tree.map(lambda leaf: leaf[index], twins)
    found = paths.evaluate(
        curves.line(first, second),
        t,
        its.sets,
        its.classifier.metric,
        lambda count: run.progress.advance(count * its.point_steps),
        refresh,
    )
    along = {f"segment/{key}": values for key, values in found.items()}
    return along | {"distance": np.asarray(float(curves.distance(first, second)))}


def rise(accuracy: np.ndarray) -> np.ndarray:
    """The instability: the highest error on a segment above the mean of its ends'.

    Args:
      accuracy: [..., t], from one end to the other.

    Returns: [...], in points, at least 0.

    >>> float(rise(np.array([0.75, 0.5, 1.0])))
    37.5
    """
    ends = (accuracy[..., 0] + accuracy[..., -1]) / 2
    return 100 * np.maximum(ends - accuracy.min(-1), 0)
