"""`kd-heuristics judge`: verdicts on anyone's numbers."""

from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics import report
from kd_heuristics.cli import output
from kd_heuristics.runs import claims as rules
from kd_heuristics.runs import declared
from kd_heuristics.runtime.errors import InputError, checking_input

Runs = Annotated[
    tyro.conf.Positional[Path],
    tyro.conf.arg(metavar="RUNS", help="a CSV file, or a results.json of a study"),
]
Claims = Annotated[
    tyro.conf.Positional[Path | None],
    tyro.conf.arg(metavar="CLAIMS.toml", help="the claims; not for a results.json"),
]


def judge(
    runs: Runs,
    claims: Claims = None,
    *,
    seed: str = "seed",
    arm: str = "arm",
    level: float = 0.05,
    out: Path | None = Path("verdicts.html"),
) -> None:
    """Judge claims on the numbers of your own runs, as the studies do.

    The table has a row for each run, or for each run and arm, and a column of seeds.
    An empty cell is a failed run. A Weights & Biases export is such a table.

    For example, with claims.toml as `kd_heuristics.runs.declared` describes it:

        kd-heuristics judge runs.csv claims.toml

        kd-heuristics judge runs/digits/warmup/results.json

    Args:
      runs: the numbers.
      claims: what is claimed.
      seed: name of the table's column of seeds.
      arm: name of the table's column of arms.
      level: two-sided error of all looks together.
      out: path of the page; None writes none.
    """
    if not 0 < level < 1:
        raise InputError(f"--level must be between 0 and 1, got {level}")
    with checking_input():
        stated, values, looks = _read(runs, claims, seed, arm)
        seeds = max(map(len, values.values()))
        looks = looks or ((seeds,) if seeds > 1 else rules.LOOKS)
        judged = rules.judge_all(stated, values, looks=looks, level=level)
    columns = ("claim", "verdict", "mean", "interval", "effect", "paper", "seeds")
    rows = [
        [
            *(claim["words"], report.verdict_words(claim), report.effect_words(claim)),
            "-"
            if claim["interval"] is None
            else "[{:.3g}, {:.3g}]".format(*claim["interval"]),
            f"{claim['smallest_effect']:.3g} {claim['unit']}",
            "-" if claim["paper"] is None else f"{claim['paper']:.3g}",
            str(len(claim["values"])),
        ]
        for claim in judged
    ]
    output.table(f"Verdicts on {runs.name}", columns, rows)
    if out is not None:
        report.write_verdicts(judged, out, f"Verdicts on {runs.name}")
        output.say(f"page: {out.resolve()}")


def _read(runs, claims, seed, arm):
    """Returns the claims, `{statistic: [seeds]}` and the declared looks, or None."""
    if runs.suffix == ".json":
        if claims is not None:
            raise InputError(f"{runs} holds its own claims; leave out {claims}")
        return *declared.read_results(runs), None
    if claims is None:
        raise InputError("a table needs claims: kd-heuristics judge runs.csv c.toml")
    found = declared.read_claims(claims)
    values = declared.statistics(found, declared.read_table(runs), seed, arm)
    return found.claims, {c.source: values[c.key] for c in found.claims}, found.looks
