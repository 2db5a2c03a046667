"""A teacher's prediction averaged over many crops, computed once, stored and reused.

The target of fix/ic_ens: Beyer et al. 2022 average 1,000 inception crops an image. A
student then trains on stored targets, and its teacher no longer runs.
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

from kd_heuristics import files, hosts, numbers, parallel
from kd_heuristics.compiled import as_partial
from kd_heuristics.data import rectangles
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.views import View


class TargetsError(Exception):
    """Stored targets that are damaged or another teacher's; the message has the way."""


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
    """Logits of the mean prediction over random crops of each image of a set.

    logits = T * log(mean over crops of softmax(teacher(crop) / T)), T = temperature:
    what a loss at the same temperature turns into the mean of the softened predictions.
    The crops are those that the student of the view sees, flips included, at the
    teacher's size.

    Args:
      teacher: `float32 [b, size, size, c] -> logits [b, classes]` in evaluation mode,
        of pixels as of views; a pytree, as of `distill.Teacher`, passes its arrays.
      dataset: whose images are cut.
      view: usually `views.create("fix/ic_ens", ...)`.
      crops: an image, at least 1; its seconds are those of `crops` epochs of the
        teacher's forward passes.
      temperature: that of the loss, positive.
      seed: of the crops.
      batch_size: images at a time; crops are drawn a batch, so it changes them.
      path: of a file, `.npz`, that is read where it is there and written where it is
        not; None: neither. Its targets are checked against a hash, and what they are of
        against the arguments: the set's pixels, the arrays of the teacher (not its
        function, which has no hash) and all numbers above.

    Returns: float32 [n, classes], row i of image i. `distill.stored(targets)` looks
      them up by "index", with NaN for places outside the set.

    Raises: TargetsError for a file that is damaged or of other targets; ValueError for
      numbers out of range.
    """
    crops = numbers.integer("crops", crops, 1)
    batch_size = numbers.integer("batch_size", batch_size, 1)
    number = numbers.seed(seed)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    teacher = _as_argument(teacher)

    def compute():
        key = jax.random.key(number)
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
        "seed": number,
        "batch_size": batch_size,
        "view": dataclasses.asdict(view),
        "images": digest(dataset.images),
        "teacher": digest(*jax.tree.leaves(teacher)),
    }
    return stored(path, described, compute)


def stored(
    path: str | os.PathLike[str],
    described: Mapping[str, Any],
    compute: Callable[[], np.ndarray],
) -> np.ndarray:
    """The array of a file, or else what `compute` returns, which is then written there.

    Args:
      path: of the file, `.npz`.
      described: what determines the array, of JSON's types.
      compute: called without arguments where there is no file yet.

    Raises: TargetsError where the file is damaged or holds what is described otherwise.
    """
    target = files.path(path)
    described = json.loads(json.dumps(described))  # tuples become lists
    if hosts.first(target.exists):
        return hosts.first(_read, target, described)
    targets = np.asarray(compute(), np.float32)
    hosts.first(_write, target, described, targets)
    return targets


def _write(path, described, targets):
    if files.is_store(path):
        with files.whole(path) as partial:
            _save(partial, described, targets)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _save(partial, described, targets)
    os.replace(partial, path)  # a kill leaves no half-written file behind that name


def _save(path, described, targets):
    with open(path, "wb") as file:
        np.savez(
            file,
            targets=targets,
            described=json.dumps(described),
            sha256=digest(targets),
        )


def digest(*arrays: Any) -> str:
    """SHA-256 of arrays: their types, shapes and bytes."""
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _read(path, described: Mapping[str, Any]) -> np.ndarray:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            targets, found, expected = (
                file["targets"],
                json.loads(str(file["described"])),
                str(file["sha256"]),
            )
    # Neither zipfile, zlib, json nor NumPy have a common error for a damaged file.
    except Exception as error:
        raise TargetsError(
            f"the targets in {path} cannot be read ({type(error).__name__}: {error}); "
            "delete the file to compute them again"
        ) from error
    if digest(targets) != expected:
        raise TargetsError(
            f"the targets in {path} are damaged: their hash is not the one stored with "
            "them; delete the file to compute them again"
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
    """Logits of the mean prediction on a batch; the number of crops is an argument."""
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


def _as_argument(teacher: Callable) -> Callable:
    """The teacher as a pytree that a compiled call takes."""
    leaf = jax.tree_util.all_leaves([teacher])
    return as_partial(teacher) if leaf else teacher
