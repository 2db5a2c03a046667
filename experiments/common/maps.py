"""Similarity of two networks of a study, layer against layer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.task import Task
from kd_heuristics import similarity, training
from kd_heuristics.runs import summary
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any

# Measures beside a study's own, since what only one shows is about that measure.
BESIDE = ("svcca", "cca", "cka", "procrustes")
KERNELS = ("_conv", "_fc")  # endings of the layers that have kernels


@dataclasses.dataclass(frozen=True)
class Shown:
    """The layers of a classifier that maps show.

    Attributes:
      classifier: the classifier.
      endings: of the names of those layers.
    """

    classifier: training.Classifier
    endings: tuple[str, ...]

    def features(self, params, batch_stats, images):
        """Returns the output of each of those layers, `{"00_conv": array, ...}`."""
        found = self.classifier.features(params, batch_stats, images)
        return {k: v for k, v in found.items() if k.endswith(self.endings)}


def shown(config: Any, its: Task) -> training.Classifier | Shown:
    """The layers of a task that `config.map_layers` chooses for maps."""
    if config.map_layers == "all":
        return its.classifier
    return Shown(its.classifier, KERNELS)


def between(
    classifier: training.Classifier | Shown,
    a: Mapping[str, PyTree],
    b: Mapping[str, PyTree],
    images: jax.Array,
    measure: str,
    *,
    batch_size: int,
    beside: Sequence[str] = (),
    other: training.Classifier | Shown | None = None,
    shuffle: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """Computes the similarity of every layer of network a to every layer of b.

    It streams over the images and keeps second moments only, so memory does not grow
    with their number. If the moments of all layers do not fit (8.8 GB for VGG-16), it
    computes the map in blocks. Feature maps are Fourier transformed, as in the paper.

    Args:
      classifier: classifier of both networks, or of a if `other` is given.
      a: "params" and, if there are any, "batch_stats" of network a.
      b: the same for network b.
      images: uint8 [examples, h, w, c].
      measure: measure of `similarity.matrix`.
      batch_size: examples per batch.
      beside: other measures, from the same pass over the images.
      other: classifier of network b, if it differs.
      shuffle: show b the images in another order; this gives the noise floor, the
        similarity of unrelated layers.
      mesh: devices over which each batch, and then the layers, are split.

    Returns: float [layers of a, layers of b]; `{measure: map}` with `beside`; all NaN
    if a parameter is not finite.
    """
    other = other or classifier
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((a, b))):
        both = layers(classifier, a, images), layers(other, b, images)
        nothing = np.full([len(names) for names in both], np.nan)
        return dict.fromkeys((measure, *beside), nothing) if beside else nothing
    order = jnp.arange(len(images))
    if shuffle:
        order = jax.random.permutation(jax.random.key(0), order)
    bound = jax.tree_util.Partial
    # The second network has its own images, so shuffling needs no other program.
    found = similarity.stream_matrices(
        bound(_first, as_partial(classifier.features), *training.unpacked(a)),
        bound(_second, as_partial(other.features), *training.unpacked(b)),
        {"a": images, "b": images[order]},
        tuple(dict.fromkeys((measure, *beside))),
        batch_size=batch_size,
        mesh=mesh,
    )
    maps = {name: parallel.to_host(value) for name, value in found.items()}
    return maps if beside else maps[measure]


def of_task(
    config: Any,
    its: Task,
    images: jax.Array,
    a: Mapping[str, PyTree],
    b: Mapping[str, PyTree],
    *,
    shuffle: bool = False,
) -> dict[str, np.ndarray]:
    """Calls `between` on networks of a task, with `config.measure` and `BESIDE`."""
    return between(
        shown(config, its),
        a,
        b,
        images,
        config.measure,
        batch_size=config.eval_batch_size,
        beside=BESIDE,
        shuffle=shuffle,
        mesh=its.mesh,
    )


def images(config: Any, its: Task) -> jax.Array:
    """Puts the first `config.map_examples` training images on the task's devices."""
    return its.place(jnp.asarray(its.train.take(config.map_examples).images))


def named(name: str, found: Mapping[str, np.ndarray], measure: str) -> dict:
    """Names the map of `measure` "name", and those of other measures "name/cka"."""
    return {name if m == measure else f"{name}/{m}": v for m, v in found.items()}


def calibrated(values: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Scales maps [..., layers, layers] so that 0 is unrelated and 1 is identical."""
    floor = np.broadcast_to(floor, np.shape(values))
    return np.asarray(similarity.above_floor(values, floor))


def all_calibrated(arrays: Mapping[str, Any], floors: Mapping[str, str]) -> dict:
    """Calibrates maps of every measure: "NAME/calibrated", "NAME/cka/calibrated".

    Args:
      arrays: maps and floors, named as by `named`.
      floors: `{name of a map: name of its floor}`.
    """
    out = {}
    for name, floor in floors.items():
        for kind in ("", *(f"/{measure}" for measure in BESIDE)):
            if f"{name}{kind}" in arrays:
                values = arrays[f"{name}{kind}"], arrays[f"{floor}{kind}"]
                out[f"{name}{kind}/calibrated"] = calibrated(*values)
    return out


def endings(measure: str) -> dict[str, str]:
    """Returns `{measure: ending of its calibrated maps' names}`, the study's first.

    >>> endings("cka")["cca"]
    '/cca/calibrated'
    """
    others = {m: f"/{m}/calibrated" for m in BESIDE if m != measure}
    return {measure: "/calibrated"} | others


def by_measure(
    statistics: Callable[[str], Mapping[str, np.ndarray]], measure: str
) -> dict[str, Any]:
    """Computes statistics by every measure, `{statistic: {measure: summary}}`.

    Args:
      statistics: takes the ending of the maps' names; returns `{statistic: [seeds]}`.
      measure: the study's own measure.
    """
    found = {name: statistics(ending) for name, ending in endings(measure).items()}
    return {
        statistic: {name: summary(values[statistic]) for name, values in found.items()}
        for statistic in found[measure]
    }


def layers(
    classifier: training.Classifier | Shown,
    variables: Mapping[str, PyTree],
    images: Any,
) -> list[str]:
    """Returns the names of the layers in a map, "00_conv" first, without computing."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.uint8)
    trees = training.unpacked(variables)
    return sorted(jax.eval_shape(classifier.features, *trees, one))


def _first(features, params, batch_stats, images):
    return features(params, batch_stats, images["a"])


def _second(features, params, batch_stats, images):
    return features(params, batch_stats, images["b"])
