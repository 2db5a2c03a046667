"""Forms of a network's inputs and outputs: a classifier of images, or any."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.data import image_layout
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.leaves import described


@dataclasses.dataclass(frozen=True)
class Form:
    """What a network takes and returns.

    Attributes:
      name: name of the network, for messages.
      inputs: "images", float [batch, h, w, c], with logits [batch, classes]; or "any",
        such as tokens or tables, with any float output [batch, ...].
    """

    name: str
    inputs: str = "images"

    def __post_init__(self):
        nearest.choose(self.inputs, ("images", "any"), "inputs")

    @property
    def images(self) -> bool:
        """Whether the inputs are images."""
        return self.inputs == "images"

    def check(self, inputs: jax.Array | np.ndarray) -> None:
        """Raises ValueError if inputs should be images and are not."""
        if self.images:
            check_images(inputs)

    def outputs(self, outputs: Any, inputs: jax.Array | np.ndarray) -> jax.Array:
        """Returns the outputs in float32; ValueError if they have another form."""
        shape = getattr(outputs, "shape", None)
        if shape is None:
            found = f"a {type(outputs).__name__}"
        elif shape[:1] != inputs.shape[:1] or (self.images and len(shape) != 2):
            found = str(list(shape))
        elif not jnp.issubdtype(outputs.dtype, jnp.floating):
            found = described(outputs)
        else:
            return outputs.astype(jnp.float32)
        what = "images" if self.images else "inputs"
        wanted = (
            "logits, float [batch, classes]" if self.images else "float [batch, ...]"
        )
        raise ValueError(
            f"{self.name} must return {wanted}, for {what} {list(inputs.shape)}; it "
            f"returned {found}"
        )


def check_images(images: jax.Array | np.ndarray) -> None:
    """Raises ValueError if images are not float [batch, h, w, c]."""
    if len(images.shape) not in (3, 4):
        raise ValueError(
            f"images must be [batch, height, width, channels], got "
            f"{tuple(images.shape)}; for tokens or tables, make the network with "
            'inputs="any"'
        )
    image_layout.check(images.shape)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floating-point, got {images.dtype}; convert pixels first, "
            "for example with data.normalize"
        )
