"""Killed at any change to the file system, every recipe ends with the same bits."""

import random

import pytest

from tests.faults import compare, moments, recipes
from tests.selection import some_long

CHANGES = moments.Changes()
CHANGES.spare_orbax()
DEATHS = 3  # a recipe; `make soak` tries every moment


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each recipe's folder and its number of changes, made when asked for."""
    root, made = tmp_path_factory.mktemp("whole"), {}

    def get(name):
        if name not in made:
            CHANGES.watch(root / name)
            made[name] = recipes.run(name, root / name), CHANGES.count
            CHANGES.watch(None)
        return made[name]

    return get


def run_until(name, folder, at):
    """Dies before change `at` and goes on; whether it died."""
    CHANGES.watch(folder, at)
    try:
        recipes.run(name, folder)
    except moments.Death:
        return True
    finally:
        CHANGES.watch(None)
    return False


# One of each kind: a fit, a frozen one, a curve between fits, two stages, a stream of
# records, a population, and steps that are skipped. The others differ from these in a
# function of the step alone, or in their loss.
KINDS = {
    "sgdr",
    "warmup_and_freezing",
    "curve",
    "fsp",
    "funmatch",
    "population",
    "skipping",
}


@pytest.mark.parametrize("name", some_long(recipes.RECIPES, lambda n: n not in KINDS))
def test_killed_before_a_change_it_ends_the_same(name, whole, tmp_path):
    folder, count = whole(name)
    chosen = random.Random(len(name)).sample(range(2, count + 1), DEATHS)
    for at in chosen:
        assert run_until(name, tmp_path / f"{at}", at)
        recipes.run(name, tmp_path / f"{at}")
        assert compare.assert_same(folder, tmp_path / f"{at}") <= 1


def test_killed_again_and_again_it_ends_the_same(whole, tmp_path):
    """Also while it makes good what an earlier kill left."""
    folder, count = whole("fsp")
    draws, deaths = random.Random(3), 0
    while run_until("fsp", tmp_path / "run", draws.randint(2, 2 * count // 3)):
        deaths += 1
        assert deaths < 60
    assert deaths > 2
    # A start that dies before it has written its own record is not counted.
    assert 0 < compare.assert_same(folder, tmp_path / "run") <= deaths
