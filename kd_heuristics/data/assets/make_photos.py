"""How china.png and flower.png were made from the photographs scikit-learn ships.

Run by hand: python kd_heuristics/data/assets/make_photos.py. Another JPEG decoder than
that of Pillow 13.0 may give other pixels, and then other digests in the tests.
"""

from pathlib import Path


def main() -> None:
    """Decodes both and stores them beside this file."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    for name in ("china", "flower"):
        photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
        photo.save(Path(__file__).with_name(f"{name}.png"), optimize=True)


if __name__ == "__main__":
    main()
