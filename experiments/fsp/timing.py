"""Times of the steps of the fast phase, and how much faster it is than full training.

The paper: 16 seconds for 100 steps on labels, 35 on flow matrices, 19 on stored ones.
Three nets in full take 1.78 times as long as three after one first stage on flow
matrices; 2.18 and, shuffled, 1.39 times with stored matrices. Times depend on the
machine, so they have a file of their own, timing.json, beside results.json.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from experiments.common import clocks
from experiments.common.figures import TIMING
from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.fsp import lessons, tasks
from experiments.fsp.config import Config
from experiments.fsp.nets import distance
from kd_heuristics import distill, training
from kd_heuristics.runtime import hosts

# Of the three: the row, and where the flow matrices come from.
WAYS = {
    "flow matrices computed": ("student", "flow"),
    "flow matrices stored": ("student", "stored"),
    "shuffled, stored": ("shuffled", "stored"),
}
PAPERS = {
    "flow matrices computed": 1.78,
    "flow matrices stored": 2.18,
    "shuffled, stored": 1.39,
}
PAPERS_SECONDS = {"labels": 0.16, "flow": 0.35, "stored": 0.19}  # of a step


def write(run: StudyRun, its: Mapping[tuple[str, str], Task]) -> None:
    """Measures once for a run folder and writes timing.json."""
    if hosts.first((run.folder.path / TIMING).exists):
        return
    run.progress.stage("timing steps")
    seconds = measure(run.config, its["all", "large"])
    found = {
        clock: ratios(run.config, {kind: own[clock] for kind, own in seconds.items()})
        for clock in ("wall", "cpu")
    }
    run.folder.write_json(TIMING, {"seconds_of_a_step": seconds, "ratios": found})


def measure(config: Config, its: Task) -> dict[str, dict[str, float]]:
    """Seconds of a step of one net by kind of stage and by clock, "wall" and "cpu".

    Stored matrices are constants of the batch's shape, in memory already.
    """
    teacher = training.with_stats(*its.start(1))
    learner, taught, pairs = lessons.flow(config, "large", its, its)
    theirs = tasks.maps(config, "large", its)
    known = teacher, lessons.orders(theirs, pairs, None)
    stored = jax.jit(taught)(known, its.batches(0, 0))
    loss = jax.tree_util.Partial(distance, jnp.float32(config.pair_weight))
    objectives = {
        "labels": its.classifier.supervised,
        "flow": distill.matching_stage(learner, distill.Teacher(taught, known), loss),
        "stored": distill.matching_stage(
            learner, distill.Teacher(_stored, stored), loss
        ),
    }
    optimizer = training.sgd(1e-4, config.momentum, config.weight_decay)

    def train(objective, steps):
        state = training.fit(
            objective,
            *its.start(0),
            optimizer,
            its.batches,
            num_steps=steps,
            mesh=its.mesh,
            batch_norm=config.batch_norm,
        )
        jax.block_until_ready(state.params)

    return {
        kind: clocks.of_a_step(
            lambda steps, own=own: train(own, steps), config.timing_steps
        )
        for kind, own in objectives.items()
    }


def _stored(matrices, batch):
    """A teacher that only reads its matrices."""
    del batch
    return matrices


def ratios(config: Config, seconds: Mapping[str, float]) -> dict[str, float]:
    """How many times as long the nets take in full as after a first stage.

    Args:
      config: of the study.
      seconds: of a step on "labels", on the "flow", and on the "stored" flow.
    """
    full = config.iterations("teacher") * seconds["labels"]
    found = {}
    for way, (arm, kind) in WAYS.items():
        if arm not in config.rows:
            continue
        last = config.nets * config.last_phase(arm).steps
        first = config.iterations(arm) - last
        found[way] = full / (last * seconds["labels"] + first * seconds[kind])
    return found
