"""The table of rules, its intervals and levels, and how often it errs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kd_heuristics import runs
from kd_heuristics.runs import verdicts

PLUS, MINUS, NONE, OPEN = verdicts.VERDICTS


@pytest.mark.parametrize(
    ("kind", "mean", "low", "high", "found"),
    [
        ("difference", 1.0, 0.1, 1.9, PLUS),
        ("difference", 0.9, 0.1, 1.7, OPEN),  # below what counts
        ("difference", 1.0, 0.0, 2.0, OPEN),  # the interval holds 0
        ("difference", -1.0, -1.9, -0.1, MINUS),
        ("difference", 0.3, -0.3, 0.9, NONE),
        ("difference", 0.3, -0.4, 1.0, OPEN),
        ("as_good", -0.5, -0.9, -0.1, PLUS),  # worse within what counts
        ("as_good", 5.0, -1.0, 11.0, OPEN),
        ("as_good", -2.0, -2.9, -1.1, MINUS),
        ("equal", 0.0, -0.9, 0.9, PLUS),
        ("equal", 2.0, 1.1, 2.9, MINUS),
        ("equal", -2.0, -2.9, -1.1, MINUS),
        ("equal", 0.5, -0.1, 1.1, OPEN),
        ("mostly", 0.9, 0.6, 1.0, PLUS),
        ("mostly", 0.1, 0.0, 0.4, MINUS),
        ("mostly", 0.6, 0.4, 0.8, OPEN),
    ],
)
def test_the_table(kind, mean, low, high, found):
    assert verdicts.verdict(kind, 1.0, mean, low, high) == found


def test_intervals_from_tables():
    # Student's t, 0.975 and 2 degrees of freedom: 4.30265.
    half = 4.30265 * np.std([1.0, 2.0, 4.0], ddof=1) / np.sqrt(3)
    found = verdicts.interval("difference", 1.0, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(found, [7 / 3 - half, 7 / 3 + half], rtol=1e-5)
    # Clopper and Pearson: all of 12 has the lower end (alpha / 2) ** (1 / 12).
    low, high = verdicts.interval("mostly", 1.0, np.ones(12))
    assert (round(low, 6), high) == (round(0.025 ** (1 / 12), 6), 1.0)
    low, high = verdicts.interval("mostly", 1.0, np.zeros(12))
    assert (low, round(high, 6)) == (0.0, round(1 - 0.025 ** (1 / 12), 6))
    assert verdicts.interval("equal", 1.0, [1.0]) is None


def test_levels_of_looks_are_obrien_and_flemings():
    # Published constants for two to five equal looks at 5 %, two-sided.
    for constant, k in ((1.977, 2), (2.004, 3), (2.024, 4), (2.040, 5)):
        looks = [4 * number for number in range(1, k + 1)]
        z = [constant * np.sqrt(k / number) for number in range(1, k + 1)]
        expected = 2 * stats.norm.sf(z)
        np.testing.assert_allclose(verdicts.look_levels(looks), expected, rtol=4e-3)
    with pytest.raises(ValueError, match="looks must be ascending"):
        verdicts.look_levels([1, 4])


@given(
    kind=st.sampled_from(verdicts.KINDS),
    values=st.lists(st.integers(-30, 30), min_size=2, max_size=12),
    factor=st.sampled_from([0.9, 0.999, 1.001, 1.1]),
)
def test_p_is_the_level_from_which_the_table_decides(kind, values, factor):
    values = np.array(values) / 10
    if kind == "mostly":
        values = (values > 0).astype(float)
    p = verdicts.p_value(kind, 0.7, values)
    level = p * factor
    if not 1e-12 < level < 0.999:
        return
    low, high = verdicts.interval(kind, 0.7, values, level)
    found = verdicts.verdict(kind, 0.7, values.mean(), low, high)
    assert (found != OPEN) == (p < level)


@pytest.mark.parametrize("kind", verdicts.KINDS)
def test_the_seeds_needed_decide_and_one_fewer_does_not(kind):
    values = np.array([1.0, 0.0, 1.0, 1.0]) if kind == "mostly" else [0.2, 0.9, -0.2]
    needed = verdicts.seeds_needed(kind, 0.8, values, 0.05)
    mean, deviation = np.mean(values), np.std(values, ddof=1)

    def decided(n):
        if kind == "mostly":
            ends = verdicts.interval(kind, 0.8, np.arange(n) < round(mean * n))
        else:
            half = stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n)
            ends = mean - half, mean + half
        return verdicts.verdict(kind, 0.8, mean, *ends) != OPEN

    assert needed is not None
    assert decided(needed)
    assert not any(decided(n) for n in range(2, needed))


# How often a study falsely says "reproduced" for any of its main claims. ------------

NULLS = {"difference": (0.0,), "as_good": (-1.0,), "equal": (-1.0, 1.0), "mostly": ()}


def draw(generator, kind, null, shape, seeds):
    """Statistics of claims whose truth is the border of what "reproduced" says."""
    if kind == "mostly":
        return (generator.random(seeds) < 0.5).astype(float)
    noise = {
        "normal": lambda: generator.normal(size=seeds),
        "tied": lambda: np.round(generator.normal(size=seeds)),
        "skewed": lambda: generator.exponential(size=seeds) - 1,
    }[shape]()
    return null + 0.8 * noise


def false_rate(studies, shape, generator, looks):
    wrong = 0
    cases = [(kind, null) for kind in verdicts.KINDS for null in NULLS[kind] or (0.5,)]
    for number in range(studies):
        chosen = [cases[(number + place) % len(cases)] for place in range(3)]
        claims, values = [], {}
        for place, (kind, null) in enumerate(chosen):
            key = str(place)
            claims.append(
                runs.Claim(
                    key=key,
                    words="w",
                    kind=kind,
                    smallest_effect=1.0,
                    unit="",
                    main=True,
                )
            )
            values[key] = draw(generator, kind, null, shape, looks[-1])
        found = runs.judge_all(claims, values, looks=looks)
        wrong += any(own["verdict"] == "reproduced" for own in found)
    return wrong / studies


@pytest.mark.long
@pytest.mark.parametrize("shape", ["normal", "tied", "skewed"])
def test_false_reproductions_are_rare(shape):
    generator = np.random.default_rng(0)
    assert false_rate(10_000, shape, generator, (4, 8, 12)) <= 0.03


def test_true_effects_are_found():
    generator = np.random.default_rng(1)
    kinds = {"difference": 2.0, "as_good": 1.0, "equal": 0.0, "mostly": 1.0}
    claims = [
        runs.Claim(
            key=kind, words="w", kind=kind, smallest_effect=1.0, unit="", main=True
        )
        for kind in kinds
    ]
    found = []
    for _ in range(30):
        values = {
            kind: np.ones(12)
            if kind == "mostly"
            else truth + generator.normal(0, 0.4, 12)
            for kind, truth in kinds.items()
        }
        found += [own["verdict"] for own in runs.judge_all(claims, values)]
    assert found.count("reproduced") >= 0.95 * len(found)


def test_every_look_and_claim_is_in_the_words_of_the_table():
    assert list(itertools.chain(verdicts.KINDS)) == [*NULLS]
