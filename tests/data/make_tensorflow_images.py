"""Writes tests/fixtures/tensorflow_images.npz: small images of many kinds, and what
TensorFlow makes of them. Run once where TensorFlow is installed:

    python tests/data/make_tensorflow_images.py
"""

import io
import pathlib

import numpy as np
from PIL import Image

SHAPE = (9, 14)
FILE = pathlib.Path(__file__).parents[1] / "fixtures" / "tensorflow_images.npz"


def main():
    import tensorflow as tf

    arrays = {}
    for name, encoded in kinds().items():
        decoded = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        arrays[f"{name}/encoded"] = np.frombuffer(encoded, np.uint8)
        arrays[f"{name}/decoded"] = decoded.numpy()
    for sides in ((300, 160), (200, 160), (333, 224), (9, 4), (23, 23), (17, 5)):
        pixels = square(sides[0])
        found = tf.image.resize(pixels, (sides[1],) * 2, method="area").numpy()
        # One value in 101 tells as much as all of them.
        arrays[f"area {sides[0]} {sides[1]}"] = found.reshape(-1)[::101]
    np.savez_compressed(FILE, **arrays)


def square(side):
    """Pixels that follow from the side alone."""
    return np.random.RandomState(side).randint(0, 256, (side, side, 3), np.uint8)


def kinds():
    import tensorflow as tf

    random = np.random.RandomState(0)
    colours = random.randint(0, 256, (*SHAPE, 4), np.uint8)
    wide = random.randint(0, 2**16, (*SHAPE, 4), np.uint16)
    smooth = np.add.outer(np.arange(9) * 9, np.arange(14) * 7)[..., None]
    smooth = (smooth + np.array([0, 20, 40, 10])).astype(np.uint8)
    palette = Image.fromarray(colours[..., :3]).quantize(16)
    inks = encode(Image.fromarray(smooth, "CMYK"), "JPEG")
    found = {
        "rgb": encode(Image.fromarray(colours[..., :3])),
        "grey": encode(Image.fromarray(colours[..., 0])),
        "grey jpeg": encode(Image.fromarray(smooth[..., 0]), "JPEG"),
        "rgb jpeg": encode(Image.fromarray(smooth[..., :3]), "JPEG"),
        "rgba": encode(Image.fromarray(colours, "RGBA")),
        "grey alpha": encode(Image.fromarray(colours[..., :2].copy(), "LA")),
        "1 bit": encode(Image.fromarray(colours[..., 0] > 99)),
        "palette": encode(palette),
        "palette 2 bits": encode(Image.fromarray(colours[..., :3]).quantize(4)),
        "palette transparent": encode(palette, transparency=bytes(range(0, 256, 16))),
        "palette one transparent": encode(palette, transparency=3),
        "rgb one transparent": encode(
            Image.fromarray(colours[..., :3]),
            transparency=tuple(colours[0, 0, :3].tolist()),
        ),
        "grey one transparent": encode(
            Image.fromarray(colours[..., 0]), transparency=7
        ),
        "gif": encode(palette, "GIF"),
        "bmp": encode(Image.fromarray(colours[..., :3]), "BMP"),
        "inks": inks,
        "inks unmarked": without_adobe(inks),
        "inks ycck": inks.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2"),
    }
    assert found["inks"] != found["inks ycck"]
    for channels, name in enumerate(("grey", "grey alpha", "rgb", "rgba"), start=1):
        part = wide[..., :channels]
        found[f"{name} 16 bits"] = tf.io.encode_png(part).numpy()
    return found


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def without_adobe(encoded):
    start = encoded.index(b"\xff\xee")
    length = int.from_bytes(encoded[start + 2 : start + 4], "big")
    return encoded[:start] + encoded[start + 2 + length :]


if __name__ == "__main__":
    main()
