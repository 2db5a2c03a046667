"""The trainer: runs many steps per compiled call and resumes when called again."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import optax

from kd_heuristics.runtime.values import LARGEST, integer
from kd_heuristics.training.loop import train
from kd_heuristics.training.provenance import provenance
from kd_heuristics.training.recipe import Recipe, StepOptions
from kd_heuristics.training.recorder import Recorder
from kd_heuristics.training.settings import Checkpoints, Logging, with_old_keywords
from kd_heuristics.training.state import TrainState

PyTree = Any


def fit(
    objective: Callable,
    params: PyTree,
    batch_stats: PyTree = None,
    optimizer: optax.GradientTransformation | None = None,
    batches: Callable | None = None,
    *,
    num_steps: SupportsIndex,
    seed: SupportsIndex = 0,
    micro_batches: SupportsIndex = 1,
    mesh: jax.sharding.Mesh | None = None,
    batch_norm: str = "global",
    steps_per_call: SupportsIndex = 50,
    stage: str = "train",
    on_nonfinite: str = "raise",
    logging: Logging | None = None,
    checkpoints: Checkpoints | None = None,
    **old: Any,
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
      batch_stats: initial running statistics, and whatever else the objective carries
        from step to step, such as a memory bank; `None` or `{}` for none.
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
      steps_per_call: maximum steps per compiled call; progress is reported once per
        call.
      stage: name of this training in the metrics file and in messages.
      on_nonfinite: response to an infinite or NaN number. "raise" stops the run within
        one call, at the first such objective or gradient of a step, or parameter or
        statistic after a call. "skip" leaves parameters, statistics and optimiser
        unchanged in each step with such a number, counts the step in the line's
        "skipped_updates" and averages the line over the other steps; a schedule that
        counts updates then lags behind the step. "record" continues and writes null to
        the lines, for studies of divergence.
      logging: metrics lines and progress; `None` for the defaults of `Logging`.
      checkpoints: when and where to save; `None` disables checkpoints and resuming.
      **old: the fields of both, by themselves; deprecated.

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
      TypeError: a count is not an integer, batches is not a function, the objective
        returns another structure, or a keyword is unknown.
    """
    logging, checkpoints = with_old_keywords(logging, checkpoints, old)
    if optimizer is None or batches is None:
        raise TypeError(
            "fit needs optimizer= and batches=; only batch_stats is optional"
        )
    num_steps = integer("num_steps", num_steps, 1, LARGEST)
    steps_per_call = integer("steps_per_call", steps_per_call, 1)
    origins = [provenance(objective, optimizer, seed)]
    recorder = Recorder(num_steps, logging, checkpoints, [stage], origins)
    batch_stats = {} if batch_stats is None else batch_stats
    # A compiled call donates its state: the caller's arrays must outlive it, and an
    # optimiser's state may hold the parameters themselves.
    start = params, batch_stats, optimizer.init(params)
    state = TrainState(jnp.int32(0), *jax.tree.map(jnp.copy, start))
    recipe = Recipe.of(objective, optimizer, seed)
    options = StepOptions(
        micro_batches=integer("micro_batches", micro_batches, 1),
        mesh=mesh,
        on_nonfinite=on_nonfinite,
        batch_norm=batch_norm,
    )
    return train(recipe, state, batches, options, steps_per_call, recorder, logging)
