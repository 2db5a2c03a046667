"""Students and teachers for the stages of `distill`, with layers by name.

Equal readers of equal classifiers compare equal, so all seeds and teachers share one
compiled program.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.common.task import Task
from kd_heuristics import distill, training

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Layers:
    """Reads several layers from the features, as a tuple."""

    names: tuple[str, ...]

    def __call__(self, features):
        return tuple(features[name] for name in self.names)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Reads pairs of layers for `distill.fsp_loss`."""

    names: tuple[tuple[str, str], ...]

    def __call__(self, features):
        return distill.take_pairs(features, self.names)


@dataclasses.dataclass(frozen=True)
class Matrices:
    """Reads the flow matrices of pairs of layers."""

    names: tuple[tuple[str, str], ...]

    def __call__(self, features):
        return distill.fsp_matrices(distill.take_pairs(features, self.names))


@dataclasses.dataclass(frozen=True)
class Student:
    """Student in training mode.

    `(params, batch_stats, batch, key) -> (read(layers), batch_stats)`; the logits in
    place of layers if `read` is `None`.
    """

    classifier: training.Classifier
    read: Callable | None = None

    def __call__(self, params, batch_stats, batch, key) -> Any:
        variables = training.with_stats(params, batch_stats)
        inputs = self.classifier.inputs(batch["images"])
        network = self.classifier.network
        if self.read is None:
            return network.train(variables, inputs, key)
        features, moved = network.train_features(variables, inputs, key)
        return self.read(features), moved


@dataclasses.dataclass(frozen=True)
class Taught:
    """Teacher in evaluation mode: `(variables, batch) -> read(layers)`.

    It gives the logits in place of layers if `read` is `None`.
    """

    classifier: training.Classifier
    read: Callable | None = None

    def __call__(self, variables, batch) -> Any:
        inputs, network = (
            self.classifier.inputs(batch["images"]),
            self.classifier.network,
        )
        if self.read is None:
            return network.apply(variables, inputs)
        return self.read(network.features(variables, inputs))


def shapes(classifier: training.Classifier, images: Any) -> dict[str, Any]:
    """Returns the shapes of a network's layers, in order.

    Args:
      classifier: classifier of the network.
      images: [n, h, w, c], or anything of that shape.
    """
    images = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    network = classifier.network
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return dict(sorted(jax.eval_shape(network.features, variables, images).items()))


def check_train_features(its: Task) -> None:
    """Raises ValueError if a network has no layers in training mode; computes nothing.

    Students of hints and flow matrices need them.
    """
    images = jax.ShapeDtypeStruct((1, *its.train.images.shape[1:]), jnp.uint8)

    def layers(images, key):
        return Student(its.classifier, dict)(*its.start(0), {"images": images}, key)

    jax.eval_shape(layers, images, jax.random.key(0))


def joinable(shapes: Mapping[str, Any], pattern: str | None = None) -> dict[str, Any]:
    """Selects the maps that hints and flow matrices may join, in order.

    Maps are [1, h, w, c] of more than one pixel. Those of ReLUs and of residual blocks
    are taken; all of them if the names tell of neither.

    Args:
      shapes: of a network's layers.
      pattern: of the names to take instead, as `fnmatch` reads it: "*conv*", "03_*".

    Raises: ValueError if there are none.
    """
    maps = {
        name: value
        for name, value in shapes.items()
        if len(value.shape) == 4 and tuple(value.shape[1:3]) != (1, 1)
    }
    if pattern is None:
        found = [name for name in maps if name.endswith(("relu", "block"))] or [*maps]
    else:
        found = fnmatch.filter(maps, pattern)
    if not found:
        listed = ", ".join(f"{name} {v.shape[1:]}" for name, v in shapes.items())
        what = (
            "no layer has a map" if pattern is None else f"no map matches {pattern!r}"
        )
        raise ValueError(
            f"{what} [batch, h, w, channels] that hints and flow matrices could join; "
            f"the layers are {listed}"
        )
    return {name: maps[name] for name in found}


def below(classifier: training.Classifier, variables: PyTree, layer: str, images: Any):
    """Splits variables into those that a layer depends on and the rest."""
    example = jnp.zeros((1, *images.shape[1:]))
    mask = distill.depends_on(
        lambda tree: classifier.network.features(tree, example)[layer], variables
    )
    return distill.split(variables, mask)


def member(
    stage: str, seed: int, objective: Callable, start: tuple, optimizer: Any
) -> training.Member:
    """Makes a member of a population that starts at `(params, batch_stats)`."""
    params, batch_stats = start
    return training.Member(
        objective=objective,
        params=params,
        batch_stats=batch_stats,
        optimizer=optimizer,
        seed=seed,
        stage=stage,
    )


def members_of(state: training.TrainState, names: Any) -> dict[Any, tuple]:
    """Returns `{name: (params, batch_stats)}` for the members in a state."""
    found = [training.member(state, index) for index in range(len(names))]
    return {
        name: (own.params, own.batch_stats)
        for name, own in zip(names, found, strict=True)
    }


def hints(
    student: Task,
    teacher: Task,
    pairs: Sequence[tuple[str, str]],
    teachers: Mapping[Any, PyTree],
    starts: Mapping[Any, tuple],
    keys: Mapping[Any, Sequence[jax.Array]],
) -> tuple[dict[Any, Callable], dict[Any, tuple], dict[Any, PyTree]]:
    """Prepares the first stage of FitNets for several students.

    Args:
      student: task of the students.
      teacher: task of the teachers.
      pairs: guided layer of the student and hint of the teacher, from shallow to deep.
      teachers: variables of each student's teacher, by the student's name.
      starts: `(params, batch_stats)` of each student.
      keys: keys of each student's regressors.

    Returns: objectives, starts (layers below and regressors), and the other variables
      for `merged`; each by name.
    """
    mine, theirs = (shapes(of.classifier, of.train.images) for of in (student, teacher))
    guided, given = zip(*pairs, strict=True)
    regressors = tuple(distill.regressor(mine[a], theirs[b]) for a, b in pairs)
    learner = Student(student.classifier, Layers(guided))
    taught = Taught(teacher.classifier, Layers(given))
    objectives, parts, rests = {}, {}, {}
    for name, (params, batch_stats) in starts.items():
        variables = training.with_stats(params, batch_stats)
        own, rests[name] = below(
            student.classifier, variables, guided[-1], student.train.images
        )
        first = [of.init(k) for of, k in zip(regressors, keys[name], strict=True)]
        part = {"student": own["params"], "regressor": tuple(first)}
        parts[name] = part, batch_stats
        objectives[name] = distill.hint_stage(
            learner, distill.Teacher(taught, teachers[name]), regressors, rests[name]
        )
    return objectives, parts, rests


def merged(
    trained: Mapping[Any, tuple], rests: Mapping[Any, PyTree]
) -> dict[Any, tuple]:
    """Reassembles students after `hints`: `{name: (params, batch_stats)}`."""
    return {
        name: (distill.merge(params["student"], rests[name]["params"]), batch_stats)
        for name, (params, batch_stats) in trained.items()
    }
