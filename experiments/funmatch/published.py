"""The paper's tables 2 to 4 and what it says of Figure 6, with the arm of each row."""

import dataclasses
import functools
import math
from collections.abc import Mapping

from experiments.common import paper
from experiments.funmatch.arms import ARMS, Setting

IMAGENET = ("imagenet", "imagenet_160", "imagenet_384")
# The presets of table 4, by the names of their data sets.
DATASETS = {
    "oxford_flowers102": "flowers",
    "oxford_iiit_pet": "pets",
    "food101": "food",
    "sun397": "sun",
}
SETS = tuple(DATASETS.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
      words: its name; "" takes the arm's.
      preset: preset that runs it; "" for results of other papers.
      arm: its arm, "teacher", or another word for what is not trained.
      cells: the paper's accuracies in per cent by epochs; `None` where it names a
        training without a number.
      rate: its learning rate, if the preset's settings have another.
      note: remark on the paper's values.
    """

    words: str = ""
    preset: str = ""
    arm: str = ""
    cells: Mapping[int, float | None]
    rate: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the row on a page."""
        return self.words or (ARMS[self.arm].words if self.arm in ARMS else self.arm)

    @property
    def is_trained(self) -> bool:
        """Whether a preset trains it."""
        return self.arm in ARMS


@functools.cache
def table2() -> tuple[Row, ...]:
    """Table 2: results on ImageNet, of this paper and of others; keys 0 for others."""
    return tuple(
        Row(
            words=line["words"],
            preset=line["preset"],
            arm=line["arm"],
            cells={_epochs(line): line["accuracy"]},
        )
        for line in _lines("table2")
    )


@functools.cache
def table3() -> tuple[Row, ...]:
    """Table 3: ImageNet."""
    return tuple(
        Row(
            preset=line["preset"],
            arm=line["arm"],
            cells={
                int(key): value
                for key, value in line.items()
                if key.isdigit() and math.isfinite(value)
            },
            note=line["note"],
        )
        for line in _lines("table3")
    )


@functools.cache
def table4() -> tuple[Row, ...]:
    """Table 4: a row for each line, so that each has one length; the teacher's is 0."""
    return tuple(
        Row(
            preset=line["preset"],
            arm=line["arm"],
            cells={_epochs(line): line["accuracy"]},
            rate=None if line["arm"] in ("mix", "teacher") else line["rate"],
        )
        for line in _lines("table4")
    )


@functools.cache
def figure6() -> tuple[Row, ...]:
    """Figure 6: students of other sets' images; only the text has numbers."""
    return tuple(
        Row(
            preset=line["preset"],
            arm=line["arm"],
            cells={_epochs(line): line["accuracy"]}
            if math.isfinite(line["accuracy"])
            else {},
            note=line["note"],
        )
        for line in _lines("figure6")
    )


def settings(preset: str) -> tuple[Setting, ...]:
    """Returns the settings of a set in the paper's table 4."""
    return tuple(
        Setting(
            epochs=_epochs(line),
            rate=line["rate"],
            decay=line["decay"],
            temperature=line["temperature"],
            paper=round(line["accuracy"] / 100, 4),
        )
        for line in _lines("table4")
        if (line["preset"], line["arm"]) == (preset, "mix")
    )


def accuracy(preset: str, arm: str, epochs: int) -> float | None:
    """Returns a cell of table 3 or 4 in per cent; None if it is empty.

    >>> accuracy("imagenet", "mix", 9600), accuracy("imagenet", "shampoo", 4800)
    (82.31, None)
    >>> accuracy("flowers", "mix", 1_000), accuracy("flowers", "teacher", 0)
    (77.51, 97.82)
    """
    for row in (*table3(), *table4()):
        if (row.preset, row.arm) == (preset, arm) and epochs in row.cells:
            return row.cells[epochs]
    return None


def _lines(name: str) -> list[dict]:
    """The lines of a file as dictionaries of Python values."""
    columns = {
        key: list(v.tolist()) for key, v in paper.table(f"funmatch/{name}").items()
    }
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]


def _epochs(line: Mapping) -> int:
    return int(line["epochs"]) if math.isfinite(line["epochs"]) else 0
