"""`kd-heuristics compare`: runs of a study beside each other, on one page."""

from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics.report.compare import write_comparison

Runs = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="RUN", help="run folders of one study"),
]


def compare(run: Runs, *, out: Path = Path("comparison.html")) -> None:
    """Write one page that sets runs of a study beside each other.

    It shows how their configs differ, each claim in each run with the difference paired
    by seed, and every figure with the runs drawn over each other.

    For example:

        kd-heuristics compare runs/digits/warmup runs/wide/warmup

    Args:
      run: at least two.
      out: path of the page.
    """
    print(f"comparison: {write_comparison(run, out).resolve()}")
