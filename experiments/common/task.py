"""What a study trains on: sets, network, batches, devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import data, models, training
from kd_heuristics.runtime import parallel

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Data and network of one study.

    Attributes:
      dataset: its name.
      classifier: the network with the training set's pixel statistics.
      train: the training set.
      batches: `(seed, step) -> batch` of it, augmented.
      test: batches of the whole test set, or of the validation set.
      sets: "train" and "test", un-augmented, in batches, cut to `eval_examples`.
      images_per_set: the mean number of examples in `sets`.
      batch_size: of training.
      steps_per_epoch: of training.
      mesh: over which batches are split; None on one device.
    """

    dataset: str
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
        """`{"test_loss": [members], ...}` of a population on the whole test set."""
        metric = self.classifier.metric
        values = training.evaluate_members(metric, state, self.test)
        return {f"test_{name}": value for name, value in values.items()}

    def with_batch_size(self, batch_size: int) -> "Task":
        """The same task, trained in batches of another size."""
        return dataclasses.replace(
            self,
            batches=_train_batches(self.dataset, self.train, batch_size),
            batch_size=batch_size,
            steps_per_epoch=data.steps_per_epoch(len(self.train), batch_size),
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


def make(config: Any) -> Task:
    """Loads the sets and makes the network.

    Args:
      config: of a study, with the fields dataset, train_examples, eval_examples,
        model, model_options, batch_size, eval_batch_size, devices and test_split;
        image_size where it is not the set's.

    Raises:
      MissingDatasetError, ValueError: see their words.
    """
    mesh = None if config.devices == 1 else parallel.mesh(config.devices)
    size = getattr(config, "image_size", None)
    train = data.load(config.dataset, "train", size).take(config.train_examples)
    test = data.load(config.dataset, config.test_split, size)
    network = models.create(config.model, train.num_classes, **config.model_options)
    along = {
        name: dataset.take(config.eval_examples)
        for name, dataset in (("train", train), ("test", test))
    }

    def eval_batches(dataset):
        size = parallel.divisible(config.eval_batch_size, mesh)
        batches = data.eval_batches(dataset, size)
        return batches if mesh is None else parallel.split_batches(batches, mesh)

    return Task(
        dataset=config.dataset,
        classifier=training.Classifier.of(network, train),
        train=train,
        batches=_train_batches(config.dataset, train, config.batch_size),
        test=eval_batches(test),
        sets={name: eval_batches(dataset) for name, dataset in along.items()},
        images_per_set=sum(len(s) for s in along.values()) / len(along),
        batch_size=config.batch_size,
        steps_per_epoch=data.steps_per_epoch(len(train), config.batch_size),
        mesh=mesh,
    )


def _train_batches(name: str, train: data.Dataset, batch_size: int) -> Callable:
    side = train.images.shape[1]
    augmentation: dict[str, Any] = data.default_augmentation(name, side)
    return data.train_batches(train, batch_size, **augmentation)
