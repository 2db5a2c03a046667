"""The paper's claims about flow matrices, with the numbers of its tables."""

import numpy as np

from experiments.common import paper
from experiments.fsp.config import Config
from kd_heuristics.runs import Claim

SHARE = "share of steps to the final loss of teacher_fast"


def claims(config: Config) -> tuple[Claim, ...]:
    """Returns the paper's claims, as numbers that a run can contradict."""
    rules = {"smallest_effect": config.smallest_effect, "margin": config.margin}
    as_well = {"smallest_effect": -config.smallest_effect, "margin": 0.0}
    fast, small, transfer = (papers_table(name) for name in config.paper_tables)
    rows: list[tuple[str, str, str, dict, float | None]] = []
    if config.fast:
        rows += [
            (
                "faster: after FSP a third of the steps does as well as the "
                "teacher's all",
                "student",
                "teacher",
                as_well,
                _gap(fast, "student", "teacher"),
            ),
            (
                "faster: after FSP a net is better than another of as many steps",
                "student",
                "teacher_fast",
                rules,
                _gap(fast, "student", "teacher_fast"),
            ),
            (
                "shuffled flow matrices make a better ensemble",
                "shuffled ensemble",
                "student ensemble",
                rules,
                _gap(fast, "shuffled", "student", "ensemble"),
            ),
        ]
    if config.small:
        rows += [
            (
                "better: FSP makes a better small net than labels alone",
                "small_fsp",
                "small",
                rules,
                _gap(small, "small_fsp", "small"),
            ),
            (
                "better: FSP makes a better small net than FitNets",
                "small_fsp",
                "small_fitnet",
                rules,
                _gap(small, "small_fsp", "small_fitnet"),
            ),
            (
                "FSP makes a better small net than soft targets",
                "small_fsp",
                "small_kd",
                rules,
                None,
            ),
        ]
    if config.transfer:
        rows += [
            (
                f"transfers: FSP makes a better small net than {words}",
                "transfer_fsp",
                other,
                rules,
                _gap(transfer, "transfer_fsp", other),
            )
            for other, words in (
                ("transfer_scratch", "labels alone"),
                ("transfer_fitnet", "FitNets"),
            )
        ]
    found = [
        Claim(
            key=f"accuracy/{a}/{b}".replace(" ", "-"),
            statement=statement,
            statistic=difference(a, b),
            direction="above",
            unit="accuracy",
            paper=value,
            **rule,
        )
        for statement, a, b, rule, value in rows
    ]
    if not config.fast:
        return tuple(found)
    speed = Claim(
        key="share-of-steps",
        statement="faster: FSP reaches the other's final loss in half its steps",
        statistic=SHARE,
        direction="below",
        smallest_effect=0.5,
        margin=0.0,
        unit="of the steps of the second stage",
        paper=round(1 / 3, 4),
    )
    return (*found, speed)


def difference(arm: str, other: str) -> str:
    """Names the statistic that compares two rows.

    >>> difference("student", "teacher")
    'student minus teacher'
    """
    return f"{arm} minus {other}"


def papers_table(name: str) -> dict[str, dict[str, float]]:
    """Reads a table of the paper, `{row: {column: value}}`; accuracies from 0 to 1."""
    columns = dict(paper.table(f"fsp/{name}"))
    arms = columns.pop("arm")
    if "accuracy" in columns:
        columns["average"] = columns.pop("accuracy")
    return {
        str(arm): {
            key: float(values[row]) / (1 if key == "iterations" else 100)
            for key, values in columns.items()
        }
        for row, arm in enumerate(arms)
    }


def _gap(table, arm, other, column="average") -> float | None:
    """The difference of two rows of the paper's table; `None` if it lacks one."""
    if arm not in table or other not in table:
        return None
    return round(float(np.subtract(table[arm][column], table[other][column])), 4)
