"""Checks that images are [batch, height, width, channels] and labels integers [n]."""

from collections.abc import Sequence

import numpy as np

FEW = (1, 3)  # channels of images
_SMALL = 4  # largest side in pixels of a map whose channels may still come last


def check(shape: Sequence[int], what: str = "images") -> None:
    """Raises ValueError for one unbatched image, and for channels that come first.

    Args:
      shape: shape of the images.
      what: name of the images in the message.

    >>> check((8, 32, 32, 3))
    >>> check((8, 3, 32, 32))
    Traceback (most recent call last):
    ...
    ValueError: images must be [batch, height, width, channels], got (8, 3, 32, 32): \
channels come first; move them with images.transpose(0, 2, 3, 1)
    """
    shape = tuple(shape)
    words = f"{what} must be [batch, height, width, channels], got {shape}"
    if len(shape) == 3:
        raise ValueError(f"{words}; a single image needs a batch axis: images[None]")
    if len(shape) != 4:
        raise ValueError(words)
    if shape[1] in FEW and min(shape[2:]) > _SMALL:
        raise ValueError(
            f"{words}: channels come first; move them with images.transpose(0, 2, 3, 1)"
        )


def check_labels(labels: np.ndarray, what: str) -> None:
    """Raises ValueError unless labels are integers [n]; `what` names them."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{what} must be integers [n], got {labels.dtype} {list(labels.shape)}; "
            "for one-hot rows take labels.argmax(-1)"
        )
