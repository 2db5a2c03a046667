"""The papers' figures as numbers, read off their vector and raster drawings.

`closer_look/*.csv`: Gotmare et al. 2019 (arXiv 1810.13243v1). Vector figures are near
exact; raster ones are within 0.1 % accuracy and 2 % loss. `fsp/*.csv`: Yim et al. 2017,
tables 1 to 5, accuracies in per cent.
"""

import csv
from importlib import resources

import numpy as np


def table(name: str) -> dict[str, np.ndarray]:
    """The columns of one file; numbers as float64, an empty cell as NaN.

    >>> table("closer_look/fig2a_test_acc")["epoch"][:2].tolist()
    [5.0, 9.0]
    """
    file = resources.files(__name__).joinpath(f"{name}.csv")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    return {key: _column([row[key] for row in rows]) for key in rows[0]}


def similarity_map(name: str) -> tuple[list[str], np.ndarray]:
    """A similarity map of the paper: layer names, and values [layers, layers].

    Figures 5 and 14 are exactly symmetric: only one triangle was computed, and the
    other is its mirror image.

    >>> layers, values = similarity_map("closer_look/fig14a_sgdr_150_155")
    >>> layers[:3], values.shape
    (['00Conv', '01BN', '02ReLU'], (36, 36))
    """
    columns = table(name)
    layers = [key for key in columns if key]
    return layers, np.stack([columns[key] for key in layers], axis=1)


def _column(cells: list[str]) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)
