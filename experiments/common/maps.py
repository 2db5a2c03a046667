"""How alike two networks of one study are, layer against layer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import parallel, similarity, training
from kd_heuristics.compiled import as_partial

PyTree = Any


def between(
    classifier: training.Classifier,
    a: Mapping[str, PyTree],
    b: Mapping[str, PyTree],
    images: jax.Array,
    measure: str,
    *,
    batch_size: int,
    shuffle: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> np.ndarray:
    """Similarity of every layer of network a to every layer of b, [layers, layers].

    Streamed over the images with second moments only, so that memory does not grow
    with their number, and in blocks of the map where the moments of all layers are too
    many at a time (8.8 GB for VGG-16). Maps go through the Fourier transform, as in
    the paper.

    Args:
      classifier: of both networks.
      a: "params" and, where there are any, "batch_stats".
      b: the other network's.
      images: uint8 [examples, h, w, c].
      measure: as of `similarity.matrix`.
      batch_size: examples at a time.
      shuffle: b sees the images in another order: what is left is the noise floor,
        the similarity of layers that have nothing in common.
      mesh: devices over which each batch is split, and then the layers.

    Returns: float; NaN throughout where a parameter is not finite.
    """
    names = layers(classifier, a, images)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((a, b))):
        return np.full((len(names),) * 2, np.nan)
    order = jnp.arange(len(images))
    if shuffle:
        order = jax.random.permutation(jax.random.key(0), order)
    bound = as_partial(classifier.features)
    # One program with and without shuffling: the second network has images of its own.
    found = similarity.stream_matrix(
        jax.tree_util.Partial(_first, bound, *_trees(a)),
        jax.tree_util.Partial(_second, bound, *_trees(b)),
        {"a": images, "b": images[order]},
        measure,
        batch_size=batch_size,
        mesh=mesh,
    )
    return parallel.to_host(found)


def layers(
    classifier: training.Classifier, variables: Mapping[str, PyTree], images: Any
) -> list[str]:
    """Names of the layers in a map, "00_conv" first; nothing is computed."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.uint8)
    return sorted(jax.eval_shape(classifier.features, *_trees(variables), one))


def _trees(variables):
    return variables["params"], variables.get("batch_stats", {})


def _first(features, params, batch_stats, images):
    return features(params, batch_stats, images["a"])


def _second(features, params, batch_stats, images):
    return features(params, batch_stats, images["b"])
