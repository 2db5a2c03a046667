"""What the tools look at: a model and a set of images, as options of the commands."""

import ast
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kd_heuristics import (
    compile_cache,
    data,
    files,
    hosts,
    leaf_names,
    models,
    parallel,
    points,
    training,
)
from kd_heuristics.cli import checkpoint

PyTree = Any

_FORM = "it is MODULE:FUNCTION, the module importable from here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """Model and data; below a run folder of ours they need not be given."""

    model: Annotated[str | None, tyro.conf.arg(metavar="NAME | MODULE:FUNCTION")] = None
    """of models.create, or a function of yours (nets:make in nets.py), called as
    make(num_classes, **options), that returns a models.Network"""
    model_options: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """for the model: width=0.25 classifier_width=64"""
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME | FILE.npz")] = None
    """of data.load, or a file with train_images, train_labels, test_images and
    test_labels: uint8 [n, h, w, c] and integers [n]"""
    size: int | None = None
    """pixels a side, for a set that has several sizes"""
    examples: int | None = 1000
    """of each set, the first so many; None: all"""
    pixels: Literal["normalized", "unit", "raw"] = "normalized"
    """what the network is given: less the training set's mean and over its deviation,
    in [0, 1], or 0 to 255"""
    batch_size: int = 100
    """examples at a time"""
    devices: int | None = 1
    """how many share the work: the points of a path or plane, the batches of a fit and
    of a map; None: all"""
    distributed: Annotated[
        str | None, tyro.conf.arg(metavar="auto | HOST:PORT,COUNT,INDEX")
    ] = None
    """one run of several processes, each started with this command, on all devices of
    all: auto on Slurm, Open MPI, Kubernetes and TPU"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """A subject that has been made.

    Attributes:
      classifier: the network and what its pixels are normalised by.
      train: the training set, whole.
      sets: batches of "train" and "test", cut to `examples`, on all devices.
      images: of the test set, uint8, on all devices.
      mesh: the devices; None: one.
    """

    classifier: training.Classifier
    train: data.Dataset
    sets: dict[str, PyTree]
    images: jax.Array
    mesh: jax.sharding.Mesh | None

    def variables(self, text: str) -> PyTree:
        """`{"params": ..., "batch_stats": ...}` of a checkpoint, on all devices.

        Raises: ValueError where it does not fit, or the network has diverged.
        """
        found = checkpoint.network(checkpoint.parse(text), self.shapes)
        _check_finite(text, found["params"])
        return parallel.replicate(found, self.mesh)

    @property
    def shapes(self) -> PyTree:
        """The shapes of the network's variables."""
        return shapes(self.classifier.network, self.train)

    def refresh(self, batch_stats: PyTree) -> Callable[[PyTree], PyTree] | None:
        """Batch statistics from a training-mode pass; None without batch norm."""
        if not jax.tree.leaves(batch_stats):
            return None
        return points.pooled(
            _TrainPass(self.classifier), batch_stats, self.sets["train"]
        )


@dataclasses.dataclass(frozen=True)
class _TrainPass:
    """The new statistics of a batch; equal ones compile once."""

    classifier: training.Classifier

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.classifier.inputs(batch["images"])
        return self.classifier.network.train(variables, inputs, jax.random.key(0))[1]


def make(subject: Subject, beside: str) -> Lab:
    """Loads the sets and makes the model.

    Args:
      subject: what was given; the rest is taken from the run folder of a checkpoint.
      beside: that checkpoint, as written.

    Raises:
      ValueError: a name is missing or unknown; MissingDatasetError: see `data.load`.
    """
    if subject.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {subject.batch_size}")
    mesh = _mesh(subject)
    compile_cache.use()
    known = checkpoint.settings(checkpoint.parse(beside).path)
    train, test = _sets(subject, known)
    options = _options(subject.model_options)
    name = subject.model
    if name is None:
        name, options = known.get("model"), _known_options(known) | options
    if name is None:
        raise ValueError(
            f"{beside} lies in no run folder of ours, so name the model: --model "
            "vgg11, or --model nets:make for make(num_classes) in your nets.py"
        )
    classifier = _classifier(subject, network(name, train.num_classes, options), train)
    cut = {
        part: found.take(min(subject.examples or len(found), len(found)))
        for part, found in (("train", train), ("test", test))
    }
    return Lab(
        classifier,
        train,
        # Placed once: a surface is evaluated in many calls.
        parallel.replicate(
            {part: data.eval_batches(s, subject.batch_size) for part, s in cut.items()},
            mesh,
        ),
        parallel.replicate(jnp.asarray(cut["test"].images), mesh),
        mesh,
    )


def _check_finite(text: str, params: PyTree) -> None:
    for name, leaf in leaf_names.flat(params).items():
        wrong = int((~np.isfinite(np.asarray(leaf))).sum())
        if wrong:
            raise ValueError(
                f"the network {text} is not finite: {wrong} of the {leaf.size} numbers "
                f"of {name} are NaN or infinite; it diverged, so choose an earlier step"
            )


def _mesh(subject) -> jax.sharding.Mesh | None:
    """The devices, of all processes where there are several; None: one."""
    if subject.distributed is not None:
        if subject.devices not in (1, None):
            raise ValueError(
                "--distributed takes all devices of all processes, got --devices "
                f"{subject.devices}; leave it out"
            )
        if not jax.distributed.is_initialized():  # the second network comes here again
            hosts.start(subject.distributed)
        return parallel.mesh()
    return None if subject.devices == 1 else parallel.mesh(subject.devices)


def network(name: str, num_classes: int, options: dict[str, Any]) -> models.Network:
    """A model by its name, or what "module:function" returns.

    Raises:
      ValueError: an unknown model or option, a module that is not found or fails, or a
        function that returns something else.
    """
    if ":" not in name:
        return models.create(name, num_classes, **options)
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"--model {name}: {error}; {_FORM}") from error
    if found is None:
        raise ValueError(f"--model {name}: {module} has no {function}; {_FORM}")
    made = found(num_classes, **options)
    if not isinstance(made, models.Network):
        raise ValueError(
            f"--model {name} returned a {type(made).__name__}, not a models.Network; "
            "make one with models.from_nnx, from_equinox, from_linen or from_functions"
        )
    return made


def shapes(network: models.Network, dataset: data.Dataset) -> PyTree:
    """The shapes of a network's variables on a set's images; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.float32)
    found = dict(jax.eval_shape(network.init, jax.random.key(0), images))
    return {key: found[key] for key in ("params", "batch_stats") if key in found}


def _classifier(subject, made, train):
    channels = train.images.shape[-1]
    if subject.pixels == "normalized":
        return training.Classifier.of(made, train)
    scale = 255.0 if subject.pixels == "unit" else 1.0
    classifier = training.Classifier(made, (0.0,) * channels, (scale,) * channels)
    classifier.check_classes(train)
    return classifier


def _sets(subject, known):
    name = subject.data if subject.data is not None else known.get("dataset")
    if name is None:
        raise ValueError(
            f"name the data: --data {' | '.join(data.names())}, or a file.npz of yours"
        )
    if name.endswith(".npz"):
        return _own_sets(files.local(name))
    size = subject.size if subject.size is not None else known.get("image_size")
    return data.load(name, "train", size), data.load(name, "test", size)


def _own_sets(path: Path) -> tuple[data.Dataset, data.Dataset]:
    keys = [
        f"{part}_{what}" for part in ("train", "test") for what in ("images", "labels")
    ]
    try:
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = [file[key] for key in keys]
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(
            f"--data {path} must be an .npz with {', '.join(keys)}: {error}"
        ) from error
    classes = int(max(arrays[1].max(), arrays[3].max())) + 1
    train, test = (
        data.Dataset(images, labels.astype(np.int32), classes, path.stem)
        for images, labels in (arrays[:2], arrays[2:])
    )
    return train, test


def _known_options(known: dict[str, Any]) -> dict[str, Any]:
    """The fields of a study's config that are options of its model."""
    found = {}
    for key in ("width", "classifier_width", "dropout_rate", "dtype", "init_factor"):
        if key in known:
            try:
                models.check(known["model"], 2, **{key: known[key]})
            except ValueError:
                continue  # of another model of the study
            found[key] = known[key]
    return found


def _options(words: tuple[str, ...]) -> dict[str, Any]:
    """Options as a dictionary.

    >>> _options(("width=0.25", "shortcut=A"))
    {'width': 0.25, 'shortcut': 'A'}
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"--model-options takes KEY=VALUE, got {word!r}")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found
