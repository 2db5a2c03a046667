"""The papers' figures as numbers, digitised from vector and raster drawings.

Each study's files lie in its `paper/`. `sgdr`, `mode_connectivity`, `warmup` and
`distillation` have those of Gotmare et al. 2019 (arXiv 1810.13243v1): vector figures
are near exact, raster ones within 0.1 % accuracy and 2 % loss. `fsp` has tables 1 to 5
of Yim et al. 2017, accuracies in per cent. `funmatch` has tables 3 (ImageNet) and 4 of
Beyer et al. 2022 (arXiv 2106.05237), accuracies in per cent.
"""

import csv
from importlib import resources
from typing import NamedTuple

import numpy as np


def smallest_effect(own: float, value: float | None) -> float:
    """Returns the smallest effect that counts: ours, or the paper's value if smaller.

    >>> smallest_effect(2.0, 1.5), smallest_effect(2.0, None)
    (1.5, 2.0)
    """
    return own if value is None else min(own, value)


def table(name: str) -> dict[str, np.ndarray]:
    """Reads the columns of a file; numbers as float64, empty cells as NaN.

    Args:
      name: names of the study and the file: "sgdr/fig2a_test_acc".

    >>> table("sgdr/fig2a_test_acc")["epoch"][:2].tolist()
    [5.0, 9.0]
    """
    study, _, file = name.partition("/")
    place = resources.files("experiments").joinpath(study, "paper", f"{file}.csv")
    rows = list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))
    return {key: _column([row[key] for row in rows]) for key in rows[0]}


class SimilarityMap(NamedTuple):
    """A heat map of the paper, digitised from its colours in steps of 0.004.

    Attributes:
      rows: layers of the first network, "00Conv" first.
      columns: layers of the second network.
      values: [rows, columns]; means of google/svcca on 10,000 training images.
      mirrored: whether the map is exactly symmetric, as in Figures 5 and 14 although
        the two networks differ: the paper computed only entries with row <= column
        and copied them (`similarity.matrix` has `mirror=True`).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    mirrored: bool


def similarity_map(name: str) -> SimilarityMap:
    """Reads one of the files fig5*, fig6* and fig14*.

    >>> found = similarity_map("sgdr/fig14a_sgdr_150_155")
    >>> found.rows[:3], found.values.shape, found.mirrored
    (('00Conv', '01BN', '02ReLU'), (36, 36), True)
    >>> similarity_map("distillation/fig6a_distilled_T").mirrored
    False
    """
    (_, rows), *columns = table(name).items()
    values = np.stack([column for _, column in columns], axis=1)
    names = tuple(layer for layer, _ in columns)
    return SimilarityMap(
        tuple(map(str, rows)), names, values, np.array_equal(values, values.T)
    )


def _column(cells: list[str]) -> np.ndarray:
    """Converts a column to float64 if all its cells are numbers."""
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)
