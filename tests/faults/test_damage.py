"""Damage to any file of a real checkpoint: said, and the one before it is used."""

import shutil

import pytest

from kd_heuristics import checkpoints
from tests.faults import compare, damage, recipes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return recipes.run("sgdr", tmp_path_factory.mktemp("whole") / "run")


def damaged(whole, target, kind, file, step=8, other=4):
    """A copy of a run with one file damaged; the file, or None where it cannot be."""
    places = [target / "checkpoints" / "train" / f"{n:08d}" for n in (step, other)]
    original = whole / "checkpoints" / "train"
    sources = [original / place.name / file for place in places]
    if not damage.changes(kind, *sources):
        return None
    shutil.copytree(whole, target)
    damage.KINDS[kind](*(place / file for place in places))
    return places[0]


@pytest.mark.parametrize("kind", damage.KINDS)
def test_every_file_of_the_newest(whole, tmp_path, kind):
    newest = whole / "checkpoints" / "train" / "00000008"
    assert len(damage.files(newest)) >= 8
    tried = 0
    for number, file in enumerate(damage.files(newest)):
        place = damaged(whole, tmp_path / f"{number}", kind, file)
        if place is None:
            continue
        with pytest.raises(checkpoints.DamagedError, match=f"step 8, {place}"):
            checkpoints.restore(place.parent, step=8)
        # Swapping damages the one before too; steps 3 and 0 are still whole.
        with pytest.warns(checkpoints.DamageWarning) as said:
            checkpoints.restore(place.parent)
        assert any(str(place) in str(warning.message) for warning in said)
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("kind", damage.KINDS)
def test_the_run_ends_the_same(whole, tmp_path, kind):
    newest = whole / "checkpoints" / "train" / "00000008"
    for name in ("manifest.sha256.json", "manifest.ocdbt"):
        file = next(f for f in damage.files(newest) if f.name == name)
        target = tmp_path / name
        if damaged(whole, target, kind, file) is not None:
            with pytest.warns(checkpoints.DamageWarning):
                recipes.run("sgdr", target)
            compare.assert_same(whole, target)


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """A run of three trainings, none of which keeps checkpoints for later."""
    return recipes.run("curve", tmp_path_factory.mktemp("curve") / "run")


def test_nothing_whole_is_refused(trainings, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trainings, run)
    for place in (run / "checkpoints" / "bend").glob("0*"):
        damage.KINDS["truncate"](place / "manifest.sha256.json", None)
    with (
        pytest.warns(checkpoints.DamageWarning),
        pytest.raises(checkpoints.CheckpointError, match="no usable checkpoint in"),
    ):
        recipes.run("curve", run)


def test_an_earlier_training_is_made_again(trainings, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trainings, run)
    newest = run / "checkpoints" / "end-0" / "00000008"
    damage.KINDS["truncate"](newest / "manifest.sha256.json", None)
    with pytest.warns(checkpoints.DamageWarning, match=f"step 8, {newest}"):
        recipes.run("curve", run)
    compare.assert_same(trainings, run, ordered=False)


def test_links_are_removed_and_not_followed(tmp_path, whole):
    """Nothing outside of the run folder is deleted."""
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in ("00000001", "00000008", ".removing-x", ".saving"):
        place = run / "checkpoints" / "train" / name
        if place.exists():
            shutil.rmtree(place)
        place.symlink_to(mine, target_is_directory=True)
    with pytest.warns(checkpoints.DamageWarning):
        recipes.run("sgdr", run)
    compare.assert_same(whole, run)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
