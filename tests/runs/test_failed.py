"""Failed seeds: left out, at chance, too few that remain, replaced by later ones."""

import math

import numpy as np
import pytest
from scipy import stats

from kd_heuristics import report, runs
from kd_heuristics.runs import verdicts

CLAIM = runs.Claim(
    key="gain",
    words="it gains",
    kind="difference",
    smallest_effect=1.0,
    unit="points",
    main=True,
)
CLEAR = [9.0, 9.1, 8.9, 9.0, 9.05, 9.0, 8.95, 9.0]


def judged(values, failed, looks=(4, 8), **fields):
    claim = runs.Claim(**{**vars(CLAIM), **fields})
    [found] = runs.judge_all(
        [claim], {"gain": values}, looks=looks, failed={"gain": failed}
    )
    return found


def test_without_a_failure_nothing_changes():
    [plain] = runs.judge_all([CLAIM], {"gain": CLEAR}, looks=(4, 8))
    assert judged(CLEAR, [False] * 8) == plain
    assert (plain["verdict"], plain["look"]) == ("reproduced", 4)
    assert plain["verdict_left_out"] is plain["verdict_at_chance"] is None


def test_fewer_seeds_than_the_looks_remain():
    found = judged(CLEAR[:4], [False, True, False, False])
    assert found["verdict"] == "inconclusive"
    assert found["failed"] == [1]
    assert found["mean"] == np.mean([9.0, 8.9, 9.0])  # of the others
    # Both verdicts are shown beside it.
    assert found["verdict_at_chance"] == "reproduced"
    assert found["verdict_left_out"] == "reproduced"


def test_later_seeds_take_the_place_of_failed_ones():
    values = [9.0, 8.8, *CLEAR[2:8]]
    found = judged(values, [False, True, *[False] * 6])
    assert (found["verdict"], found["look"]) == ("reproduced", 4)
    assert found["mean"] == np.mean(
        [9.0, 8.9, 9.0, 9.05]
    )  # the first four that did not


def test_the_seeds_that_a_claim_held_in_are_those_of_its_mean():
    # Seed 1 failed with a yes, and a later seed takes its place.
    failed = [False, True, *[False] * 4]
    found = judged([1, 1, 0, 1, 0, 1], failed, looks=(4,), kind="mostly")
    assert (found["mean"], found["num_seeds"]) == (0.5, 4)
    assert report.effect_words(found) == "2 of 4 seeds"
    fewer = judged([1, 1, 0, 1], failed[:4], looks=(4,), kind="mostly")
    assert report.effect_words(fewer) == "2 of 3 seeds"


def test_verdicts_that_differ_are_inconclusive():
    values = [9.0, -40.0, *CLEAR[2:8]]
    failed = [False, True, *[False] * 6]
    found = judged(values, failed, looks=(4,))
    assert found["verdict"] == "inconclusive"
    assert (found["verdict_left_out"], found["verdict_at_chance"]) == (
        "reproduced",
        "inconclusive",
    )


@pytest.mark.parametrize("missing", [math.nan, math.inf, None])
def test_a_value_that_is_not_finite_fails_the_seed(missing):
    values = np.array([9.0, missing, *CLEAR[2:8]], float)
    [found] = runs.judge_all([CLAIM], {"gain": values}, looks=(4, 8))
    assert (found["verdict"], found["failed"]) == ("inconclusive", [1])
    assert found["values"][1] is None
    assert found["verdict_at_chance"] is None  # there is no value
    assert found["verdict_left_out"] == "reproduced"


def test_a_failure_takes_a_main_claim_out_of_holms_order():
    other = runs.Claim(**{**vars(CLAIM), "key": "other"})
    # Alone at 5 %: p of 0.03, so decided only if nothing is undecided before it.
    weak = [1.0, 2.0, 3.2, 1.2]
    statistics = {"gain": CLEAR[:4], "other": weak}
    found = runs.judge_all([CLAIM, other], statistics, looks=(4,))
    assert [own["verdict"] for own in found] == ["reproduced"] * 2
    failed = {"gain": [True, False, False, False]}
    found = runs.judge_all([CLAIM, other], statistics, looks=(4,), failed=failed)
    assert [own["verdict"] for own in found] == ["inconclusive"] * 2
    assert found[0]["p"] == 1.0


@pytest.mark.parametrize(("count", "of"), [(0, 4), (1, 12), (5, 8), (12, 12)])
def test_wilsons_interval(count, of):
    z, share = stats.norm.ppf(0.975), count / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = (
        z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    )
    np.testing.assert_allclose(
        verdicts.wilson(count, of), [middle - half, middle + half], atol=1e-12
    )
