"""Sets and networks of a FunMatch run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.funmatch import lengths
from experiments.funmatch.config import Config
from experiments.funmatch.sets import Sets
from kd_heuristics import data, models, training
from kd_heuristics.models import bit_weights
from kd_heuristics.runtime import parallel

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Materials:
    """Sets, networks and devices of a run.

    Attributes:
      config: config of the study.
      sets: training and held-out images.
      classifiers: networks with pixel statistics: "teacher", "student",
        "mobilenet_gn" and "mobilenet_bn".
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


def make(config: Config) -> Materials:
    """Loads the sets and makes the networks.

    Raises:
      MissingDatasetError: a set was not prepared.
      ValueError: the config does not fit the sets.
    """
    mesh = None if config.devices == 1 else parallel.mesh(config.devices)
    sets = Sets(config, mesh)
    forms = {
        "teacher": (config.teacher, config.teacher_options),
        "student": (config.model, config.student_options),
        "mobilenet_gn": (config.family, config.family_options("group")),
        "mobilenet_bn": (config.family, config.family_options("batch")),
    }
    classifiers = {
        family: training.Classifier(
            models.create(net, sets.num_classes, **options),
            bit_weights.MEAN,
            bit_weights.STD,
        )
        for family, (net, options) in forms.items()
    }
    return Materials(config=config, sets=sets, classifiers=classifiers, mesh=mesh)
