"""The compiled part of training: many steps of one network, or of many, in one call."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics import compiled, data, parallel
from kd_heuristics.training.metrics import check_names
from kd_heuristics.training.state import TrainState

PyTree = Any
# Beside the metrics, whose names are the objective's: it cannot take these.
VALUE, STEPS, SKIPPED = "objective value", "steps", "skipped_updates"
FINITE = -1  # in place of the step that is not finite


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recipe:
    """What stays the same during a training; functions as `jax.tree_util.Partial`."""

    objective: Any
    update: Any
    seed: Any


@dataclasses.dataclass(frozen=True)
class Form:
    """What of a compiled call is static.

    Attributes:
      members: "one", or "map" or "vmap" over a leading axis of recipe and state.
      at_once: with "vmap", at most so many members at a time; None: all.
      micro_batches: parts of a batch whose gradients are averaged.
      mesh: the devices over which each batch is split; None: wherever the data lies.
      spread: what the mesh splits, each batch ("examples") or the population
        ("members", with "vmap" over all of them).
      batch_norm: "global": statistics of the whole batch, or of a part of it; "device":
        of each device's examples.
      on_nonfinite: "raise" finds the first step that is not finite, "skip" leaves such
        updates out, "record" does neither.
    """

    members: str = "one"
    at_once: int | None = None
    micro_batches: int = 1
    mesh: jax.sharding.Mesh | None = None
    on_nonfinite: str = "record"
    spread: str = "examples"
    batch_norm: str = "global"

    @property
    def per_device(self) -> bool:
        """Whether batch norm sees each device's examples alone."""
        return self.batch_norm == "device" and self.batch_mesh is not None

    @property
    def batch_mesh(self) -> jax.sharding.Mesh | None:
        """The devices over which each batch is split."""
        return self.mesh if self.spread == "examples" else None


@functools.partial(compiled.jit, static_argnames="form", donate_argnames="state")
def advance(recipe, state, batches, last_step, form):
    """Steps until `last_step`; the new state, the sums of metrics, and what is wrong.

    The bounds are arguments, so that intervals of any length share one program. The
    third are int32 [2] a member: the first step that is not finite, FINITE for none,
    and which of `places` it is in.
    """
    if form.members == "one":
        return _run(recipe, state, batches, last_step, form)

    def member(leaves):
        recipe, params, batch_stats, opt_state = leaves
        # The step is every member's: left out of the axis, it stays a scalar loop
        # bound under vmap.
        alone = TrainState(state.step, params, batch_stats, opt_state)
        return _run(recipe, alone, batches, last_step, form)

    leaves = (recipe, state.params, state.batch_stats, state.opt_state)
    if form.members == "vmap" and form.at_once is None:
        state, sums, wrong = jax.vmap(member)(leaves)
        if form.spread == "members" and form.mesh is not None:
            state = parallel.constrain_batch(state, form.mesh)
    else:
        size = form.at_once if form.members == "vmap" else None
        state, sums, wrong = jax.lax.map(member, leaves, batch_size=size)
    return dataclasses.replace(state, step=state.step[0]), sums, wrong


def places(state: TrainState) -> list[str]:
    """Where a step may be not finite, in words and in the order of `advance`."""

    def names(tree):
        return [
            jax.tree_util.keystr(path, simple=True, separator="/") or "value"
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        ]

    params = names(state.params)
    return [
        "the objective",
        *(f"the gradient of {name}" for name in params),
        *(f"the parameter {name}" for name in params),
        *(f"the statistic {name}" for name in names(state.batch_stats)),
    ]


def _run(recipe, state, batches, last_step, form):
    """The steps of one network."""

    def body(carry):
        state, sums, wrong = carry
        now = state.step
        state, values, found = _step(recipe, state, batches, form)
        first = (wrong[0] == FINITE) & (found != FINITE)
        wrong = jnp.where(first, jnp.stack([now, found]), wrong)
        return state, jax.tree.map(jnp.add, sums, values), wrong

    shapes = jax.eval_shape(lambda: _step(recipe, state, batches, form))[1]
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state, sums, wrong = jax.lax.while_loop(
        lambda carry: carry[0].step < last_step,
        body,
        (state, sums, jnp.full(2, FINITE, jnp.int32)),
    )
    if form.on_nonfinite == "raise":
        # Once a call: what is not finite in a parameter stays so.
        own = [*jax.tree.leaves(state.params), *jax.tree.leaves(state.batch_stats)]
        found = _first_nonfinite(own)
        at = 1 + len(jax.tree.leaves(state.params)) + found
        first = (wrong[0] == FINITE) & (found != FINITE)
        wrong = jnp.where(first, jnp.stack([state.step - 1, at]), wrong)
    return state, sums, wrong


def _first_nonfinite(leaves):
    """Index of the first leaf with an infinity or a NaN; FINITE where there is none."""
    bad = [
        ~jnp.isfinite(leaf).all()
        for leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    numbers = [
        index
        for index, leaf in enumerate(leaves)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    if not bad:
        return jnp.int32(FINITE)
    found = jnp.stack(bad)
    first = jnp.asarray(numbers, jnp.int32)[found.argmax()]
    return jnp.where(found.any(), first, FINITE)


def _step(recipe, state, batches, form):
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    batch = batches(recipe.seed, state.step)
    if form.batch_mesh is not None:
        batch = parallel.constrain_batch(batch, form.batch_mesh)
    gradient, batch_stats, values = _gradient(recipe.objective, state, batch, key, form)
    updates, opt_state = recipe.update(gradient, state.opt_state, state.params)
    opt_state = jax.tree.map(_as_before, state.opt_state, opt_state)
    params = optax.apply_updates(state.params, updates)
    new = TrainState(state.step + 1, params, batch_stats, opt_state)
    if form.on_nonfinite == "record":
        return new, values, jnp.int32(FINITE)
    wrong = _first_nonfinite([values[VALUE], *jax.tree.leaves(gradient)])
    if form.on_nonfinite == "skip":
        after = _first_nonfinite(jax.tree.leaves((params, batch_stats)))
        return *_unless((wrong != FINITE) | (after != FINITE), state, new, values), (
            jnp.int32(FINITE)
        )
    return new, values, wrong


def _as_before(old, new):
    """`new` in the precision of `old`, which a bound float32 rate may have raised."""
    new = jnp.asarray(new)
    both = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in (old, new))
    return new.astype(old.dtype) if both else new


def _unless(skipped, old, new, values):
    """The new state, or the old one a step later; what a skipped step adds is 0."""
    kept = jax.tree.map(lambda a, b: jnp.where(skipped, a, b), old, new)
    state = dataclasses.replace(kept, step=new.step)
    values = {name: jnp.where(skipped, 0, value) for name, value in values.items()}
    return state, values | {SKIPPED: skipped.astype(jnp.float32)}


def _gradient(objective, state, batch, key, form):
    """Gradient, statistics and metrics of a batch, in one part or in several."""
    of_part = _of_part
    if form.per_device:
        of_part = functools.partial(_per_device, form.batch_mesh)

    def part(batch_stats, batch, key):
        return of_part(objective, state.params, batch_stats, batch, key)

    parts = form.micro_batches
    if parts == 1:
        return part(state.batch_stats, batch, key)

    def body(carry, index_and_key):
        index, key = index_and_key
        mine = _every(parts, index, batch)
        if form.batch_mesh is not None:
            mine = parallel.constrain_batch(mine, form.batch_mesh)
        gradient, batch_stats, values = part(carry[0], mine, key)
        return (batch_stats, jax.tree.map(jnp.add, carry[1], (gradient, values))), None

    first = jax.eval_shape(part, state.batch_stats, _every(parts, 0, batch), key)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (first[0], first[2])
    )
    (batch_stats, sums), _ = jax.lax.scan(
        body,
        (state.batch_stats, zeros),
        (jnp.arange(parts), jax.random.split(key, parts)),
    )
    gradient, values = jax.tree.map(lambda leaf: leaf / parts, sums)
    return gradient, batch_stats, values


def _of_part(objective, params, batch_stats, batch, key):
    (value, (batch_stats, metrics)), gradient = jax.value_and_grad(
        objective, has_aux=True
    )(params, batch_stats, batch, key)
    of_batch = data.batch_metrics(batch)
    check_names(metrics, (VALUE, STEPS, SKIPPED, *of_batch))
    values = dict(metrics) | of_batch | {VALUE: value}
    values = jax.tree.map(_to_be_summed, values)
    return gradient, batch_stats, values


def _to_be_summed(value):
    """An array; of floats at least float32, for bfloat16 cannot count beyond 256."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _per_device(mesh, objective, params, batch_stats, batch, key):
    """`_of_part` of each device's examples alone; the means over the devices."""

    def own(objective, params, batch_stats, batch, key):
        key = jax.random.fold_in(key, jax.lax.axis_index(parallel.DATA_AXIS))
        return jax.tree.map(
            lambda leaf: (
                jax.lax.pmean(leaf, parallel.DATA_AXIS)
                if jnp.issubdtype(leaf.dtype, jnp.inexact)
                else leaf  # a count, the same on all
            ),
            _of_part(objective, params, batch_stats, batch, key),
        )

    split = jax.tree.map(
        lambda leaf: parallel.P(parallel.DATA_AXIS) if jnp.ndim(leaf) else parallel.P(),
        batch,
    )
    every = parallel.P()
    return jax.shard_map(
        own,
        mesh=mesh,
        in_specs=(every, every, every, split, every),
        out_specs=every,
        check_vma=False,  # the gradient is each device's own until it is averaged
    )(objective, params, batch_stats, batch, key)


def _every(parts, index, batch):
    """Part `index` of a batch: each device of a mesh holds its share of each part."""
    return jax.tree.map(
        lambda leaf: (
            leaf.reshape(-1, parts, *leaf.shape[1:])[:, index]
            if jnp.ndim(leaf)
            else leaf  # of the whole batch
        ),
        batch,
    )
