"""`kd-heuristics export`: the numbers of runs as CSV tables."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from kd_heuristics import report, training
from kd_heuristics.cli import output
from kd_heuristics.report import tables
from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import InputError

Runs = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="RUN", help="a run folder, or a folder of run folders"),
]
Target = Annotated[Path, tyro.conf.arg(name="csv", metavar="DIR")]


def export(run: Runs, *, target: Target = Path("tables")) -> None:
    """Write the numbers of runs as tidy CSV tables, one row for each number.

    The tables hold metrics by step, statistics by seed, claims with their verdicts,
    the curves and maps of all figures, and loss surfaces. columns.csv describes every
    column. Existing tables of these names are replaced.

    For example:

        kd-heuristics export runs/digits/sgdr --csv tables

    Args:
      run: at least one.
      target: folder for the tables.
    """
    if not run:
        raise InputError(
            "name at least one run folder: kd-heuristics export runs/digits/sgdr"
        )
    found: dict[str, list[tables.Row]] = {name: [] for name in tables.COLUMNS}
    for its in report.read(run):
        for name, rows in tables.tidy(its, _lines(its.path)).items():
            found[name] += rows
    with output.folder(target, "--csv") as folder:
        for name, rows in found.items():
            _write(folder / f"{name}.csv", [*tables.COLUMNS[name]], rows)
            output.say(f"{folder / name}.csv: {len(rows):,} rows")
        described = [
            {"table": name, "column": column, "meaning": words}
            for name, columns in tables.COLUMNS.items()
            for column, words in columns.items()
        ]
        _write(folder / "columns.csv", ["table", "column", "meaning"], described)


def _lines(run: Path) -> list[dict[str, Any]]:
    """Reads all lines of a run's metrics; of seeds in blocks, those of the blocks.

    A training of a block that is of no single seed is named with the block's seeds:
    "teacher (seeds 0-3)".
    """
    blocks = sorted(run.glob("seeds/*/metrics.jsonl"))
    found: dict[str, list[dict[str, Any]]] = {}
    for file in blocks or [run / "metrics.jsonl"]:
        own: dict[str, list[dict[str, Any]]] = {}
        for line in training.MetricsFile(file, sinks=()).read():
            stage = line["stage"]
            if blocks and tables.training_of(stage)[1] is None:
                stage = f"{stage} (seeds {file.parent.name})"
            own.setdefault(stage, []).append({**line, "stage": stage})
        found |= own
    return [line for lines in found.values() for line in lines]


def _write(path: Path, columns: Sequence[str], rows: Sequence[tables.Row]) -> None:
    """Writes a table atomically; None and values that are not finite stay empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    files.write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, float):  # NumPy's too
        return repr(float(value)) if math.isfinite(value) else None
    return value
