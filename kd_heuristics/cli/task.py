"""What a command measures: a network, its inputs, and the user's own metric."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from kd_heuristics import data, models, training
from kd_heuristics.runtime.errors import InputError

PyTree = Any
_FORM = (
    "metric(outputs, batch) must return the loss of each example, float [batch], or a "
    'dictionary with "loss", perhaps more of that shape, and perhaps "mask"'
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A network with the inputs of a user's own set, and a metric of its outputs.

    It has the methods of `training.Classifier` that the commands use. Equal tasks have
    equal hashes, so that their methods compile once.

    Attributes:
      network: the network.
      key: name of its inputs in a batch.
      own: `(outputs, batch) -> values`, see `load`; `None` takes the cross-entropy and
        the accuracy of "labels".
      mean: of uint8 images, a value a channel; `None` passes the inputs unchanged.
      std: likewise.
    """

    network: models.Network
    key: str
    own: Callable[[jax.Array, PyTree], Any] | None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def inputs(self, inputs: jax.Array) -> jax.Array:
        """Returns what the network gets."""
        if self.mean is None or self.std is None:
            return inputs
        return data.normalize(inputs, jnp.asarray(self.mean), jnp.asarray(self.std))

    def supervised(self, params, batch_stats, batch, key):
        """Returns the mean loss of a batch in training mode; an objective of `fit`."""
        variables = training.with_stats(params, batch_stats)
        inputs = self.inputs(batch[self.key])
        outputs, batch_stats = self.network.train(variables, inputs, key)
        found = self._values(outputs, batch)
        mask = found.pop("mask")
        count = jnp.maximum(mask.sum(), 1)
        means = {k: jnp.where(mask, v, 0).sum() / count for k, v in found.items()}
        return means["loss"], (batch_stats, means)

    def metric(self, params, batch_stats, batch):
        """Returns the metric's values in evaluation mode, and their mask."""
        inputs = self.inputs(batch[self.key])
        variables = training.with_stats(params, batch_stats)
        return self._values(self.network.apply(variables, inputs), batch)

    def features(self, params, batch_stats, inputs):
        """Returns each layer's output, `{"00_embed": array, ...}`."""
        variables = training.with_stats(params, batch_stats)
        return self.network.features(variables, self.inputs(inputs))

    def check(self, batches: Mapping[str, Any]) -> None:
        """Compute nothing; raise InputError if the metric returns something else."""
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batches
        )
        inputs = jax.eval_shape(self.inputs, batch[self.key])

        def values(inputs, batch):
            variables = self.network.init(jax.random.key(0), inputs)
            return self._values(self.network.apply(variables, inputs), batch)

        jax.eval_shape(values, inputs, batch)

    def _values(self, outputs, batch) -> dict[str, jax.Array]:
        """Returns values and mask of one shape."""
        if self.own is None:
            found = training.cross_entropy_and_accuracy(outputs, batch["labels"])
        else:
            seen = {key: x for key, x in batch.items() if key != "mask"}
            found = self.own(outputs, seen)
        found = dict(found) if isinstance(found, Mapping) else {"loss": found}
        own = found.pop("mask", None)
        shapes = {key: getattr(x, "shape", None) for key, x in found.items()}
        shape = shapes.get("loss")
        count = outputs.shape[:1]
        if shape is None or any(its != shape for its in shapes.values()):
            _refuse(f"returned {_listed(shapes)}")
        if shape[:1] != count or not jnp.issubdtype(found["loss"].dtype, jnp.floating):
            dtype = found["loss"].dtype
            _refuse(f"returned a loss {dtype} {list(shape)} for {count[0]} examples")
        there = batch.get("mask", jnp.ones(count, bool))
        there = jnp.broadcast_to(jnp.expand_dims(there, range(1, len(shape))), shape)
        if own is not None:
            if getattr(own, "shape", None) != shape:
                _refuse(f'returned a "mask" of another shape than the loss, {shape}')
            there &= own.astype(bool)
        return found | {"mask": there}


def load(name: str) -> Callable[[jax.Array, PyTree], Any]:
    """Imports the metric of a name, "module:function" or "file.py:function".

    It is `metric(outputs, batch) -> values`. The outputs are the network's, float32
    [batch, ...]; the batch holds the arrays of the data by name. The values are float
    [batch], the loss of each example; or a dictionary with "loss" and perhaps others,
    and a "mask" that leaves some out. All may also be [batch, tokens]: then each token
    counts as an example.

    Raises: InputError if it is not found or does not take two arguments.
    """
    if not models.is_own(name):
        raise InputError(
            f"--metric must be MODULE:FUNCTION or FILE.py:FUNCTION, got {name!r}"
        )
    try:
        found = models.function(name)
    except ValueError as error:
        raise InputError(f"--metric: {error}".replace("model ", "", 1)) from error
    try:
        inspect.signature(found).bind("outputs", "batch")
    except TypeError as error:
        raise InputError(
            f"--metric {name} takes {inspect.signature(found)}, not (outputs, batch): "
            f"{error}"
        ) from error
    return found


def _listed(shapes) -> str:
    return ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "no values"


def _refuse(words: str) -> NoReturn:
    raise InputError(f"{_FORM}; it {words}")
