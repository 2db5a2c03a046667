"""What a study trains on: sets, network, batches, devices."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import classifier
from experiments.common.own import Own
from kd_heuristics import data, models, training
from kd_heuristics.runtime import parallel

PyTree = Any
NOTHING = Own()  # all is the config's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Data and network of one study.

    Attributes:
      augmentation: of training images, as `data.train_batches` takes it.
      classifier: the network with the training set's pixel statistics.
      train: the training set.
      batches: `(seed, step) -> batch` of it, augmented.
      test: batches of the test set, or of the validation set, cut to `test_examples`.
      sets: "train" and "test", un-augmented, in batches, cut to `eval_examples`.
      images_per_set: the mean number of examples in `sets`.
      batch_size: of training.
      steps_per_epoch: of training.
      mesh: over which batches are split; None on one device.
    """

    augmentation: dict[str, Any]
    classifier: training.Classifier
    train: data.Dataset
    batches: Callable
    test: PyTree
    sets: dict[str, PyTree]
    images_per_set: float
    batch_size: int
    steps_per_epoch: int
    mesh: jax.sharding.Mesh | None

    def start(self, seed: int) -> tuple[PyTree, PyTree]:
        """Initial parameters and statistics of a seed."""
        example = jnp.zeros((1, *self.train.images.shape[1:]))
        variables = self.classifier.network.init(jax.random.key(seed), example)
        return variables["params"], variables.get("batch_stats", {})

    @property
    def classifier_paths(self) -> frozenset[str]:
        """Paths of the parameters of the network's last dense layers."""
        return classifier.paths(self.classifier.network, self.train.images.shape[1:])

    @property
    def head_paths(self) -> frozenset[str]:
        """Paths of the parameters of the network's last layer."""
        return classifier.head(self.classifier.network, self.train.images.shape[1:])

    def check_layers(self, endings: Sequence[str]) -> None:
        """Raises ValueError if no layer's name has one of the endings.

        With "_fc" the network must also have parameters that are its classifier.
        """
        if "_fc" in endings:
            classifier.paths(self.classifier.network, self.train.images.shape[1:])
        params, batch_stats = jax.eval_shape(lambda: self.start(0))
        image = jax.ShapeDtypeStruct((1, *self.train.images.shape[1:]), jnp.uint8)
        names = jax.eval_shape(self.classifier.features, params, batch_stats, image)
        for ending in endings:
            if not any(name.endswith(ending) for name in names):
                raise ValueError(
                    f"the features of {self.classifier.network.name} show no layer "
                    f"{ending!r}, which this study compares, only {sorted(names)}; "
                    'return each layer\'s output there, such as "00_conv" and "01_fc"'
                )

    def steps_after(self, epoch: int) -> int:
        """Steps done after an epoch, counted from 0."""
        return (epoch + 1) * self.steps_per_epoch

    @property
    def point_steps(self) -> float:
        """Cost of a point on one set, in training steps.

        A forward pass costs about a third of a step's passes.
        """
        return self.images_per_set / self.batch_size / 3

    def tested(self, state: training.TrainState) -> dict[str, Any]:
        """`{"test_loss": [members], ...}` of a population on the test set."""
        metric = self.classifier.metric
        values = training.evaluate_members(metric, state, self.test)
        return {f"test_{name}": value for name, value in values.items()}

    def indexed(self) -> "Task":
        """The same task whose batches also hold "index", the examples' places."""
        own = data.train_batches(
            self.train, self.batch_size, index=True, **self.augmentation
        )
        return dataclasses.replace(self, batches=own)

    def with_batch_size(self, batch_size: int, remainder: str = "drop") -> "Task":
        """The same task, trained in batches of another size.

        Args:
          batch_size: of training.
          remainder: "drop" or "keep", see `data.batch_indices`.
        """
        own: dict[str, Any] = {"remainder": remainder, **self.augmentation}
        return dataclasses.replace(
            self,
            batches=data.train_batches(self.train, batch_size, **own),
            batch_size=batch_size,
            steps_per_epoch=data.steps_per_epoch(
                len(self.train), batch_size, remainder
            ),
        )

    def with_network(self, network: models.Network) -> "Task":
        """The same task for another network."""
        classifier = training.Classifier.of(network, self.train)
        return dataclasses.replace(self, classifier=classifier)

    def place(self, tree: PyTree) -> PyTree:
        """The tree on every device that the batches are split over."""
        if self.mesh is not None:
            return parallel.replicate(tree, self.mesh)
        # Fresh arrays: those of a checkpoint are bound to their device, and a training
        # that mixes bound and free ones compiles twice.
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def showing(*endings: str) -> Callable[[Any, Own], None]:
    """The check of a study that compares layers whose names have these endings."""

    def check(config, own):
        make(config, own).check_layers(endings)

    return check


def make(config: Any, own: Own = NOTHING) -> Task:
    """Loads the sets and makes the network.

    Args:
      config: of a study, with the fields dataset, train_examples, eval_examples,
        model, model_options, batch_size, eval_batch_size, devices and test_split;
        image_size and test_examples where they are not the set's.
      own: the user's network and images, in place of the config's.

    Raises:
      MissingDatasetError, ValueError: see their words.
    """
    mesh = None if config.devices == 1 else parallel.mesh(config.devices)
    train = own.load(config, "train").take(config.train_examples)
    test = own.load(config, config.test_split)
    network = own.network_for(config, train.num_classes)
    augmentation = own.augmentation(config, train.images.shape[1])
    along = {
        name: dataset.take(config.eval_examples)
        for name, dataset in (("train", train), ("test", test))
    }

    def eval_batches(dataset):
        size = parallel.divisible(config.eval_batch_size, mesh)
        batches = data.eval_batches(dataset, size)
        return batches if mesh is None else parallel.split_batches(batches, mesh)

    return Task(
        augmentation=augmentation,
        classifier=training.Classifier.of(network, train),
        train=train,
        batches=data.train_batches(train, config.batch_size, **augmentation),
        test=eval_batches(test.take(getattr(config, "test_examples", None))),
        sets={name: eval_batches(dataset) for name, dataset in along.items()},
        images_per_set=sum(len(s) for s in along.values()) / len(along),
        batch_size=config.batch_size,
        steps_per_epoch=data.steps_per_epoch(len(train), config.batch_size),
        mesh=mesh,
    )
