"""The paper's claims about flow matrices, with the numbers of its tables."""

import numpy as np

from experiments.common import fidelity, paper
from experiments.fsp.config import Config
from experiments.fsp.rows import needed
from kd_heuristics.runs import Claim

SHARE = "steps saved beyond half"


def claims(config: Config) -> tuple[Claim, ...]:
    """Returns the claims of the tables that run, with the paper's numbers."""
    found = []
    for asked, rows in (
        (config.fast, _fast),
        (config.small, _small),
        (config.transfer, _transfer),
    ):
        found += [*rows(config)] if asked else []
    for arm, other in compared(config):
        trainings = needed(config.rows, (arm, other))
        found += fidelity.claims(arm, other, _NEARER[arm, other], trainings)
    return tuple(found)


_NEARER = {
    ("student", "teacher_fast"): (
        "after FSP a net decides more like its teacher than another of as many steps"
    ),
    ("small_fsp", "small"): (
        "after FSP a small net decides more like its teacher than after labels alone"
    ),
    ("transfer_fsp", "transfer_scratch"): (
        "on other classes too, a net after FSP decides more like its teacher"
    ),
}


def compared(config) -> list[tuple[str, str]]:
    """Rows after flow matrices and those of labels alone, for claims on fidelity."""
    return [pair for pair in _NEARER if {*pair} <= {*config.rows}]


def _fast(config):
    table = papers_table(config.paper_tables[0])
    yield _claim(
        config,
        "faster: after FSP a third of the steps does as well as the teacher's all",
        ("student", "teacher"),
        _gap(table, "student", "teacher"),
        kind="as_good",
        main=True,
    )
    better = (
        ("teacher_fast", "another of as many steps"),
        ("teacher_more", "a trained one that trains on for as long"),
        ("fitnet", "one after a hint"),
        ("fitnet_3_hints", "one after three hints"),
    )
    for other, words in better:
        if other in config.rows:
            yield _claim(
                config,
                f"faster: after FSP a net is better than {words}",
                ("student", other),
                _gap(table, "student", other),
            )
    if "shuffled" in config.rows:
        yield _claim(
            config,
            "shuffled flow matrices make a better ensemble",
            ("shuffled ensemble", "student ensemble"),
            _gap(table, "shuffled", "student", "ensemble"),
        )
        yield _claim(
            config,
            "an ensemble after shuffled flow matrices is as good as the teacher's",
            ("shuffled ensemble", "teacher ensemble"),
            _gap(table, "shuffled", "teacher", "ensemble"),
            kind="as_good",
        )
    for other, words in (
        ("teacher_fast", "one of nets of as many steps"),
        ("fitnet", "one of nets after a hint"),
    ):
        if other in config.rows:
            yield _claim(
                config,
                f"an ensemble of nets after FSP is better than {words}",
                ("student ensemble", f"{other} ensemble"),
                _gap(table, "student", other, "ensemble"),
            )
    yield Claim(
        key="share-of-steps",
        words="faster: FSP reaches the other's final loss in less than half its steps",
        kind="difference",
        smallest_effect=5.0,
        unit="% of the steps of the second stage, below half",
        statistic=SHARE,
        trainings=needed(config.rows, ("student", "teacher_fast")),
        paper=round(100 * (1 / 2 - 1 / 3), 1),  # Figure 3: three times as fast
    )


def _small(config):
    table = papers_table(config.paper_tables[1])
    for other, words in (
        ("small", "labels alone"),
        ("small_fitnet", "FitNets"),
        ("small_kd", "soft targets"),
    ):
        if other in config.rows:
            yield _claim(
                config,
                f"better: FSP makes a better small net than {words}",
                ("small_fsp", other),
                _gap(table, "small_fsp", other),
                main=other == "small",
            )


def _transfer(config):
    # Table 5's gaps are those of a teacher with ImageNet's weights, on birds.
    same = config.dataset == "caltech_birds2011" and config.source_weights is not None
    table = papers_table(config.paper_tables[2])
    for other, words in (
        ("transfer_scratch", "labels alone"),
        ("transfer_fitnet", "FitNets"),
    ):
        yield _claim(
            config,
            f"transfers: FSP makes a better small net than {words}",
            ("transfer_fsp", other),
            _gap(table, "transfer_fsp", other) if same else None,
        )


def _claim(config, words, arms, value, kind="difference", main=False) -> Claim:
    """A claim on the accuracies of two rows."""
    own = 100 * config.smallest_effect
    if kind == "difference":
        own = paper.smallest_effect(own, value)
    return Claim(
        key="accuracy/{}/{}".format(*arms).replace(" ", "-"),
        words=words,
        kind=kind,
        smallest_effect=own,
        unit="points of test accuracy",
        statistic=difference(*arms),
        paper=value,
        main=main,
        trainings=needed(config.rows, [arm.removesuffix(" ensemble") for arm in arms]),
    )


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
    """The difference of two rows of the paper's table in points; `None` without one."""
    if arm not in table or other not in table:
        return None
    return round(100 * float(np.subtract(table[arm][column], table[other][column])), 2)
