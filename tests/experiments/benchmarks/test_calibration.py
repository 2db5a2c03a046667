"""The table of error rates: every measure, in parts, noise told from a signal."""

import dataclasses

import pytest

from experiments.benchmarks import calibration
from kd_heuristics.similarity.measure import NAMES

TINY = calibration.Config(
    examples=80,
    units=12,  # all of the 10 shared directions
    draws=20,
    draws_decomposed=8,
    planted=5,
    signal=3.0,
    permutations=19,
    parts=("alarms", "found"),
)


def test_every_measure_is_in_the_table():
    assert calibration.Config().measures == NAMES


@pytest.mark.parametrize(("measure", "draws"), [("debiased_cka", 20), ("cca", 8)])
def test_a_row_says_how_many_draws_and_tells_a_signal_from_noise(measure, draws):
    name, alarms, found, *times = calibration.row(TINY, measure)
    assert (name, times) == (measure, ["", ""])
    share, count = alarms.split("%")[0], alarms.split(" of ")[1]
    # 19 permutations at most call 1 draw in 20: of 20 more than 5 have odds of 3e-4.
    assert int(count) == draws
    assert float(share) <= 25
    assert found == "100% of 5"


def test_parts_of_the_table(capsys):
    config = dataclasses.replace(TINY, parts=("found",), measures=("debiased_cka",))
    calibration.main(config)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "| debiased_cka |  | 100% of 5 |  |  |"
    )
