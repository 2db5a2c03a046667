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
from kd_heuristics.cli import arrays, checkpoint, task
from kd_heuristics.cli.task import Task
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
    as make(num_classes, **options), that returns a models.Network; without classes in
    the data, as make(**options)"""
    model_options: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """options of the model: width=0.25 classifier_width=64"""
    data: Annotated[
        str | None, tyro.conf.arg(metavar="NAME | FILE.npz | FOLDER | tfds:NAME")
    ] = None
    """name of data.load, or your own images: a file with train_images, train_labels,
    test_images and test_labels (uint8 [n, h, w, c] and integers [n]), a folder of class
    folders, or a set that tfds prepared. A file with train_tokens or train_inputs in
    place of images holds tokens or tables"""
    metric: Annotated[
        str | None, tyro.conf.arg(metavar="MODULE:FUNCTION | FILE.py:FUNCTION")
    ] = None
    """your own loss, metric(outputs, batch): of the network's outputs and the arrays of
    the data by name, it returns a float [batch], or a dictionary of such arrays with
    "loss" and perhaps a "mask"; the default is the cross-entropy of integer labels"""
    size: int | None = None
    """pixels per side, for a set with several sizes or your own images"""
    examples: int | None = 1000
    """number of examples to use from the start of each set; None takes all"""
    pixels: Literal["normalized", "unit", "raw"] = "normalized"
    """scale of images: minus the training set's mean and divided by its deviation, in
    [0, 1], or 0 to 255; tokens and tables reach the network unchanged"""
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
      task: the network, its inputs and its loss.
      train: the full training set.
      key: name of the network's inputs in a batch.
      sets: batches of "train" and "test", cut to `examples`, on all devices.
      test: arrays of the test set by name, cut to `examples`.
      inputs: its inputs, unscaled, on all devices.
      mesh: the devices; `None` stands for one.
    """

    task: training.Classifier | Task
    train: data.Dataset | dict[str, np.ndarray]
    key: str
    sets: dict[str, PyTree]
    test: dict[str, np.ndarray]
    inputs: jax.Array
    mesh: jax.sharding.Mesh | None

    @property
    def unit(self) -> str:
        """Unit of the loss; "" of a user's own."""
        own = isinstance(self.task, Task) and self.task.own is not None
        return "" if own else "nats"

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        if isinstance(self.train, data.Dataset):
            return len(self.train)
        return len(self.train[self.key])

    def variables(self, text: str) -> PyTree:
        """Returns `{"params": ..., "batch_stats": ...}` of a checkpoint on all devices.

        Raises: InputError if it does not fit, or the network has diverged.
        """
        outputs_first = self.task.network.filter_axis == 0
        place = checkpoint.parse(text)
        found = checkpoint.network(place, self.shapes, weights=outputs_first)
        _check_finite(text, found["params"])
        return parallel.replicate(found, self.mesh)

    @property
    def shapes(self) -> PyTree:
        """Shapes of the network's variables."""
        one = jax.ShapeDtypeStruct((1, *self.inputs.shape[1:]), self.inputs.dtype)
        inputs = jax.eval_shape(self.task.inputs, one)
        init = self.task.network.init
        found = dict(jax.eval_shape(init, jax.random.key(0), inputs))
        return {key: found[key] for key in ("params", "batch_stats") if key in found}

    def refresh(self, batch_stats: PyTree) -> Callable[[PyTree], PyTree] | None:
        """Returns `params -> batch_stats` by a training pass; None if no batch norm."""
        if not jax.tree.leaves(batch_stats):
            return None
        with checking_input():
            return points.refit_pooled(
                _TrainPass(self.task, self.key), batch_stats, self.sets["train"]
            )


@dataclasses.dataclass(frozen=True)
class _TrainPass:
    """Function for the new statistics of a batch; equal instances compile once."""

    task: training.Classifier | Task
    key: str

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.task.inputs(batch[self.key])
        return self.task.network.train(variables, inputs, jax.random.key(0))[1]


def make(subject: Subject, beside: str, *, needs_loss: bool = True) -> Lab:
    """Load the sets and make the model.

    Args:
      subject: the given options; the run folder of a checkpoint supplies the rest.
      beside: that checkpoint, as the user gave it.
      needs_loss: whether the command measures a loss, of labels or a metric.

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
    found = _data(subject, known)
    options = _options(subject.model_options)
    name = subject.model
    if name is None:
        name, options = known.get("model"), _known_options(known) | options
    if name is None:
        raise InputError(
            f"{beside} does not lie in one of our run folders, so name the model: "
            "--model vgg11, or --model nets:make for make(num_classes) in your nets.py"
        )
    network = _network(name, found, options)
    sets: dict[str, Any]
    if isinstance(found, arrays.Arrays):
        measured, key = _task(subject, network, found, needs_loss), found.key
        sets = {"train": found.train, "test": found.test}
        cut = {
            part: {k: v[: subject.examples] for k, v in own.items()}
            for part, own in sets.items()
        }
        test = cut["test"]
    else:
        measured, key = _classifier(subject, network, found["train"]), "images"
        sets = found
        cut = {
            part: own.take(min(subject.examples or len(own), len(own)))
            for part, own in sets.items()
        }
        test = {"images": cut["test"].images, "labels": cut["test"].labels}
    # Place the batches once, because a surface takes many calls.
    batches = {
        part: data.eval_batches(s, subject.batch_size) for part, s in cut.items()
    }
    if needs_loss and isinstance(measured, Task):
        measured.check(batches["train"])
    return Lab(
        measured,
        sets["train"],
        key,
        parallel.replicate(batches, mesh),
        test,
        parallel.replicate(jnp.asarray(test[key]), mesh),
        mesh,
    )


def _network(name, found, options) -> models.Network:
    """Creates the network, with the data's number of classes if it takes one."""
    if isinstance(found, arrays.Arrays):
        classes = found.num_classes
        if models.is_own(name) and not models.takes_classes(name, options):
            classes = None
    else:
        classes = found["train"].num_classes
    with checking_input():
        models.check(name, classes, **options)
    # A ValueError of the user's own function, from here on, is a bug of that function.
    return models.create(name, classes, **options)


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


def _classifier(subject, made, train) -> training.Classifier:
    """Returns the network with the normalisation that `--pixels` names."""
    classifier = training.Classifier(made, *_scale(subject, train))
    classifier.check_classes(train)
    return classifier


def _task(subject, network, found: arrays.Arrays, needs_loss: bool) -> Task:
    """Returns the task of a user's own arrays, or own metric."""
    own = None if subject.metric is None else task.load(subject.metric)
    if needs_loss and own is None and found.num_classes is None:
        raise InputError(
            f"{found.name} has no integer labels [n], so name the loss: --metric "
            "losses.py:loss, for loss(outputs, batch) in your losses.py"
        )
    if found.key != "images":
        return Task(network, found.key, own)
    images = found.train["images"]
    unlabelled = np.full(len(images), data.UNLABELLED, np.int32)
    stats = _scale(subject, data.Dataset(images, unlabelled, 0, found.name))
    return Task(network, found.key, own, *stats)


def _scale(subject, train: data.Dataset):
    """Returns what `--pixels` subtracts from pixels and divides them by."""
    if subject.pixels == "normalized":
        return data.channel_stats(train)
    channels = train.images.shape[-1]
    scale = 255.0 if subject.pixels == "unit" else 1.0
    return (0.0,) * channels, (scale,) * channels


def _data(subject, known) -> arrays.Arrays | dict[str, data.Dataset]:
    """Returns the sets that the options or the run folder name."""
    name = subject.data if subject.data is not None else known.get("dataset")
    if name is None:
        raise InputError(
            f"name the data: --data {' | '.join(data.names())}, or your own "
            "file.npz, folder of class folders or tfds:NAME"
        )
    size = subject.size if subject.size is not None else known.get("image_size")
    own_loss = subject.metric is not None
    if arrays.has(name) or (own_loss and size is None and arrays.is_file(name)):
        if size is not None:
            raise InputError(f"--size is for images, and {name} has none; leave it out")
        return arrays.read(name)
    with checking_input():
        sets = {part: data.load(name, part, size) for part in ("train", "test")}
    return arrays.of_datasets(sets["train"], sets["test"]) if own_loss else sets


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
