"""Checkpoints: exact, atomic, and never silently wrong."""

import contextlib
import dataclasses
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import checkpoints
from kd_heuristics.checkpoints import manifest
from tests.faults import moments

CHANGES = moments.Changes()
PARAMS = {"fc": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3)}}
TREE = {
    "params": PARAMS,
    "opt": optax.adam(0.1).init(PARAMS),
    "half": jnp.ones(2, jnp.bfloat16),
    "step": jnp.int32(7),
}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if x.size:  # else nothing of it was written
            np.testing.assert_array_equal(x, y)


def test_round_trip_of_the_newest_and_of_one_step(tmp_path):
    checkpoints.save(tmp_path, 5, TREE)
    checkpoints.save(tmp_path, 12, TREE | {"step": jnp.int32(12)})
    assert checkpoints.steps(tmp_path) == [5, 12]
    assert_same(checkpoints.restore(tmp_path, TREE, 5), TREE)
    assert int(checkpoints.restore(tmp_path, TREE)["step"]) == 12
    checkpoints.remove(tmp_path, 12)
    assert checkpoints.steps(tmp_path) == [5]


def test_a_step_is_replaced_and_what_a_kill_left_is_cleared(tmp_path):
    (tmp_path / ".saving" / "state").mkdir(parents=True)
    checkpoints.save(tmp_path, 3, TREE)
    checkpoints.save(tmp_path, 3, TREE | {"step": jnp.int32(8)})
    assert int(checkpoints.restore(tmp_path, TREE)["step"]) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]


def fail():
    raise OSError("no")


@pytest.mark.parametrize("how", [moments.raise_death, fail])
@pytest.mark.parametrize("at", range(1, 6))
def test_one_of_the_two_is_there_when_a_step_is_half_replaced(
    tmp_path, monkeypatch, how, at
):
    """Killed or refused before each change that follows the manifest."""
    checkpoints.save(tmp_path, 3, {"step": jnp.int32(7)})
    write = manifest.write

    def write_and_watch(*arguments):
        write(*arguments)
        CHANGES.watch(tmp_path, at, how)

    monkeypatch.setattr(manifest, "write", write_and_watch)
    with contextlib.suppress(moments.Death, checkpoints.CheckpointError):
        checkpoints.save(tmp_path, 3, {"step": jnp.int32(8)})
    CHANGES.watch(None)
    checkpoints.tidy(tmp_path)
    assert int(checkpoints.restore(tmp_path)["step"]) == (7 if at < 3 else 8)
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]


def test_what_was_replaced_does_not_come_back_after_a_removal(tmp_path):
    for step in (3, 4):
        checkpoints.save(tmp_path, step, TREE)
    (tmp_path / "00000004").rename(tmp_path / ".replaced-00000003")
    checkpoints.remove(tmp_path, 3)
    checkpoints.tidy(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_damage_to_any_file_is_refused(tmp_path, damage):
    checkpoints.save(tmp_path / "good", 1, TREE)
    files = [p for p in (tmp_path / "good").rglob("*") if p.is_file()]
    assert len(files) >= 8
    for number, file in enumerate(files):
        if not file.stat().st_size and damage != "delete":
            continue
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "good", copy)
        _damage(copy / file.relative_to(tmp_path / "good"), damage)
        with pytest.raises(checkpoints.DamagedError, match=f"step 1, {copy}"):
            checkpoints.restore(copy, TREE, 1)


def _damage(path, kind):
    content = path.read_bytes()
    if kind == "delete":
        path.unlink()
    elif kind == "flip":
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + changed + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if kind == "truncate" else b"")


def test_missing_foreign_and_other_models_checkpoints(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint in"):
        checkpoints.restore(tmp_path, TREE)
    checkpoints.save(tmp_path, 1, TREE)
    with pytest.raises(checkpoints.CheckpointError, match=r"no step 2 in .*\[1\]"):
        checkpoints.restore(tmp_path, TREE, 2)
    wider = TREE | {"half": jnp.ones(5, jnp.bfloat16)}
    with pytest.raises(
        checkpoints.CheckpointError,
        match=r"half is bfloat16\[2\] there, bfloat16\[5\] here",
    ):
        checkpoints.restore(tmp_path, wider)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "weights.bin").write_bytes(b"x")
    with pytest.warns(checkpoints.DamageWarning, match="step 2, .* another program"):
        assert_same(checkpoints.restore(tmp_path, TREE), TREE)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Node:
    """A pytree of someone's own."""

    left: Any
    right: Any


def test_any_pytree_with_typed_keys_and_numbers(tmp_path):
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 2)
    tree = {
        "own": Node(jnp.ones(2), [None, (jnp.zeros(()), 7)]),
        "key": jax.random.key(1),
        "keys": keys,
        "none": None,
        "empty": {},
    }
    checkpoints.save(tmp_path, 1, tree)
    read = checkpoints.restore(tmp_path, tree)
    assert jax.tree.structure(read) == jax.tree.structure(tree)
    for name in ("key", "keys"):
        assert read[name].dtype == tree[name].dtype
        np.testing.assert_array_equal(
            jax.random.key_data(read[name]), jax.random.key_data(tree[name])
        )
    assert int(read["own"].right[1][1]) == 7
    other = tree | {"key": jax.random.key(1, impl="rbg")}
    with pytest.raises(checkpoints.CheckpointError, match=r"key is key<fry>\[\] there"):
        checkpoints.restore(tmp_path, other)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"a": jnp.zeros((0, 3), jnp.bfloat16)},
        {"a": {"b": jnp.zeros((2, 0)), "keys": jax.random.split(jax.random.key(1), 0)}},
        {"a": jnp.zeros((0,), int), "b": jnp.ones(2)},
    ],
)
def test_nothing_is_something_too(tmp_path, tree):
    checkpoints.save(tmp_path, 1, tree)
    for like in (tree, None):
        assert_same(checkpoints.restore(tmp_path, like), tree)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"a/b": 1.0, "a": {"b": 2.0}}, r"\['a'\]\['b'\] and \['a/b'\]"),
        ({"a/b": 1.0, "a": 2.0}, r"\['a'\] and \['a/b'\]"),
        ([{"": 1.0}, {"b": 2.0}, {"/b": 3.0, "": 2.0}], r"\[2\]\[''\] and \[2\]\['/b'"),
    ],
)
def test_two_leaves_of_one_name_are_refused(tmp_path, tree, named):
    with pytest.raises(ValueError, match=f"{named}.*rename one"):
        checkpoints.save(tmp_path, 1, tree)
    assert not [*tmp_path.iterdir()]


def test_without_a_template_names_become_dictionaries(tmp_path):
    checkpoints.save(tmp_path, 1, {"params": PARAMS, "keys": jax.random.key(1)})
    read = checkpoints.restore(tmp_path)
    assert_same(read["params"], PARAMS)
    assert jax.random.bits(read["keys"]) == jax.random.bits(jax.random.key(1))
    checkpoints.save(tmp_path, 2, jnp.arange(3))
    np.testing.assert_array_equal(
        checkpoints.restore(tmp_path, jnp.zeros(3, int)), [0, 1, 2]
    )


def test_best_is_the_newest_of_the_highest_scores(tmp_path):
    assert checkpoints.best(tmp_path) is None
    for step, score in ((1, 0.5), (2, None), (3, 2.0), (4, float("nan")), (5, 2.0)):
        checkpoints.save(tmp_path, step, PARAMS, score=score)
    assert checkpoints.best(tmp_path) == 5
    checkpoints.remove(tmp_path, 5)
    assert checkpoints.best(tmp_path) == 3
