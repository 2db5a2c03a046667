"""Sets and networks of a FunMatch run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.common.own import Own
from experiments.common.task import NOTHING
from experiments.funmatch import lengths
from experiments.funmatch.arms import ARMS
from experiments.funmatch.config import Config
from experiments.funmatch.sets import Sets
from kd_heuristics import data, models, training
from kd_heuristics.models import bit_weights
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.errors import first_line, users_place

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Materials:
    """Sets, networks and devices of a run.

    Attributes:
      config: config of the study.
      sets: training and held-out images.
      classifiers: networks with pixel statistics, by the names of `config.networks`.
      mesh: devices over which batches are split; None on one device.
    """

    config: Config
    sets: Sets
    classifiers: Mapping[str, training.Classifier]
    mesh: jax.sharding.Mesh | None

    def start(self, family: str, seed: int, size: int) -> tuple[PyTree, PyTree]:
        """Initialises parameters and statistics of a network, for an image size."""
        images = jnp.zeros((1, size, size, self.sets.channels))
        variables = self.classifiers[family].network.init(jax.random.key(seed), images)
        return variables["params"], variables.get("batch_stats", {})

    def view(self, name: str, **options: Any) -> data.views.View:
        """Makes a view with the crops of the config."""
        return data.views.create(
            name,
            flip=self.config.flip,
            fraction=self.config.fraction,
            area=(self.config.smallest_area, 1.0),
            **options,
        )

    def steps(self, epochs: int) -> int:
        """Returns the number of training steps of a student."""
        return lengths.steps(self.config, epochs, self.sets.num_examples)

    @property
    def training_options(self) -> dict[str, Any]:
        """Returns options of `fit` and `population` that all trainings share."""
        # A stream keeps twice as many batches on the devices.
        steps_per_call = 4 if self.config.streamed else 50
        return {"mesh": self.mesh, "steps_per_call": steps_per_call}


def make(config: Config, own: Own = NOTHING) -> Materials:
    """Loads the sets and makes the networks.

    Args:
      config: config of the study.
      own: the user's networks and images, in place of the config's.

    Raises:
      MissingDatasetError: a set was not prepared.
      ValueError: the config does not fit the sets.
    """
    mesh = None if config.devices == 1 else parallel.mesh(config.devices)
    sets = Sets(config, mesh, own)
    # Pixels from -1 to 1, as the released weights expect.
    scale = (bit_weights.MEAN[0],) * sets.channels
    classifiers = {
        part: training.Classifier(
            models.create(net, sets.num_classes, **options), scale, scale
        )
        for part, (net, options) in config.networks.items()
    }
    for part, network in (("student", own.network), ("teacher", own.teacher)):
        if network is not None:
            classifiers[part] = training.Classifier(network, scale, scale)
    return Materials(config=config, sets=sets, classifiers=classifiers, mesh=mesh)


def fit(config: Config, own: Own) -> None:
    """Raises ValueError if the user's networks and images do not fit the config."""
    if config.streamed and own.dataset is not None:
        raise ValueError(
            "streamed reads sets that tfds prepared, got a dataset of your own, which "
            "is in memory; set streamed=False"
        )
    its = make(config, own)
    lengths.check(config, its.sets.num_examples, its.sets.teacher_examples)
    if config.batch_size > its.sets.num_examples:
        raise ValueError(
            f"batch_size must be at most the {its.sets.num_examples} training images, "
            f"got {config.batch_size}"
        )
    sizes = {("teacher", config.teacher_size)}
    for arm in (ARMS[name] for name in config.arms):
        sizes |= {("teacher", config.sizes(arm)[0]), (arm.family, config.sizes(arm)[1])}
        sizes |= {("teacher", config.sizes(arm)[1])} if arm.ensemble else set()
    for part, size in sorted(sizes):
        _check_network(its, part, size)


def _check_network(its: Materials, part: str, size: int) -> None:
    """Raises ValueError if a network cannot see a size, or has other logits."""
    network = its.classifiers[part].network
    shape = 2, size, size, its.sets.channels
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    what = f"{part} {network.name} on images {shape[1:]}"
    try:
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        logits = jax.eval_shape(network.apply, variables, images)
    except Exception as error:  # each library has its own
        raise ValueError(
            f"{what} fails with {first_line(error)}{users_place(error)}; teacher_size "
            "and student_size are the sides that the networks see"
        ) from error
    if logits.shape != (2, its.sets.num_classes):
        raise ValueError(
            f"{what} has logits {logits.shape[1:]}, but the set has "
            f"{its.sets.num_classes} classes; make them alike"
        )
