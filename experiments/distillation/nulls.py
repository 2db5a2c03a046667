"""Nulls that tell a teacher's knowledge from the regularisation of any soft target.

All have the loss of the distilled students, `kl` at the same temperature, and differ in
the targets alone:

- "another-teacher": those of a teacher of another seed.
- "random-teacher": those of an untrained teacher, whose logits are scaled so that the
  mean entropy of its softened prediction is the teacher's.
- "smoothing": labels smoothed to the teacher's mean entropy.
- "permuted": the teacher's, with the probabilities of all but its first choice in
  another order in each example (Furlanello et al. 2018, "Born-Again Neural Networks",
  sec. 3.3): equal entropy, no dark knowledge.

Targets are softened predictions; entropies are their means over training images.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import fidelity, teaching
from experiments.common.study import StudyRun
from experiments.distillation.config import NULLS
from experiments.distillation.networks import Networks
from kd_heuristics import distill, training

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Null:
    """The objective of all nulls, so that they train in one program.

    `(kind, temperature, scale, smoothing, teacher, params, ...)`: bind the first five.

    Attributes:
      student: in training mode.
    """

    student: teaching.Student

    def __call__(
        self,
        kind,
        temperature,
        scale,
        smoothing,
        teacher,
        params,
        batch_stats,
        batch,
        key,
    ):
        logits, batch_stats = self.student(params, batch_stats, batch, key)
        seen = scale * teacher(batch)
        targets = jnp.select(
            [kind == NULLS.index("smoothing"), kind == NULLS.index("permuted")],
            [
                smoothed(batch["labels"], smoothing, seen.shape[-1], temperature),
                permuted(seen, jax.random.fold_in(key, 1)),
            ],
            seen,
        )
        value = distill.kl(logits, targets, temperature).mean()
        return value, (batch_stats, {"loss": value})


def smoothed(labels, smoothing, classes: int, temperature) -> jax.Array:
    """Logits whose softened prediction is (1 - s) onehot + s / C, s = smoothing."""
    shares = (1 - smoothing) * jax.nn.one_hot(labels, classes) + smoothing / classes
    return temperature * jnp.log(shares)


def permuted(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Logits with those below the first choice in random order, in each example."""
    order = jnp.argsort(logits, -1)  # the first choice is last
    keys = jax.random.split(key, len(logits))
    places = jax.vmap(lambda k: jax.random.permutation(k, logits.shape[-1] - 1))(keys)
    last = jnp.full((len(logits), 1), logits.shape[-1] - 1, places.dtype)
    drawn = jnp.take_along_axis(order, jnp.concatenate([places, last], -1), -1)
    values = jnp.take_along_axis(logits, drawn, -1)
    return jnp.put_along_axis(jnp.zeros_like(logits), order, values, -1, inplace=False)


def objectives(
    run: StudyRun,
    nets: Networks,
    teachers: Mapping[int, PyTree],
    own: Callable[[int], int],
    other: Callable[[int], int],
) -> tuple[dict[tuple[str, int], Callable], dict[str, np.ndarray]]:
    """The objectives of all nulls by arm and seed, and the targets' mean entropies.

    Args:
      run: of the study.
      nets: both networks.
      teachers: variables by seed.
      own: the seed of a student's teacher.
      other: the seed of a teacher that is not its own.

    Returns: objectives, and `{"ARM/entropy": [seeds]}`, with that of the soft targets.
    """
    config, found = run.config, {}
    temperature = config.temperature
    taught = teaching.Taught(nets.teacher.classifier)
    entropies: dict[str, list[float]] = {}
    for seed in run.seeds:
        start = nets.teacher.start(RANDOM + seed)
        variables = dict.fromkeys(NULLS, teachers[own(seed)])
        variables["another-teacher"] = teachers[other(seed)]
        variables["random-teacher"] = training.with_stats(*start)
        logits = {
            arm: _on_train(nets, its)
            for arm, its in variables.items()
            if arm != "smoothing"
        }
        wanted = entropy(logits["permuted"], temperature)
        scale = scale_of(logits["random-teacher"], wanted, temperature)
        share = smoothing_of(wanted, logits["permuted"].shape[-1])
        scales = dict.fromkeys(NULLS, 1.0) | {"random-teacher": scale}
        for arm in config.nulls:
            found[arm, seed] = jax.tree_util.Partial(
                Null(teaching.Student(nets.student.classifier)),
                jnp.int32(NULLS.index(arm)),
                jnp.float32(temperature),
                jnp.float32(scales[arm]),
                jnp.float32(share),
                distill.Teacher(taught, variables[arm]),
            )
            reached = (
                entropy_of_smoothing(share, logits["permuted"].shape[-1])
                if arm == "smoothing"
                else entropy(scales[arm] * logits[arm], temperature)
            )
            entropies.setdefault(f"{arm}/entropy", []).append(reached)
        entropies.setdefault(f"{config.distilled}/entropy", []).append(wanted)
    return found, {name: np.array(values) for name, values in entropies.items()}


RANDOM = 20_000  # added to a seed: an untrained teacher has a start of its own


def _on_train(nets: Networks, variables: PyTree) -> np.ndarray:
    """A teacher's logits of the training images of the maps, float64 [n, classes]."""
    batches = nets.student.sets["train"]
    found = fidelity.logits(nets.teacher.classifier, variables, batches)
    return np.asarray(found, np.float64)[np.asarray(batches["mask"])]


def entropy(logits: np.ndarray, temperature: float) -> float:
    """Mean entropy of softened predictions, in nats."""
    z = logits / temperature
    z = z - z.max(-1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return float(-(p * log_p).sum(-1).mean())


def scale_of(logits: np.ndarray, wanted: float, temperature: float) -> float:
    """The factor of logits that gives their softened prediction an entropy."""
    return _solve(lambda x: entropy(np.exp(x) * logits, temperature), wanted, -20, 20)


def smoothing_of(wanted: float, classes: int) -> float:
    """The smoothing whose labels have an entropy."""
    return _solve(
        lambda x: -entropy_of_smoothing(np.exp(x), classes), -wanted, -40, 0.0
    )


def entropy_of_smoothing(smoothing: float, classes: int) -> float:
    """Entropy of a label smoothed towards all classes, in nats."""
    other = smoothing / classes
    own = 1 - smoothing + other
    return float(-own * np.log(own) - (classes - 1) * other * np.log(other))


def _solve(falling: Callable[[float], float], wanted: float, low, high) -> float:
    """exp(x) where a falling function of x has a value, by bisection.

    Raises:
      ValueError: it has that value nowhere, as the entropy of logits that are equal.
    """
    ends = low, high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > wanted else (low, middle)
    found = falling((low + high) / 2)
    if not abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted)):
        raise ValueError(
            f"no factor from exp({ends[0]}) to exp({ends[1]}) gives an entropy of "
            f"{abs(wanted):.3g} nats, the nearest {abs(found):.3g}: the untrained "
            "teacher's logits are equal or not finite; leave out that null"
        )
    return float(np.exp((low + high) / 2))
