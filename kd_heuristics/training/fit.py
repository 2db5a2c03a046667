"""The trainer: many steps in one compiled call, resumed by calling it again."""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics import checkpoints
from kd_heuristics.compiled import as_partial
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.state import TrainState

PyTree = Any


class NonFiniteError(Exception):
    """The objective became infinite or NaN; the message names the stage and steps."""


def fit(
    objective: Callable,
    params: PyTree,
    batch_stats: PyTree,
    optimizer: optax.GradientTransformation,
    batches: Callable,
    *,
    num_steps: int,
    seed: int = 0,
    log_every_steps: int = 100,
    steps_per_call: int = 50,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    stage: str = "train",
    metrics: MetricsFile | None = None,
    directory: str | Path | None = None,
    keep_steps: Collection[int] = (),
    checkpoint_every_logs: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> TrainState:
    """Minimises an objective; the same call again goes on where it was interrupted.

    Several steps run in one compiled call (a loop whose bounds are arguments), which
    is compiled once for one objective function, optimiser, batch function and set of
    shapes: give the same objects again to train another seed or another curve without
    compiling anew. The key of step s is a function of the seed and s alone, as is its
    batch, so a resumed run equals an uninterrupted one bit for bit on CPU.

    Args:
      objective: `(params, batch_stats, batch, key) -> (scalar, (batch_stats,
        metrics))`, metrics a dictionary of scalars. A `jax.tree_util.Partial` passes
        its arrays to the compiled call as arguments.
      params: where to start; left as it is.
      batch_stats: running statistics to start with, `{}` for none.
      optimizer: any optax transformation; `bind` makes its numbers arguments.
      batches: `(seed, step) -> batch`, pure; as of `data.train_batches`.
      num_steps: steps in all.
      seed: of the batches and of the keys, an int32.
      log_every_steps: a metrics line holds the means since the line before. The steps
        of `keep_steps` and the last step have a line too.
      steps_per_call: at most so many steps a compiled call; the bar moves once a call.
      evaluate: `state -> {name: number}`, added to each metrics line.
      stage: names this training in the metrics file and in messages.
      metrics: where the lines go; None: nowhere.
      directory: of the checkpoints; None: none are written, and nothing is resumed.
      keep_steps: steps whose checkpoint stays; 0 is the start.
      checkpoint_every_logs: a checkpoint to resume from every so many lines; only the
        newest of these is kept.
      progress: called after each compiled call with the steps done since the call
        before (steps resumed from a checkpoint count) and the mean loss of the call.

    Returns: the state after `num_steps`.

    Raises:
      NonFiniteError: the objective's value is infinite or NaN. The last checkpoint
        stays.
      CheckpointError: the checkpoint to resume from is damaged or another model's.
      ValueError: a count below 1, or a step to keep outside [0, num_steps].
    """
    _check(
        num_steps, log_every_steps, steps_per_call, checkpoint_every_logs, keep_steps
    )
    # A compiled call donates its state; the caller's arrays must outlive it.
    params, batch_stats = jax.tree.map(jnp.copy, (params, batch_stats))
    state = TrainState(jnp.int32(0), params, batch_stats, optimizer.init(params))
    log = _Log(stage, metrics, directory, frozenset(keep_steps) | {num_steps})
    state = log.resume(state)
    if progress is not None and int(state.step):
        progress(int(state.step), math.nan)
    update = as_partial(optimizer.update)
    objective, batches = as_partial(objective), as_partial(batches)

    def advance(state, last):
        state, sums = _advance(objective, update, state, batches, seed, last)
        return state, {name: float(value) for name, value in sums.items()}

    for number, stop in _stops(num_steps, log_every_steps, keep_steps):
        if stop <= int(state.step):
            continue
        state, means = _interval(advance, state, stop, steps_per_call, stage, progress)
        log.line(stop, means | dict({} if evaluate is None else evaluate(state)))
        if number % checkpoint_every_logs == 0 or stop in log.keep_steps:
            log.checkpoint(state, stop)
    return state


_VALUE = "objective value"  # beside the metrics, whose names are the objective's


@functools.partial(jax.jit, donate_argnames="state")
def _advance(objective, update, state, batches, seed, last_step):
    """Steps until `last_step`; the sums over them of the metrics and the objective.

    The bounds are arguments, so that intervals of any length share one program.
    """

    def step(state):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = batches(seed, state.step)
        (value, (batch_stats, metrics)), gradient = jax.value_and_grad(
            objective, has_aux=True
        )(state.params, state.batch_stats, batch, key)
        updates, opt_state = update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(state.step + 1, params, batch_stats, opt_state)
        return state, dict(metrics) | {_VALUE: value}

    def body(carry):
        state, values = step(carry[0])
        return state, jax.tree.map(jnp.add, carry[1], values)

    shapes = jax.eval_shape(step, state)[1]
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.while_loop(
        lambda carry: carry[0].step < last_step, body, (state, sums)
    )


def _interval(advance, state, stop, steps_per_call, stage, progress):
    """Trains until `stop`, in calls of at most `steps_per_call`; the metrics' means."""
    first = step = int(state.step)
    totals: dict[str, float] = {}
    while step < stop:
        last = min(step + steps_per_call, stop)
        state, sums = advance(state, last)
        value = sums.pop(_VALUE)
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{stage}: the objective became {value} between steps {step} and {last}"
                "; lower the learning rate or clip the gradient"
            )
        totals = {name: totals.get(name, 0.0) + sums[name] for name in sums}
        if progress is not None:
            progress(last - step, value / (last - step))
        step = last
    return state, {name: total / (stop - first) for name, total in totals.items()}


class _Log:
    """Lines and checkpoints of one stage, and the way back to the newest of them."""

    def __init__(self, stage, metrics, directory, keep_steps):
        self.stage, self.metrics, self.directory = stage, metrics, directory
        self.keep_steps = keep_steps

    def resume(self, state):
        if self.directory is not None:
            if checkpoints.steps(self.directory):
                state = checkpoints.restore(self.directory, state)
            elif 0 in self.keep_steps:
                checkpoints.save(self.directory, 0, state)
        if self.metrics is not None:
            self.metrics.cut(self.stage, int(state.step))
        return state

    def line(self, step, values):
        if self.metrics is not None:
            self.metrics.append(self.stage, step, values)

    def checkpoint(self, state, step):
        # After the line: a kill between the two repeats a line, which resume cuts.
        if self.directory is None:
            return
        checkpoints.save(self.directory, step, state)
        for old in checkpoints.steps(self.directory):
            if old < step and old not in self.keep_steps:
                checkpoints.remove(self.directory, old)


def _stops(num_steps, log_every_steps, keep_steps):
    """Where a metrics line is due, numbered from 1."""
    every = range(log_every_steps, num_steps + 1, log_every_steps)
    return enumerate(sorted({*every, *keep_steps, num_steps} - {0}), start=1)


def _check(num_steps, log_every_steps, steps_per_call, checkpoint_every_logs, keep):
    counts = {
        "num_steps": num_steps,
        "log_every_steps": log_every_steps,
        "steps_per_call": steps_per_call,
        "checkpoint_every_logs": checkpoint_every_logs,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    outside = [step for step in keep if not 0 <= step <= num_steps]
    if outside:
        raise ValueError(f"keep_steps must lie in [0, {num_steps}], got {outside}")
