"""Averages a teacher's prediction over many crops, once, and stores it for reuse.

These are the targets of the view fix/ic_ens: Beyer et al. 2022 average 1,000 inception
crops per image. A student trains on the stored targets without running its teacher.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.data import rectangles
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.views import View
from kd_heuristics.runtime import files, hosts, parallel, values
from kd_heuristics.runtime.compiled import as_partial


class TargetsError(Exception):
    """Reports stored targets that are damaged or do not match; names the remedy."""


def ensemble_targets(
    teacher: Callable,
    dataset: Dataset,
    view: View,
    *,
    crops: SupportsIndex = 1000,
    temperature: float = 1.0,
    seed: SupportsIndex = 0,
    batch_size: SupportsIndex = 256,
    path: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Computes logits of the mean prediction over random crops of each image.

    logits = T * log(mean over crops of softmax(teacher(crop) / T)), T = temperature. A
    loss at the same temperature recovers the mean of the softened predictions. The
    crops are those of the view's student, with flips, at the teacher's size.

    Args:
      teacher: `float32 [b, size, size, c] -> logits [b, classes]` in evaluation mode,
        on pixels as views return them. A pytree such as `distill.Teacher` passes its
        arrays as arguments.
      dataset: the images to crop.
      view: usually `views.create("fix/ic_ens", ...)`.
      crops: number of crops per image, at least 1. The cost is `crops` epochs of the
        teacher's forward pass.
      temperature: temperature of the loss, positive.
      seed: seed of the crops.
      batch_size: images per forward pass. Crops are drawn per batch, so it changes
        them.
      path: `.npz` file that is read if it exists and written otherwise; `None` does
        neither. Stored targets are checked against their hash, and their description
        against the arguments: the set's pixels, the teacher's arrays (not its function,
        which has no hash) and all numbers above.

    Returns: float32 [n, classes], row i for image i. `distill.stored(targets)` looks
      them up by "index", with NaN for indices outside the set.

    Raises: TargetsError if the file is damaged or holds other targets; ValueError for
      numbers out of range.
    """
    crops, batch_size, checked_seed = checked(crops, batch_size, seed, temperature)
    teacher = as_argument(teacher)

    def compute():
        key = jax.random.key(checked_seed)
        starts = range(0, len(dataset), batch_size)
        parts = [
            _of_batch(
                teacher,
                dataset.images[start : start + batch_size],
                jax.random.fold_in(key, start),
                jnp.int32(crops),
                jnp.float32(temperature),
                view,
            )
            for start in starts
        ]
        return np.concatenate(parallel.to_host(parts))

    if path is None:
        return compute()
    described = {
        "crops": crops,
        "temperature": float(temperature),
        "seed": checked_seed,
        "batch_size": batch_size,
        "view": dataclasses.asdict(view),
        "images": digest(dataset.images),
        "teacher": digest(*jax.tree.leaves(teacher)),
    }
    return stored(path, described, compute)


def checked(
    crops: SupportsIndex,
    batch_size: SupportsIndex,
    seed: SupportsIndex,
    temperature: float,
) -> tuple[int, int, int]:
    """Returns the whole numbers as Python's; raises ValueError out of their ranges."""
    crops = values.integer("crops", crops, 1)
    batch_size = values.integer("batch_size", batch_size, 1)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return crops, batch_size, values.seed(seed)


def stored(
    path: str | os.PathLike[str],
    described: Mapping[str, Any],
    compute: Callable[[], np.ndarray],
) -> np.ndarray:
    """Reads an array from a file, or computes it and writes it there.

    Args:
      path: the `.npz` file.
      described: everything that determines the array, in JSON types.
      compute: called without arguments if the file does not exist.

    Raises: TargetsError if the file is damaged or its description differs.
    """
    target = files.path(path)
    described = json.loads(json.dumps(described))  # tuples become lists
    if hosts.first(target.exists):
        return hosts.first(_read, target, described)
    targets = np.asarray(compute(), np.float32)
    hosts.first(_write, target, described, targets)
    return targets


def _write(path, described, targets):
    """Writes the file atomically, on a store or on disk.

    Runs of several folders may share it and write at once, so each has a partial file.
    """
    if files.is_store(path):
        with files.whole(path) as partial:
            _save(partial, described, targets)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _save(partial, described, targets)
    os.replace(partial, path)  # a kill leaves no partial file under that name


def _save(path, described, targets):
    """Saves targets, description and hash as `.npz`."""
    with open(path, "wb") as file:
        np.savez(
            file,
            targets=targets,
            described=json.dumps(described),
            sha256=digest(targets),
        )


def digest(*arrays: Any) -> str:
    """Hashes arrays, with their types, shapes and bytes, by SHA-256."""
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _read(path, described: Mapping[str, Any]) -> np.ndarray:
    """Reads the targets and checks their hash and description."""
    try:
        arrays = files.read_arrays(path)
        targets, expected = arrays["targets"], str(arrays["sha256"])
        found = json.loads(str(arrays["described"]))
    # zipfile, zlib, json and NumPy have no common error for a damaged file.
    except Exception as error:
        raise TargetsError(
            f"the targets in {path} cannot be read ({type(error).__name__}: {error}); "
            "delete the file to compute them again"
        ) from error
    if digest(targets) != expected:
        raise TargetsError(
            f"the targets in {path} are damaged: they do not match the hash stored "
            "with them; delete the file to compute them again"
        )
    differing = [
        key
        for key in sorted(found.keys() | described.keys())
        if found.get(key) != described.get(key)
    ]
    if differing:
        lines = "\n".join(
            f"  {key}: {found.get(key)!r} there, {described.get(key)!r} asked for"
            for key in differing
        )
        raise TargetsError(
            f"{path} holds other targets:\n{lines}\ngive another path, or delete the "
            "file to compute them again"
        )
    return targets


@functools.partial(jax.jit, static_argnames="view")
def _of_batch(teacher, images, key, crops, temperature, view):
    """Computes logits of the mean prediction on a batch.

    The number of crops is an argument, so it compiles once for all numbers.
    """
    images = jnp.asarray(images)

    def logits(number):
        looks = view.looks(jax.random.fold_in(key, number), *images.shape[:3])
        pixels = rectangles.cut(
            images, looks["student"][0], view.teacher_size, looks["student"][1]
        )
        return jax.nn.log_softmax(teacher(pixels).astype(jnp.float32) / temperature)

    shape = jax.eval_shape(logits, 0).shape
    total = jax.lax.fori_loop(
        0,
        crops,
        lambda number, total: jnp.logaddexp(total, logits(number)),
        jnp.full(shape, -jnp.inf, jnp.float32),
    )
    return temperature * (total - jnp.log(crops.astype(jnp.float32)))


def as_argument(teacher: Callable) -> Callable:
    """Returns the teacher as a pytree that a compiled call accepts."""
    leaf = jax.tree_util.all_leaves([teacher])
    return as_partial(teacher) if leaf else teacher
