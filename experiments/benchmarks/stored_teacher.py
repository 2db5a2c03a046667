"""A step of FSP's first stage, with a running teacher or stored matrices.

    python -m experiments.benchmarks.stored_teacher [--repeats 5]

Both take turns: the flow matrices of the teacher are computed from each batch, or
looked up by the examples' indices (`distill.store`). Batches change from step to step;
for a single one, XLA would compute the teacher's matrices once, outside the loop. Yim
et al. 2017 report 35 s against 19 s for a number of steps, 1.8 times (section 4.1).
RESULTS.md in this folder has the last table.
"""

import dataclasses
import functools
import os
import platform
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments.benchmarks import train_step
from experiments.common import teaching
from kd_heuristics import distill, models, training
from kd_heuristics.runtime.compiled import jit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Networks, sizes and repeats."""

    pairs: tuple[str, ...] = ("resnet26 resnet8", "resnet14 resnet14")
    width: float = 1.0
    batch: int = 32
    batches: int = 4  # through which the steps cycle
    size: int = 32  # pixels a side
    repeats: int = 5
    seconds: float = 1.0  # approximate length of a turn


class Stage:
    """A student, a teacher and some batches."""

    def __init__(self, config: Config, teacher: str, student: str):
        random = np.random.default_rng(0)
        number = config.batches, config.batch
        shape = (*number, config.size, config.size, 3)
        images = jnp.asarray(random.integers(0, 256, shape).astype(np.uint8))
        index = jnp.arange(config.batches * config.batch).reshape(number)
        self.batches = {"images": images, "index": index}
        taught, own = (
            training.Classifier(
                models.create(name, 10, width=config.width), (127.5,) * 3, (64.0,) * 3
            )
            for name in (teacher, student)
        )
        mine, theirs = distill.matching_sections(
            teaching.joinable(teaching.shapes(own, images[0])),
            teaching.joinable(teaching.shapes(taught, images[0])),
        )
        example = own.inputs(images[0])[:1]
        variables = taught.network.init(jax.random.key(1), example)
        self.running = distill.Teacher(
            teaching.Taught(taught, teaching.Matrices(tuple(theirs))), variables
        )
        self.stored = distill.store(self.running, self.batches)
        self._student = teaching.Student(own, teaching.Matrices(tuple(mine)))
        self._optimizer = training.sgd(1e-4, momentum=0.9, clip_norm=1.0)
        found = own.network.init(jax.random.key(0), example)
        params, stats = found["params"], found.get("batch_stats", {})
        self._state = params, stats, self._optimizer.init(params)

    def steps(self, teacher: distill.Teacher, number: int) -> jax.Array:
        """Trains `number` steps in one compiled call; returns the losses, [number]."""
        objective = distill.matching_stage(self._student, teacher, distill.fsp_distance)
        keys = jax.random.split(jax.random.key(0), number)
        return jax.block_until_ready(
            self._run(objective, self._state, self.batches, keys)
        )

    @functools.cached_property
    def _run(self):
        def step(objective, batches, state, turn):
            (params, stats, opt_state), (number, key) = state, turn
            batch = jax.tree.map(lambda leaf: leaf[number % len(leaf)], batches)
            (loss, (stats, _)), gradient = jax.value_and_grad(objective, has_aux=True)(
                params, stats, batch, key
            )
            updates, opt_state = self._optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), stats, opt_state), loss

        def run(objective, state, batches, keys):
            one = functools.partial(step, objective, batches)
            return jax.lax.scan(one, state, (jnp.arange(len(keys)), keys))[1]

        return jit(run)


def main(config: Config) -> None:
    """Measures and prints a Markdown table."""
    print(f"`python -m experiments.benchmarks.stored_teacher {' '.join(sys.argv[1:])}`")
    cores = len(os.sched_getaffinity(0))
    print(
        f"\nPython {platform.python_version()}, jax {jax.__version__}, {cores} cores\n"
    )
    print("| teacher, student | running, ms a step | stored, ms a step | ratio |")
    print("|---|---|---|---|", flush=True)
    for pair in config.pairs:
        stage = Stage(config, *pair.split())
        number = train_step.steps_for(
            config.seconds, lambda stage=stage: stage.steps(stage.running, 1)
        )
        seconds = train_step.take_turns(
            {
                name: functools.partial(stage.steps, getattr(stage, name), number)
                for name in ("running", "stored")
            },
            config.repeats,
        )
        cells = [
            f"{1000 * statistics.median(values) / number:.1f}"
            for values in seconds.values()
        ]
        ratio = train_step.ratio(seconds["running"], seconds["stored"])
        print(
            f"| {pair.replace(' ', ', ')} | {' | '.join(cells)} | {ratio} |", flush=True
        )


if __name__ == "__main__":
    main(tyro.cli(Config))
