"""Claims and their judge: looks, Holm's method, failed seeds, bad input."""

import dataclasses
import math

import numpy as np
import pytest

from kd_heuristics import runs

RISE = runs.Claim(
    key="rise", words="it rises", kind="difference", smallest_effect=1.0, unit="nats"
)


def claim(key, **fields):
    return dataclasses.replace(RISE, key=key, **fields)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([2.0, 2.1, 1.9], "reproduced"),
        ([-2.0, -2.1, -1.9], "contradicted"),
        ([0.1, 0.0, -0.1], "no effect that counts"),
        ([0.8, 0.9, 1.0], "inconclusive"),  # above 0, its mean below what counts
        ([9.0, 1.0, -4.0], "inconclusive"),
        ([9.0], "inconclusive"),
        ([9.0, 9.1, np.nan], "inconclusive"),
        ([2.0, 2.0, 2.0], "reproduced"),  # a quarter of the effect is the deviation
        ([1.0, 1.0], "inconclusive"),  # half-width 12.7 / 4 / sqrt(2)
    ],
)
def test_a_difference(values, found):
    assert runs.judge(RISE, values)["verdict"] == found


def test_what_stands_beside_a_verdict():
    found = runs.judge(RISE, [1.4, 1.5, 1.6])
    assert found["verdict"] == "reproduced"
    assert found["verdict_at_half"] == "reproduced"
    assert found["verdict_at_twice"] == "no effect that counts"
    assert found["seeds_needed"] == 2 + (
        # t(0.975, 1) * 0.1 / sqrt(2) = 0.898 < 1.5
        0
    )
    failed = runs.judge(RISE, [1.4, math.inf, 1.5, math.nan])
    assert failed["failed"] == [1, 3]
    assert failed["values"] == [1.4, None, 1.5, None]
    assert failed["mean"] == pytest.approx(1.45)


def test_looks_count_from_the_first_seeds_and_name_later_ones():
    values = [2.0, 2.1, 1.9, 2.0, -50.0, -50.0]
    [found] = runs.judge_all([RISE], {"rise": values}, looks=(4, 8))
    assert (found["look"], found["verdict"]) == (4, "reproduced")
    assert found["later_values"] == [-50.0, -50.0]
    [before] = runs.judge_all([RISE], {"rise": values[:3]}, looks=(4, 8))
    assert (before["look"], before["verdict"]) == (None, "inconclusive")
    assert before["mean"] == 2.0


def test_an_undecided_claim_waits_for_the_next_look():
    noisy = [3.0, -1.0, 4.0, 0.5, 3.0, 2.0, 3.0, 2.5]
    [found] = runs.judge_all([RISE], {"rise": noisy}, looks=(4, 8))
    assert (found["look"], found["verdict"]) == (8, "reproduced")
    [found] = runs.judge_all([RISE], {"rise": noisy[:7]}, looks=(4, 8))
    assert (found["look"], found["verdict"]) == (4, "inconclusive")


def test_main_claims_share_the_error_by_holm():
    # p of 0.03 each: alone decided at 5 %, of two main ones neither.
    values = np.array([1.0, 2.0, 3.2, 1.2])
    p = runs.judge(RISE, values)["p"]
    assert 0.025 < p < 0.05
    main = [claim("a", main=True), claim("b", main=True)]
    found = runs.judge_all(main, {"a": values, "b": values}, looks=(4,))
    assert [own["verdict"] for own in found] == ["inconclusive"] * 2
    # Beside a clear one it is read at the whole level.
    found = runs.judge_all(main, {"a": values, "b": 50 + values}, looks=(4,))
    assert [own["verdict"] for own in found] == ["reproduced"] * 2
    assert [own["level"] for own in found] == [0.05, 0.025]
    # Secondary claims take no part.
    found = runs.judge_all(
        [claim("a"), claim("b")], {"a": values, "b": values}, looks=[4]
    )
    assert [own["verdict"] for own in found] == ["reproduced"] * 2


def test_after_the_first_undecided_main_claim_the_rest_are_too():
    wide = np.array([9.0, -5.0, 6.0, 0.0])
    clear = np.array([1.0, 2.0, 3.2, 1.2])
    main = [claim(key, main=True) for key in "abc"]
    values = {"a": wide, "b": clear, "c": clear}
    found = runs.judge_all(main, values, looks=(4,))
    assert [own["verdict"] for own in found] == ["inconclusive"] * 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"smallest_effect": 0.0},
            r"smallest_effect must be positive and finite, got 0",
        ),
        ({"smallest_effect": -1.0}, "must be positive"),
        ({"smallest_effect": math.nan}, "must be positive"),
        ({"kind": "diference"}, "kind of claim 'rise':.*did you mean 'difference'"),
        ({"key": ""}, "a claim needs a key and words"),
        ({"words": ""}, "a claim needs a key and words"),
        ({"paper": math.inf}, "paper of claim 'rise' must be finite"),
    ],
)
def test_bad_claims(fields, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(RISE, **fields)


@pytest.mark.parametrize("name", ["statement", "direction", "margin"])
def test_fields_of_earlier_versions_are_refused_by_name(name):
    fields = dataclasses.asdict(RISE) | {name: "x"}
    with pytest.raises(TypeError, match=f"no '{name}' any more"):
        runs.Claim(**fields)


def test_bad_values_and_names():
    mostly = claim("rise", kind="mostly")
    with pytest.raises(ValueError, match=r"must be 0 or 1 for each seed, got \[0\.3"):
        runs.judge(mostly, [0.3, 1.0])
    with pytest.raises(ValueError, match="claim 'rise': 'rise'; did you mean 'rises'"):
        runs.judge_all([RISE], {"rises": [1.0]})
    other = dataclasses.replace(RISE, words="it falls")
    with pytest.raises(ValueError, match="the key 'rise': 'it rises' and 'it falls'"):
        runs.judge_all([RISE, other], {"rise": [1.0]})
    with pytest.raises(ValueError, match=r"looks must be ascending.*got \[8, 4\]"):
        runs.judge_all([RISE], {"rise": [1.0]}, looks=(8, 4))
