"""The training loop: compiled calls, with metrics lines and checkpoints between."""

import contextlib
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import data
from kd_heuristics.runtime import interrupts, nearest, parallel
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.training.line_sums import LineSums
from kd_heuristics.training.metrics import SKIPPED, VALUE, check_names
from kd_heuristics.training.recipe import Recipe, StepOptions
from kd_heuristics.training.recorder import Recorder
from kd_heuristics.training.settings import Logging
from kd_heuristics.training.state import TrainState
from kd_heuristics.training.step import FINITE, advance, places, trace


class NonFiniteError(Exception):
    """Infinite or NaN values in a training; the message says when and where."""


def train(
    recipe: Recipe,
    state: TrainState,
    batches: Callable,
    options: StepOptions,
    steps_per_call: int,
    recorder: Recorder,
    logging: Logging,
) -> TrainState:
    """Train the networks that `recorder` names; shared by `fit` and `population`.

    A call ends at the next metrics line or after `steps_per_call` steps. After an
    interruption the calls keep these bounds, so that sums are added in the same order.
    """
    recipe, state, windows = _prepared(recipe, state, batches, options, steps_per_call)
    state, sums = recorder.resume(state)
    where, members, progress = places(state), len(recorder.stages), logging.progress
    if progress is not None and int(state.step):
        progress(int(state.step) * members, math.nan)
    with windows as read:
        while (step := int(state.step)) < recorder.num_steps:
            sums = sums.at(step, steps_per_call)
            stop = recorder.next_stop(step)
            last = min(sums.first + steps_per_call, stop)
            more = {"sums": sums.sums} if sums.sums else {}
            state, found, wrong = advance(
                recipe, state, read(step, last), last, options, **more
            )
            _raise_nonfinite(parallel.to_host(wrong), where, recorder)
            sums = sums._replace(sums=parallel.to_host(found))
            try:
                if progress is not None:
                    mean = float(sums.sums[VALUE].mean()) / (last - sums.first)
                    progress((last - step) * members, mean)
                interrupts.check()
            except interrupts.Interrupted:
                if last < stop:  # else the line is written first
                    recorder.interrupt(last, sums.at(last), state)
                    raise
            if last == stop:
                values = sums.at(stop).means()
                if logging.evaluate is not None:
                    values |= _evaluated(logging.evaluate, state, members)
                recorder.write(stop, values, state, sums)
                sums = LineSums.after(stop)
                try:
                    interrupts.check()
                except interrupts.Interrupted:
                    recorder.interrupt(stop, sums, state)
                    raise
    if options.spread == "members" and options.mesh is not None:
        state = parallel.replicate(state, options.mesh)
    return state


def _prepared(recipe, state, batches, options, steps_per_call):
    """Check the batches, place everything on the mesh and trace a step.

    Returns: recipe, state, and a context manager of `(first step, last step)
      -> batches` for a compiled call.
    """
    if not callable(batches):
        raise TypeError(
            "batches must be a function (seed, step) -> batch or a data.Stream, got a "
            f"{type(batches).__name__}: a resumed training asks for the batch of any "
            "step. Use data.train_batches for a data.Dataset; for a list of equal "
            "batches, stack them and take entry step % len(batches)"
        )
    streamed = isinstance(batches, data.Stream)
    if streamed:
        _check_stream(batches, options)
        windows = batches.windows(steps_per_call)
    else:
        batches = as_partial(batches)
        _check_batch(batches, options)
        if options.mesh is not None:
            batches = parallel.replicate(batches, options.mesh)
        windows = contextlib.nullcontext(lambda first, last: batches)
    if options.mesh is not None:
        recipe, state = _placed(recipe, state, options)
    if not streamed:  # a stream's first batch is yet to be read
        trace(recipe, state, batches, options)
    return recipe, state, windows


def _placed(recipe, state, options):
    """Replicate recipe and state on all devices, or distribute the members."""
    if options.spread == "examples":
        return parallel.replicate((recipe, state), options.mesh)
    step = parallel.replicate(state.step, options.mesh)
    own = (recipe, state.params, state.batch_stats, state.opt_state)
    recipe, *own = parallel.split_members(own, options.mesh)
    return recipe, TrainState(step, *own)


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


def _raise_nonfinite(wrong, where, recorder):
    """Raise `NonFiniteError` for the first member with a non-finite step."""
    for stage, (step, place) in zip(recorder.stages, np.atleast_2d(wrong), strict=True):
        if step != FINITE:
            raise NonFiniteError(
                f"{stage}: {where[place]} became infinite or NaN in step {step}; the "
                f"last good checkpoint: {recorder.last_good()}. Lower the learning "
                'rate, clip the gradient, or continue with on_nonfinite="skip" or '
                '"record" (--on-nonfinite)'
            )


def _check_stream(stream, options):
    """Raise if a stream's batches cannot be split, before reading anything."""
    if stream.mesh != options.mesh:
        raise ValueError(
            f"the stream puts batches on {stream.mesh}, but training runs on "
            f"{options.mesh}; give the same mesh to both"
        )
    _check_batch(lambda seed, step: jnp.zeros(stream.batch_size), options)


def _check_batch(batches, options):
    """Raise if a batch cannot be split, before compiling anything."""
    nearest.choose(options.batch_norm, ("global", "device"), "batch_norm")
    if options.micro_batches == 1 and not options.per_device:
        return
    for leaf in jax.tree.leaves(jax.eval_shape(batches, jnp.int32(0), jnp.int32(0))):
        if leaf.ndim == 0:
            continue
        part, rest = divmod(leaf.shape[0], options.micro_batches)
        if rest:
            raise ValueError(
                f"a batch of {leaf.shape[0]} cannot be split into "
                f"{options.micro_batches} micro-batches; choose a multiple of "
                f"{options.micro_batches}"
            )
        if options.per_device:  # shard_map has parts of one size only
            parallel.check_divides(part, options.batch_mesh)
