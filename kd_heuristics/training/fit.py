"""The trainer: runs many steps per compiled call and resumes when called again."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import data
from kd_heuristics.runtime import interrupts, nearest, parallel
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.files import AnyPath
from kd_heuristics.runtime.values import integer
from kd_heuristics.training.begun import Begun
from kd_heuristics.training.form import Form, Recipe
from kd_heuristics.training.log import Log, Plan
from kd_heuristics.training.metrics import MetricsFile, check_names
from kd_heuristics.training.origin import origin
from kd_heuristics.training.outputs import SKIPPED, VALUE
from kd_heuristics.training.state import TrainState
from kd_heuristics.training.step import FINITE, advance, places, trace

PyTree = Any


class NonFiniteError(Exception):
    """Infinite or NaN values in a training; the message says when and where."""


def fit(
    objective: Callable,
    params: PyTree,
    batch_stats: PyTree,
    optimizer: optax.GradientTransformation,
    batches: Callable,
    *,
    num_steps: SupportsIndex,
    seed: SupportsIndex = 0,
    micro_batches: SupportsIndex = 1,
    mesh: jax.sharding.Mesh | None = None,
    batch_norm: str = "global",
    log_every_steps: SupportsIndex = 100,
    steps_per_call: SupportsIndex = 50,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    stage: str = "train",
    metrics: MetricsFile | None = None,
    directory: AnyPath | None = None,
    keep_steps: Collection[SupportsIndex] = (),
    keep_last: SupportsIndex = 2,
    score: Callable[[Mapping[str, float]], float] | None = None,
    checkpoint_every_logs: SupportsIndex = 1,
    on_nonfinite: str = "raise",
    progress: Callable[[int, float], None] | None = None,
) -> TrainState:
    """Minimise an objective; the same call again resumes an interrupted training.

    Several steps run in one compiled call, a loop whose bounds are arguments. The call
    is compiled once per objective function, optimiser, batch function and set of
    shapes. Pass the same objects again to train another seed or another curve without
    recompiling. The key and the batch of step s depend on the seed and s alone, so a
    resumed run equals an uninterrupted one bit for bit on CPU.

    Args:
      objective: `(params, batch_stats, batch, key) -> (scalar, (batch_stats,
        metrics))`. The scalar is a float. Metrics are a dictionary of scalars of any
        real type, averaged as floats; the names "stage", "step", "steps",
        "skipped_updates" and "objective value" are reserved. Statistics keep their
        initial floating type. A `jax.tree_util.Partial` passes its arrays to the
        compiled call as arguments.
      params: initial parameters; not modified.
      batch_stats: initial running statistics; `{}` for none.
      optimizer: any optax transformation. It receives the extra arguments `value` and
        `grad` of the batch, and the function `value_fn` (also as `obj_fn`) of the
        parameters. `bind` turns its numbers into arguments; `ema` averages the
        parameters.
      batches: pure function `(seed, step) -> batch`, for instance from
        `data.train_batches`. Arrays have the examples along axis 0; scalars apply to
        the whole batch. Or a `data.Stream`, which has its own seed; it puts
        `steps_per_call` batches on the devices at once, so choose that number small.
      num_steps: total number of steps.
      seed: int32 seed of the batches and keys.
      micro_batches: number of parts into which each batch is split. The parts run one
        after the other and their gradients are averaged before the update. Batch norm
        then uses the statistics of a part and updates its running statistics once per
        part.
      mesh: devices over which each batch is split, from `parallel.mesh`; all of them
        hold the parameters. With several processes (`hosts`) the mesh spans the devices
        of all, and every process makes the same call.
      batch_norm: with a mesh, "global" normalises by the statistics of the whole batch,
        so that the training is that of one device. "device" normalises by those of each
        device's examples, without communication in each layer. Running statistics,
        gradients and metrics are then means over the devices (integers are rounded
        down), so the objective must be a mean over examples; each device has its own
        key.
      log_every_steps: steps between metrics lines; a line holds the means since the
        previous one. The steps of `keep_steps` and the last step also have a line.
      steps_per_call: maximum steps per compiled call; progress is reported once per
        call.
      evaluate: `state -> {name: number}`, added to each metrics line; the names
        "stage", "step" and "skipped_updates" are reserved. The state is a copy, which
        the function may keep.
      stage: name of this training in the metrics file and in messages.
      metrics: metrics file; `None` disables logging.
      directory: checkpoint folder; `None` disables checkpoints and resuming.
      keep_steps: steps whose checkpoints are kept; 0 is the start.
      keep_last: recent checkpoints to keep in addition to `keep_steps`. With 1, a
        damaged checkpoint cannot be recovered.
      score: `{name: number} -> number` of a metrics line. The checkpoint with the
        highest score is kept too; `checkpoints.best` finds it.
      checkpoint_every_logs: metrics lines per checkpoint to resume from.
      on_nonfinite: response to an infinite or NaN number. "raise" stops the run within
        one call, at the first such objective or gradient of a step, or parameter or
        statistic after a call. "skip" leaves parameters, statistics and optimiser
        unchanged in each step with such a number, counts the step in the line's
        "skipped_updates" and averages the line over the other steps; a schedule that
        counts updates then lags behind the step. "record" continues and writes null to
        the lines, for studies of divergence.
      progress: called after each compiled call with the number of steps since the
        previous call (steps resumed from a checkpoint count) and the mean loss of the
        call.

    A longer training may continue a shorter one in the same directory; its numbers and
    lines equal those of an uninterrupted one. A resume with another seed, rate or bound
    array continues, and a `ResumeWarning` names the differences.

    Returns: the state after `num_steps`.

    Raises:
      NonFiniteError: a number is infinite or NaN, and on_nonfinite is "raise". The last
        checkpoint is kept.
      CheckpointError: no existing checkpoint is usable, the checkpoints belong to
        another model or a longer training, or one cannot be written. A warning names
        damaged checkpoints, which are written again.
      RunError: the metrics file lacks lines of completed steps, or another
        `log_every_steps` or `keep_steps` placed them at other steps.
      Interrupted: a signal was received, see `interrupts`; the checkpoint is written.
      ValueError: a count is below 1, a step to keep lies outside [0, num_steps],
        micro_batches or the mesh does not divide a batch, or a metric is not a scalar
        or has a reserved name.
      TypeError: a count is not an integer, batches is not a function, or the objective
        returns another structure.
    """
    plan = Plan.of(
        num_steps=num_steps,
        log_every_steps=log_every_steps,
        steps_per_call=steps_per_call,
        metrics=metrics,
        directory=directory,
        keep_steps=keep_steps,
        keep_last=keep_last,
        score=score,
        checkpoint_every_logs=checkpoint_every_logs,
        on_nonfinite=on_nonfinite,
    )
    # A compiled call donates its state: the caller's arrays must outlive it, and an
    # optimiser's state may hold the parameters themselves.
    start = params, batch_stats, optimizer.init(params)
    state = TrainState(jnp.int32(0), *jax.tree.map(jnp.copy, start))
    recipe = Recipe.of(objective, optimizer, seed)
    form = Form(
        micro_batches=integer("micro_batches", micro_batches, 1),
        mesh=mesh,
        on_nonfinite=on_nonfinite,
        batch_norm=batch_norm,
    )
    origins = [origin(objective, optimizer, seed)]
    log = Log(plan, [stage], origins)
    return train(recipe, state, batches, form, log, evaluate, progress)


def train(
    recipe: Recipe,
    state: TrainState,
    batches: Callable,
    form: Form,
    log: Log,
    evaluate: Callable[[TrainState], Mapping[str, Any]] | None,
    progress: Callable[[int, float], None] | None,
) -> TrainState:
    """Train the networks that `log` names; shared by `fit` and `population`."""
    plan = log.plan
    if not callable(batches):
        raise TypeError(
            "batches must be a function (seed, step) -> batch or a data.Stream, got a "
            f"{type(batches).__name__}: a resumed training asks for the batch of any "
            "step. Use data.train_batches for a data.Dataset; for a list of equal "
            "batches, stack them and take entry step % len(batches)"
        )
    if isinstance(batches, data.Stream):
        _check_stream(batches, form)
        read_from = batches.windows(plan.steps_per_call)
    else:
        batches = as_partial(batches)
        _check_batch(batches, form)
        if form.mesh is not None:
            batches = parallel.replicate(batches, form.mesh)
        read_from = contextlib.nullcontext(lambda first, last: batches)
    if form.mesh is not None:
        recipe, state = _placed(recipe, state, form)
    if not isinstance(batches, data.Stream):  # whose first batch is yet to be read
        trace(recipe, state, batches, form)
    state, begun = log.resume(state)
    if progress is not None and int(state.step):
        progress(int(state.step) * len(log.stages), math.nan)
    where = places(state)

    with read_from as read:

        def call(state, last, sums):
            of_call = read(int(state.step), last)
            more = {"sums": sums} if sums else {}
            state, sums, wrong = advance(recipe, state, of_call, last, form, **more)
            _raise_nonfinite(parallel.to_host(wrong), where, log)
            return state, parallel.to_host(sums)

        for number, stop in enumerate(plan.stops(), start=1):
            if stop <= int(state.step):
                continue
            state, values, begun = _interval(call, state, stop, log, begun, progress)
            if evaluate is not None:
                values |= _evaluated(evaluate, state, len(log.stages))
            log.write(number, stop, values, state, begun)
            begun = Begun.after(stop)
            try:
                interrupts.check()
            except interrupts.Interrupted:
                log.interrupt(stop, begun, state)
                raise
    if form.spread == "members" and form.mesh is not None:
        state = parallel.replicate(state, form.mesh)
    return state


def _placed(recipe, state, form):
    """Replicate recipe and state on all devices, or distribute the members."""
    if form.spread == "examples":
        return parallel.replicate((recipe, state), form.mesh)
    step = parallel.replicate(state.step, form.mesh)
    own = (recipe, state.params, state.batch_stats, state.opt_state)
    recipe, *own = parallel.split_members(own, form.mesh)
    return recipe, TrainState(step, *own)


def _interval(call, state, stop, log, begun, progress):
    """Train until `stop`, in calls of at most `steps_per_call` steps.

    `begun` holds the sums from before an interruption. Later calls have the same bounds
    as without it, so that the order of summation is the same.

    Returns: the state, the metric means, and the sums behind them.
    """
    members = len(log.stages)
    while (step := int(state.step)) < stop:
        begun = begun.at(step, log.plan.steps_per_call)
        last = min(begun.first + log.plan.steps_per_call, stop)
        state, sums = call(state, last, begun.sums)
        begun = begun._replace(sums=sums)
        try:
            if progress is not None:
                mean = float(sums[VALUE].mean()) / (last - begun.first)
                progress((last - step) * members, mean)
            interrupts.check()
        except interrupts.Interrupted:
            # At the end of an interval, `train` writes the line first.
            if last < stop:
                log.interrupt(last, begun.at(last), state)
                raise
    return state, begun.at(stop).means(), begun


@jax.jit
def _copied(state):
    """Returns a copy that survives the donation of the state."""
    return jax.tree.map(jnp.copy, state)


def _evaluated(evaluate, state, members):
    """Returns the user's metrics of the state, with names and shapes checked."""
    # A copy, because the next call donates the state's own arrays.
    found = dict(evaluate(_copied(state)))
    check_names(found, (SKIPPED,))
    for name, value in found.items():
        if np.shape(value) not in ((), (members,)):
            raise ValueError(
                f"evaluate must return a number for {name!r}"
                + (f", or one for each of {members} members" if members > 1 else "")
                + f", got shape {list(np.shape(value))}"
            )
    return found


def _raise_nonfinite(wrong, where, log):
    """Raise `NonFiniteError` for the first member with a non-finite step."""
    for stage, (step, place) in zip(log.stages, np.atleast_2d(wrong), strict=True):
        if step != FINITE:
            raise NonFiniteError(
                f"{stage}: {where[place]} became infinite or NaN in step {step}; the "
                f"last good checkpoint: {log.last_good()}. Lower the learning rate, "
                'clip the gradient, or continue with on_nonfinite="skip" or "record" '
                "(--on-nonfinite)"
            )


def _check_stream(stream, form):
    """Raise if a stream's batches cannot be split, before reading anything."""
    if stream.mesh != form.mesh:
        raise ValueError(
            f"the stream puts batches on {stream.mesh}, but training runs on "
            f"{form.mesh}; give the same mesh to both"
        )
    _check_batch(lambda seed, step: jnp.zeros(stream.batch_size), form)


def _check_batch(batches, form):
    """Raise if a batch cannot be split, before compiling anything."""
    nearest.choose(form.batch_norm, ("global", "device"), "batch_norm")
    if form.micro_batches == 1 and not form.per_device:
        return
    for leaf in jax.tree.leaves(jax.eval_shape(batches, jnp.int32(0), jnp.int32(0))):
        if leaf.ndim == 0:
            continue
        part, rest = divmod(leaf.shape[0], form.micro_batches)
        if rest:
            raise ValueError(
                f"a batch of {leaf.shape[0]} cannot be split into {form.micro_batches} "
                f"micro-batches; choose a multiple of {form.micro_batches}"
            )
        if form.per_device:  # shard_map has parts of one size only
            parallel.check_divides(part, form.batch_mesh)
