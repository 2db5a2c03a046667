"""Counts, steps and seeds of any integer type, at every entry point."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import checkpoints, training
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

TYPES = {
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
    "uint64": np.uint64,
    "array": lambda value: np.array(value, np.int16),
    "jax": jnp.int32,
}
COUNTS = {
    "num_steps": 200,  # plus a call's steps it wraps in uint8
    "log_every_steps": 90,
    "steps_per_call": 100,
    "micro_batches": 2,
    "keep_last": 1,
    "save_every_logs": 2,
    "seed": 5,
}


def objective(params, batch_stats, batch, key):
    loss = (params - batch.mean() - 0.01 * jax.random.normal(key)) ** 2
    return loss, (batch_stats, {"loss": loss})


def batches(seed, step):
    return jnp.sin(step + seed + jnp.arange(4.0))


OWN = {
    "objective": objective,
    "params": jnp.float32(0),
    "batch_stats": {},
    "optimizer": optax.sgd(0.1),
}


def trained(folder, counts, keep_steps, at_once=None):
    """Parameters, lines and steps of checkpoints."""
    folder.mkdir()
    options = {
        "metrics": training.MetricsFile(folder / "metrics.jsonl"),
        "directory": folder / "checkpoints",
        "keep_steps": keep_steps,
    }
    if at_once is None:
        state = training.fit(batches=batches, **grouped(OWN, options, counts))
    else:
        counts = dict(counts)
        seed = counts.pop("seed")
        members = [
            training.Member(**OWN, seed=own, stage=stage)
            for own, stage in ((seed, "a"), (0, "b"))
        ]
        state = training.population(
            members, batches, at_once=at_once, **grouped(options, counts)
        )
    lines = (folder / "metrics.jsonl").read_text()
    return (
        np.asarray(state.params).tolist(),
        lines,
        checkpoints.steps(folder / "checkpoints"),
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    return {
        at_once: trained(folder / str(at_once), COUNTS, [100], at_once)
        for at_once in (None, 1, 2)
    }


@pytest.mark.parametrize("at_once", [None, 1, 2])
@pytest.mark.parametrize("name", TYPES)
def test_any_type_trains_as_pythons(tmp_path, expected, name, at_once):
    make = TYPES[name]

    def fits(value):
        return make(value) if name != "int8" or value < 128 else value

    counts = {key: fits(value) for key, value in COUNTS.items()}
    of_type = None if at_once is None else fits(at_once)
    keep = np.array([100]) if name == "array" else [fits(100)]
    found = trained(tmp_path / "run", counts, keep, of_type)
    assert found == expected[at_once]
    again = training.MetricsFile(tmp_path / "run" / "metrics.jsonl").read()
    assert all(type(line["step"]) is int for line in again)


@pytest.mark.parametrize("make", TYPES.values(), ids=TYPES)
def test_other_entries_take_any_type(tmp_path, make):
    file = training.MetricsFile(tmp_path / "metrics.jsonl")
    file.append("train", make(3), {"loss": 0.5})
    assert json.loads(file.path.read_text())["step"] == 3
    assert parallel.mesh(make(2)) == parallel.mesh(2)
    assert parallel.divisible(make(7), parallel.mesh(2)) == 8
    state = training.TrainState(jnp.int32(0), jnp.arange(3.0), {}, ())
    assert float(training.member(state, make(2)).params) == 2
    found = training.evaluate_members(metric, state, jnp.ones((2, 4)), at_once=make(2))
    np.testing.assert_array_equal(found["x"], [0, 1, 2])


def metric(params, batch_stats, batch):
    return {"x": params * batch}


# Without the checks of types that tests run under, which refuse these before.
REFUSED = """
import json, sys
import jax.numpy as jnp
import numpy as np
import optax
from kd_heuristics import training
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

def objective(params, batch_stats, batch, key):
    raise AssertionError("it was traced")

folder, names = sys.argv[1], sys.argv[2].split(",")
own = dict(objective=objective, params=jnp.ones(2), batch_stats={},
           optimizer=optax.sgd(0.1))
said = {}

def refused(name, call):
    try:
        call()
    except TypeError as error:
        said.setdefault(name, []).append(str(error))

def fit(batches=max, seed=0, **options):
    training.fit(**own, batches=batches, seed=seed,
                 **grouped({"num_steps": 2}, options, directory=folder))

def population(batches=max, seed=0, **options):
    training.population([training.Member(**own, seed=seed)], batches,
                        **grouped({"num_steps": 2}, options, directory=folder))

for value in (2.0, "2", np.float32(2), np.array([2]), np.array(2.5)):
    for name in names:
        given = {name: [value] if name == "keep_steps" else value}
        refused(name, lambda: population(**given))
        if name != "at_once":
            refused(name, lambda: fit(**given))
    refused("num_devices", lambda: parallel.mesh(value))
for batches in ([jnp.ones(2)], iter([jnp.ones(2)]), (x for x in "ab")):
    refused("batches", lambda: fit(batches))
    refused("batches", lambda: population(batches))
print(json.dumps(said))
"""


def test_what_is_no_integer_or_no_function_is_refused_before_training(tmp_path):
    names = [*COUNTS, "keep_steps", "at_once"]
    found = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path / "run"), ",".join(names)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(found.stdout)
    for name in (*names, "num_devices"):
        assert len(said[name]) == (5 if name in ("at_once", "num_devices") else 10)
        assert all(f"{name} must be an integer, got " in words for words in said[name])
    kinds = ("list", "list_iterator", "generator")
    for kind, words in zip(np.repeat(kinds, 2), said["batches"], strict=True):
        assert "batches must be a function (seed, step) -> batch" in words
        assert f"got a {kind}: " in words
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [int, np.int64, lambda seed: np.array(seed)])
@pytest.mark.parametrize("seed", [2**31, 2**32 + 5, -(2**31) - 1])
def test_a_seed_that_int32_cannot_hold_is_refused(make, seed):
    words = rf"seed must be at (most|least) .*, got {seed}; .*seed % 2\*\*31"
    with pytest.raises(ValueError, match=words):
        training.fit(**OWN, batches=batches, num_steps=1, seed=make(seed))
    member = training.Member(**OWN, seed=make(seed))
    with pytest.raises(ValueError, match=words):
        training.population([member], batches, num_steps=1)


def test_more_steps_than_int32_counts_are_refused():
    words = "num_steps must be at most 2147483647, got 2147483648"
    with pytest.raises(ValueError, match=words):
        training.fit(**OWN, batches=batches, num_steps=np.int64(2**31))


@pytest.mark.parametrize("index", [3, -4, np.uint8(200)])
def test_a_member_that_is_not_there(index):
    state = training.TrainState(jnp.int32(0), jnp.arange(3.0), {}, ())
    with pytest.raises(ValueError, match=f"got {index}; there are 3 members"):
        training.member(state, index)
