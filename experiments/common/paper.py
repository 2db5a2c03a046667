"""The papers' figures as numbers, read off their vector and raster drawings.

Each study's files lie in its `paper/`. Those of `sgdr`, `mode_connectivity`, `warmup`
and `distillation`: Gotmare et al. 2019 (arXiv 1810.13243v1); vector figures are near
exact, raster ones are within 0.1 % accuracy and 2 % loss. `fsp`: Yim et al. 2017,
tables 1 to 5, accuracies in per cent. `funmatch`: Beyer et al. 2022
(arXiv 2106.05237), tables 3 (ImageNet) and 4, accuracies in per cent.
"""

import csv
from importlib import resources
from typing import NamedTuple

import numpy as np


def smallest_effect(own: float, value: float | None) -> float:
    """The smallest effect that counts: our own, or the paper's value if smaller.

    >>> smallest_effect(2.0, 1.5), smallest_effect(2.0, None)
    (1.5, 2.0)
    """
    return own if value is None else min(own, value)


def table(name: str) -> dict[str, np.ndarray]:
    """The columns of one file; numbers as float64, an empty cell as NaN.

    Args:
      name: of the study and of the file: "sgdr/fig2a_test_acc".

    >>> table("sgdr/fig2a_test_acc")["epoch"][:2].tolist()
    [5.0, 9.0]
    """
    study, _, file = name.partition("/")
    place = resources.files("experiments").joinpath(study, "paper", f"{file}.csv")
    rows = list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))
    return {key: _column([row[key] for row in rows]) for key in rows[0]}


class SimilarityMap(NamedTuple):
    """A heat map of the paper, read off its colours, which leaves steps of 0.004.

    Attributes:
      rows: layers of the first network, "00Conv" first.
      columns: layers of the second.
      values: [rows, columns]; means of google/svcca, of 10,000 training images.
      mirrored: whether the map is exactly symmetric, as Figures 5 and 14 are although
        the two networks differ: only the entries with row <= column were computed,
        and the others are their copies (`similarity.matrix` has `mirror=True`).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    mirrored: bool


def similarity_map(name: str) -> SimilarityMap:
    """One of the files fig5*, fig6* and fig14*.

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
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)
