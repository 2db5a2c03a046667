"""Verdicts: the rule on hand-made numbers."""

import dataclasses

import numpy as np
import pytest

from kd_heuristics import report

CLAIM = report.Claim(
    key="rise",
    statement="it rises",
    statistic="rise",
    direction="above",
    smallest_effect=1.0,
    margin=0.5,
    unit="nats",
)


@pytest.mark.parametrize(
    ("values", "above", "below"),
    [
        ([2.0, 2.1, 1.9], "reproduced", "contradicted"),
        ([0.0, 0.1, -0.1], "contradicted", "reproduced"),
        ([1.0, 1.1, 0.9], "inconclusive", "inconclusive"),  # within the margin
        ([1.4, 1.8, 1.6], "inconclusive", "inconclusive"),  # the interval overlaps it
        ([9.0, 9.0], "inconclusive", "inconclusive"),  # two seeds
        ([9.0, 9.0, np.inf], "inconclusive", "inconclusive"),
    ],
)
def test_verdicts_in_both_directions(values, above, below):
    assert report.judge(CLAIM, values)["verdict"] == above
    other = dataclasses.replace(CLAIM, direction="below")
    assert report.judge(other, values)["verdict"] == below


def test_interval_is_students():
    # t(0.975, 2 degrees of freedom) from tables: 4.30265
    half = 4.30265 * np.std([1.0, 2.0, 4.0], ddof=1) / np.sqrt(3)
    low, high = report.confidence_interval([1.0, 2.0, 4.0])
    np.testing.assert_allclose([low, high], [7 / 3 - half, 7 / 3 + half], rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match=r"margin must not be negative, got -1\.0"):
        dataclasses.replace(CLAIM, margin=-1.0)
    with pytest.raises(ValueError, match="claim 'rise' needs a key and a statistic"):
        dataclasses.replace(CLAIM, statement="rise", statistic="")


def test_a_claim_without_its_statistic_and_two_of_one_key_are_refused():
    with pytest.raises(ValueError, match="claim 'rise': 'rise'; did you mean 'rises'"):
        report.judge_all([CLAIM], {"rises": [1.0]})
    other = dataclasses.replace(CLAIM, statement="it falls")
    with pytest.raises(ValueError, match="the key 'rise': 'it rises' and 'it falls'"):
        report.judge_all([CLAIM, other], {"rise": [1.0]})
