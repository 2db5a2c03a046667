"""Small sets of made-up images, written by tfds' own builders with their true features.

Nothing is downloaded and TensorFlow is not needed: the builder of the set describes its
features and writes its files; only the images come from here.
"""

import gc
import io
import os
import warnings

import numpy as np

from kd_heuristics.data.prepared import SETS


def picture(number):
    """Uint8 [height, width, 3]: sizes and colours vary with the number."""
    height, width = 24 + 5 * (number % 4), 40 - 7 * (number % 3)
    if number % 5 == 0:
        height, width = width, height
    ramp = np.linspace(0, 120, height)[:, None] + np.linspace(0, 80, width)
    shades = np.stack([ramp, ramp[::-1], ramp * 0.5], -1)
    return (shades + number * 7 % 55).astype(np.uint8)


def encode(pixels, mode="RGB", form="JPEG"):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form, quality=95)
    return file.getvalue()


def write(data_dir, name, counts, encoded=None, num_shards=2):
    """Prepares a set of our name; the folder of its version.

    Args:
      data_dir: of tfds.
      name: a key of `SETS`.
      counts: how many images each split of tfds has.
      encoded: `number -> bytes`; None: JPEGs of `picture`. Example i of a split has the
        number i before tfds shuffles, and the label i modulo the classes.
      num_shards: files a split.
    """
    import tensorflow_datasets as tfds

    entry = SETS[name]
    config = {"config": entry.config} if entry.config else {}
    builder = tfds.builder_cls(entry.base)(data_dir=data_dir, **config)
    features = builder.info.features
    encoded = encoded or (lambda number: encode(picture(number)))
    if features["image"].shape == (32, 32, 3):
        encoded = small

    def examples(count):
        for number in range(count):
            yield (
                number,
                {
                    key: _value(tfds, key, feature, number, encoded, entry)
                    for key, feature in features.items()
                },
            )

    builder._split_generators = lambda _: {
        split: examples(count) for split, count in counts.items()
    }
    # tfds leaves files and loops open when it writes; reading has no such excuse.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(num_shards=num_shards),
        )
        gc.collect()
    return os.fspath(builder.data_dir)


def small(number):
    return encode(np.full((32, 32, 3), number, np.uint8), form="PNG")


def _value(tfds, key, feature, number, encoded, entry):
    if key == "image":
        return io.BytesIO(encoded(number))
    if key == "label":
        return number % entry.num_classes
    if isinstance(feature, tfds.features.Image):  # a mask
        return io.BytesIO(encode(np.zeros((8, 8), np.uint8), "L", "PNG"))
    if isinstance(feature, tfds.features.BBoxFeature):
        return tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    if isinstance(feature, tfds.features.ClassLabel):
        return 0
    return f"{key} {number}"
