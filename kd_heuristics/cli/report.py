"""`kd-heuristics report`: writes one HTML page from run folders."""

from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics.report import write_page
from kd_heuristics.runtime.errors import InputError

Runs = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="RUN", help="a run folder, or a folder of run folders"),
]


def report(run: Runs, *, out: Path = Path("report.html")) -> None:
    """Write one page of runs: verdicts, figures, protocols, failures.

    The command reads only run folders, and the page loads nothing.

    For example:

        kd-heuristics report runs/digits

        kd-heuristics report runs/digits/sgdr runs/digits/warmup --out two.html

    Args:
      run: at least one.
      out: path of the page.
    """
    if not run:
        raise InputError("name at least one run folder: kd-heuristics report runs/demo")
    print(f"report: {write_page(run, out).resolve()}")
