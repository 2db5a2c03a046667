"""The trainer: many steps in one compiled call, resumed by calling it again."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import data, interrupts, nearest, parallel
from kd_heuristics.compiled import as_partial
from kd_heuristics.files import AnyPath
from kd_heuristics.integers import integer
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
    """A training became infinite or NaN; the message says when and where."""


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
    """Minimises an objective; the same call again resumes an interrupted training.

    Several steps run in one compiled call (a loop whose bounds are arguments), which
    is compiled once for one objective function, optimiser, batch function and set of
    shapes: give the same objects again to train another seed or another curve without
    compiling anew. The key of step s is a function of the seed and s alone, as is its
    batch, so a resumed run equals an uninterrupted one bit for bit on CPU.

    Args:
      objective: `(params, batch_stats, batch, key) -> (scalar, (batch_stats,
        metrics))`. The scalar is a float; metrics are a dictionary of scalars of any
        real type, averaged as floats, not named "stage", "step", "steps",
        "skipped_updates" or "objective value". Statistics keep the floating type that
        they start in. A `jax.tree_util.Partial` passes its arrays to the compiled call
        as arguments.
      params: where to start; left as it is.
      batch_stats: running statistics to start with, `{}` for none.
      optimizer: any optax transformation. It is passed the extra arguments `value` and
        `grad` of the batch, and the function `value_fn` (also as `obj_fn`) of the
        parameters. `bind` makes its numbers arguments, `ema` averages the parameters.
      batches: `(seed, step) -> batch`, pure; as of `data.train_batches`. Every array
        of a batch has the examples along axis 0; scalars are of the whole batch. Or a
        `data.Stream`, which has a seed of its own: `steps_per_call` batches are then
        on the devices at once, so choose it small.
      num_steps: steps in all.
      seed: of the batches and of the keys, an int32.
      micro_batches: a batch is split into so many parts, which run one after the other;
        their gradients are averaged before the update. Batch norm then has the
        statistics of a part, and its running statistics move once a part.
      mesh: devices over which each batch is split, as of `parallel.mesh`; parameters
        are on all of them. With several processes (`hosts`) they are those of all, and
        every process makes the same call.
      batch_norm: with a mesh, "global": batch norm has the statistics of the whole
        batch, and the training is that of one device. "device": of each device's
        examples, without an exchange in each layer; the running statistics are the
        means over the devices (of integers, rounded down), as are gradients and
        metrics, so the objective has to be a mean over examples. Each device then has a
        key of its own.
      log_every_steps: a metrics line holds the means since the line before. The steps
        of `keep_steps` and the last step have a line too.
      steps_per_call: largest number of steps in a compiled call; the bar moves once a
        call.
      evaluate: `state -> {name: number}`, added to each metrics line; no name may be
        "stage", "step" or "skipped_updates". The state is a copy, which it may keep.
      stage: names this training in the metrics file and in messages.
      metrics: file of the metrics lines; `None` disables logging.
      directory: of the checkpoints; `None` disables saving and resuming.
      keep_steps: steps whose checkpoint stays; 0 is the start.
      keep_last: number of the newest checkpoints to keep beside them; with one, a
        damaged one leaves nothing to resume from.
      score: `{name: number} -> number` of a metrics line; the checkpoint with the
        highest stays too: `checkpoints.best` finds it.
      checkpoint_every_logs: lines between two checkpoints to resume from.
      on_nonfinite: what an infinite or NaN number does. "raise" stops the run within
        one call, at the first objective or gradient of a step, or parameter or
        statistic after a call. "skip" leaves parameters, statistics and optimiser as
        they were in each step with such a number, counts it in the line's
        "skipped_updates" and takes the line's means over the other steps; a schedule
        that counts updates then lags behind the step. "record" continues, and the
        lines hold null, for studies of divergence.
      progress: called after each compiled call with the steps done since the call
        before (steps resumed from a checkpoint count) and the mean loss of the call.

    A longer training may follow a shorter one in the same directory, and gives the
    numbers and lines of an uninterrupted one. A resume with another seed, rate or bound
    array continues, and a `ResumeWarning` says what differs.

    Returns: the state after `num_steps`.

    Raises:
      NonFiniteError: a number is infinite or NaN, and on_nonfinite is "raise". The last
        checkpoint stays.
      CheckpointError: no checkpoint there is usable, they are of another model or of a
        longer training, or one cannot be written. Damaged ones raise a warning and are
        made again.
      RunError: the metrics file lacks lines of the steps that are done, or they were
        due at other steps by another `log_every_steps` or `keep_steps`.
      Interrupted: a signal was received, see `interrupts`; the checkpoint is written.
      ValueError: a count below 1, a step to keep outside [0, num_steps], a batch that
        micro_batches or the mesh does not divide, a metric that is no scalar or has a
        name that is taken.
      TypeError: a count that is no integer, batches that are no function, an objective
        that returns something else.
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
    """What `fit` and `population` share; `log` names each network."""
    plan = log.plan
    if not callable(batches):
        raise TypeError(
            "batches must be a function (seed, step) -> batch or a data.Stream, got a "
            f"{type(batches).__name__}: a resumed training asks for the batch of any "
            "step. data.train_batches makes one of a data.Dataset; of a list of equal "
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
    """On all devices, or each member on its own."""
    if form.spread == "examples":
        return parallel.replicate((recipe, state), form.mesh)
    step = parallel.replicate(state.step, form.mesh)
    own = (recipe, state.params, state.batch_stats, state.opt_state)
    recipe, *own = parallel.split_members(own, form.mesh)
    return recipe, TrainState(step, *own)


def _interval(call, state, stop, log, begun, progress):
    """Trains until `stop`, in calls of at most `steps_per_call`.

    `begun` is from before an interruption. The calls after are what they would have
    been, so that sums are taken in the same order.

    Returns: the state, the metrics' means, and what they are means of.
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
            # At the end of an interval its line is written first.
            if last < stop:
                log.interrupt(last, begun.at(last), state)
                raise
    return state, begun.at(stop).means(), begun


@jax.jit
def _copied(state):
    return jax.tree.map(jnp.copy, state)


def _evaluated(evaluate, state, members):
    # Copies: the next call takes the state's own arrays.
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
    """Raises for the first member with a step that is not finite."""
    for stage, (step, place) in zip(log.stages, np.atleast_2d(wrong), strict=True):
        if step != FINITE:
            raise NonFiniteError(
                f"{stage}: {where[place]} became infinite or NaN in step {step}; the "
                f"last good checkpoint: {log.last_good()}. Lower the learning rate, "
                'clip the gradient, or go on with on_nonfinite="skip" or "record" '
                "(--on-nonfinite)"
            )


def _check_stream(stream, form):
    """Raises where a stream's batches cannot be split, before anything is read."""
    if stream.mesh != form.mesh:
        raise ValueError(
            f"the stream puts batches on {stream.mesh}, training is on {form.mesh}; "
            "give the same mesh to both"
        )
    _check_batch(lambda seed, step: jnp.zeros(stream.batch_size), form)


def _check_batch(batches, form):
    """Raises where a batch cannot be split, before anything is compiled."""
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
