"""Makes china.png and flower.png from the photographs that scikit-learn ships.

Run by hand: python kd_heuristics/data/assets/make_photos.py. A JPEG decoder other than
that of Pillow 13.0 may give other pixels, and then the digests in the tests change.
"""

from pathlib import Path


def main() -> None:
    """Decodes both photographs and stores them beside this file."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    for name in ("china", "flower"):
        photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
        photo.save(Path(__file__).with_name(f"{name}.png"), optimize=True)


if __name__ == "__main__":
    main()
