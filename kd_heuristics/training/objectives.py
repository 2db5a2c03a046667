"""Training objectives and evaluation metrics of classifiers.

An objective is `(params, batch_stats, batch, key) -> (scalar, (batch_stats, metrics))`,
differentiated in `params` only. Pass other arrays that it needs, such as the ends of a
curve, as leaves of a `jax.tree_util.Partial`, so that one compiled program serves all
their values.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import optax

from kd_heuristics import data
from kd_heuristics.models import Network
from kd_heuristics.runtime.errors import InputError, first_line, users_place

Objective = Callable  # (params, batch_stats, batch, key) -> (scalar, (stats, metrics))


# What a network raises on inputs of another shape than it is made for.
_MISFIT = (TypeError, ValueError, IndexError, flax.errors.FlaxError)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network with the pixel statistics that normalise its inputs.

    `mean` and `std` hold one value per channel, in units of uint8 pixels. Equal
    classifiers have equal hashes, so that their methods compile once.
    """

    network: Network
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, network: Network, dataset: data.Dataset) -> "Classifier":
        """Returns the network with the pixel statistics of its training set.

        Raises:
          ValueError: the number of logits differs from the set's number of classes.
        """
        classifier = cls(network, *data.channel_stats(dataset))
        classifier.check_classes(dataset)
        return classifier

    def check_classes(self, dataset: data.Dataset) -> None:
        """Raise InputError if the network does not fit the set; compute nothing.

        It fits if it takes such images, and has a logit for each class.
        """

        def logits(images):
            inputs = self.inputs(images)
            variables = self.network.init(jax.random.key(0), inputs)
            return self.network.apply(variables, inputs)

        images = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.uint8)
        try:
            found = jax.eval_shape(logits, images).shape[-1]
        except _MISFIT as error:
            raise InputError(
                f"{self.network.name} cannot be called on images {images.shape} of the "
                f"set {dataset.name!r} ({first_line(error)}{users_place(error)}); make "
                "it for such images, or call it on one to see where it fails"
            ) from error
        if found != dataset.num_classes:
            raise InputError(
                f"{self.network.name} has {found} logits, but the set "
                f"{dataset.name!r} has {dataset.num_classes} classes; create it with "
                f"num_classes={dataset.num_classes}"
            )

    def inputs(self, images: jax.Array) -> jax.Array:
        """Returns float32 inputs for images [batch, h, w, c] in uint8 pixel units."""
        return data.normalize(images, jnp.asarray(self.mean), jnp.asarray(self.std))

    def supervised(self, params, batch_stats, batch, key):
        """Returns the mean softmax cross-entropy in nats; a supervised objective."""
        variables = with_stats(params, batch_stats)
        inputs = self.inputs(batch["images"])
        logits, batch_stats = self.network.train(variables, inputs, key)
        values = cross_entropy_and_accuracy(logits, batch["labels"])
        metrics = {name: value.mean() for name, value in values.items()}
        return metrics["loss"], (batch_stats, metrics)

    def metric(self, params, batch_stats, batch):
        """Returns loss (nats) and accuracy per example in evaluation mode, and mask."""
        inputs = self.inputs(batch["images"])
        logits = self.network.apply(with_stats(params, batch_stats), inputs)
        values = cross_entropy_and_accuracy(logits, batch["labels"])
        return {**values, "mask": batch["mask"]}

    def features(self, params, batch_stats, images):
        """Returns each layer's output on uint8 images, `{"00_conv": array, ...}`."""
        variables = with_stats(params, batch_stats)
        return self.network.features(variables, self.inputs(images))


def unpacked(variables: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns a network's parameters and statistics; {} if it has none."""
    return variables["params"], variables.get("batch_stats", {})


def with_stats(params, batch_stats):
    """Returns the variables of a `Network`; omits empty statistics."""
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def cross_entropy_and_accuracy(
    logits: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """Returns softmax cross-entropy in nats and 0/1 accuracy, each float32 [batch].

    >>> values = cross_entropy_and_accuracy(jnp.zeros((1, 4)), jnp.array([0]))
    >>> round(float(values["loss"][0]), 4), float(values["accuracy"][0])
    (1.3863, 1.0)
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {"loss": loss, "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)}
