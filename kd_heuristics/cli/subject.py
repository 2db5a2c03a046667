"""Subject of the tools: a model and a set of images, as options of the commands."""

import ast
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kd_heuristics import data, models, points, training
from kd_heuristics.cli import checkpoint
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compile_cache, hosts, parallel
from kd_heuristics.runtime.errors import InputError, checking_input

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """Model and data; optional for checkpoints in one of our run folders."""

    model: Annotated[
        str | None, tyro.conf.arg(metavar="NAME | MODULE:FUNCTION | FILE.py:FUNCTION")
    ] = None
    """name of models.create, or your own function (nets:make or nets.py:make), called
    as make(num_classes, **options), that returns a models.Network"""
    model_options: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """options of the model: width=0.25 classifier_width=64"""
    data: Annotated[
        str | None, tyro.conf.arg(metavar="NAME | FILE.npz | FOLDER | tfds:NAME")
    ] = None
    """name of data.load, or your own images: a file with train_images, train_labels,
    test_images and test_labels (uint8 [n, h, w, c] and integers [n]), a folder of class
    folders, or a set that tfds prepared"""
    size: int | None = None
    """pixels per side, for a set with several sizes or your own images"""
    examples: int | None = 1000
    """number of examples to use from the start of each set; None takes all"""
    pixels: Literal["normalized", "unit", "raw"] = "normalized"
    """scale of the network's inputs: minus the training set's mean and divided by its
    deviation, in [0, 1], or 0 to 255"""
    batch_size: int = 100
    """examples per batch"""
    devices: int | None = 1
    """number of devices that share the points of a path or plane, and the batches of a
    fit or map; None takes all"""
    distributed: Annotated[
        str | None, tyro.conf.arg(metavar="auto | HOST:PORT,COUNT,INDEX")
    ] = None
    """run several processes together on all their devices, each started with this
    command; auto on Slurm, Open MPI, Kubernetes and TPU"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """Loaded subject of a command.

    Attributes:
      classifier: the network and the statistics that normalise its pixels.
      train: the full training set.
      sets: batches of "train" and "test", cut to `examples`, on all devices.
      images: images of the test set, cut to `examples`, uint8, on all devices.
      mesh: the devices; `None` stands for one.
    """

    classifier: training.Classifier
    train: data.Dataset
    sets: dict[str, PyTree]
    images: jax.Array
    mesh: jax.sharding.Mesh | None

    def variables(self, text: str) -> PyTree:
        """Returns `{"params": ..., "batch_stats": ...}` of a checkpoint on all devices.

        Raises: InputError if it does not fit, or the network has diverged.
        """
        outputs_first = self.classifier.network.filter_axis == 0
        place = checkpoint.parse(text)
        found = checkpoint.network(place, self.shapes, weights=outputs_first)
        _check_finite(text, found["params"])
        return parallel.replicate(found, self.mesh)

    @property
    def shapes(self) -> PyTree:
        """Shapes of the network's variables."""
        return shapes(self.classifier.network, self.train)

    def refresh(self, batch_stats: PyTree) -> Callable[[PyTree], PyTree] | None:
        """Returns `params -> batch_stats` by a training pass; None if no batch norm."""
        if not jax.tree.leaves(batch_stats):
            return None
        with checking_input():
            return points.refit_pooled(
                _TrainPass(self.classifier), batch_stats, self.sets["train"]
            )


@dataclasses.dataclass(frozen=True)
class _TrainPass:
    """Function for the new statistics of a batch; equal instances compile once."""

    classifier: training.Classifier

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.classifier.inputs(batch["images"])
        return self.classifier.network.train(variables, inputs, jax.random.key(0))[1]


def make(subject: Subject, beside: str) -> Lab:
    """Load the sets and make the model.

    Args:
      subject: the given options; the run folder of a checkpoint supplies the rest.
      beside: that checkpoint, as the user gave it.

    Raises:
      InputError: a name is missing or unknown; MissingDatasetError: see `data.load`.
    """
    if subject.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {subject.batch_size}")
    if subject.examples is not None and subject.examples < 1:
        raise InputError(f"--examples must be at least 1, got {subject.examples}")
    mesh = _mesh(subject)
    compile_cache.use()
    known = checkpoint.settings(checkpoint.parse(beside).path)
    train, test = _sets(subject, known)
    options = _options(subject.model_options)
    name = subject.model
    if name is None:
        name, options = known.get("model"), _known_options(known) | options
    if name is None:
        raise InputError(
            f"{beside} does not lie in one of our run folders, so name the model: "
            "--model vgg11, or --model nets:make for make(num_classes) in your nets.py"
        )
    with checking_input():
        models.check(name, train.num_classes, **options)
    # A ValueError of the user's own function, from here on, is a bug of that function.
    network = models.create(name, train.num_classes, **options)
    classifier = _classifier(subject, network, train)
    cut = {
        part: found.take(min(subject.examples or len(found), len(found)))
        for part, found in (("train", train), ("test", test))
    }
    return Lab(
        classifier,
        train,
        # Place the batches once, because a surface takes many calls.
        parallel.replicate(
            {part: data.eval_batches(s, subject.batch_size) for part, s in cut.items()},
            mesh,
        ),
        parallel.replicate(jnp.asarray(cut["test"].images), mesh),
        mesh,
    )


def _check_finite(text: str, params: PyTree) -> None:
    """Raise InputError if a parameter is NaN or infinite."""
    for name, leaf in leaf_names.flat(params).items():
        wrong = int((~np.isfinite(np.asarray(leaf))).sum())
        if wrong:
            raise InputError(
                f"the network {text} is not finite: {wrong} of the {leaf.size} numbers "
                f"of {name} are NaN or infinite; it diverged, so choose an earlier step"
            )


def _mesh(subject) -> jax.sharding.Mesh | None:
    """Returns the mesh of devices, over all processes; None for one device."""
    if subject.distributed is not None:
        if subject.devices not in (1, None):
            raise InputError(
                "--distributed takes all devices of all processes, got --devices "
                f"{subject.devices}; leave it out"
            )
        if not jax.distributed.is_initialized():  # the second network comes here again
            with checking_input():
                hosts.start(subject.distributed)
        return parallel.mesh()
    with checking_input():
        return None if subject.devices == 1 else parallel.mesh(subject.devices)


def shapes(network: models.Network, dataset: data.Dataset) -> PyTree:
    """Returns the shapes of a network's variables for a set; computes no values."""
    images = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.float32)
    found = dict(jax.eval_shape(network.init, jax.random.key(0), images))
    return {key: found[key] for key in ("params", "batch_stats") if key in found}


def _classifier(subject, made, train):
    """Returns the network with the normalisation that `--pixels` names."""
    channels = train.images.shape[-1]
    if subject.pixels == "normalized":
        return training.Classifier.of(made, train)
    scale = 255.0 if subject.pixels == "unit" else 1.0
    classifier = training.Classifier(made, (0.0,) * channels, (scale,) * channels)
    classifier.check_classes(train)
    return classifier


def _sets(subject, known):
    """Returns the training and test sets that the options or the run folder name."""
    name = subject.data if subject.data is not None else known.get("dataset")
    if name is None:
        raise InputError(
            f"name the data: --data {' | '.join(data.names())}, or your own "
            "file.npz, folder of class folders or tfds:NAME"
        )
    size = subject.size if subject.size is not None else known.get("image_size")
    with checking_input():
        return data.load(name, "train", size), data.load(name, "test", size)


def _known_options(known: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a study's config that are options of its model."""
    keys = ("width", "classifier_width", "dropout_rate", "dtype", "init_factor")
    there = {key: known[key] for key in keys if key in known}
    return models.accepted(known["model"], there) if "model" in known else {}


def _options(words: tuple[str, ...]) -> dict[str, Any]:
    """Parse KEY=VALUE options into a dictionary.

    >>> _options(("width=0.25", "shortcut=A"))
    {'width': 0.25, 'shortcut': 'A'}
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"--model-options takes KEY=VALUE, got {word!r}")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found
