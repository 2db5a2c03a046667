"""Logging and checkpoints of a training, and the keywords of version 0.1 for them."""

import re

import jax.numpy as jnp
import optax
import pytest

from kd_heuristics import checkpoints, training

OPTIMIZER = optax.sgd(0.1)


def objective(params, batch_stats, batch, key):
    loss = (params - batch) ** 2
    return loss, (batch_stats, {"loss": loss})


def batches(seed, step):
    return jnp.sin(step + 1.0)


def fit(**options):
    return training.fit(
        objective,
        jnp.float32(0),
        optimizer=OPTIMIZER,
        batches=batches,
        num_steps=6,
        steps_per_call=1,
        **options,
    )


def population(**options):
    member = training.Member(
        objective=objective, params=jnp.float32(0), optimizer=OPTIMIZER
    )
    return training.population(
        [member], batches, num_steps=6, steps_per_call=1, **options
    )


def score(values):
    return -float(jnp.ravel(values["loss"])[0])


def trained(train, folder, logging, saving, old):
    """All that a training leaves, told to log and save with some keywords of 0.1."""
    file, calls = training.MetricsFile(folder / "metrics.jsonl"), []
    values = {
        "metrics": file,
        "log_every_steps": 2,
        "evaluate": lambda state: {"params": float(jnp.ravel(state.params)[0])},
        "progress": lambda steps, loss: calls.append((steps, loss)),
        "directory": folder / "checkpoints",
        "keep_steps": [1],
        "keep_last": 1,
        "score": score,
        "save_every_logs": 2,
    }
    new = {
        "logging": training.Logging(**{name: values[name] for name in logging}),
        "checkpoints": training.Checkpoints(**{name: values[name] for name in saving}),
    }
    given = {OLD_NAMES.get(name, name): values[name] for name in old}
    state = train(**{k: v for k, v in new.items() if k not in without(old)}, **given)
    directory = folder / "checkpoints"
    return (
        float(jnp.ravel(state.params)[0]),
        file.path.read_text() if file.path.exists() else "",
        checkpoints.steps(directory) if directory.exists() else [],
        calls,
    )


OLD_NAMES = {"save_every_logs": "checkpoint_every_logs"}
LOGGING = ["metrics", "log_every_steps", "evaluate", "progress"]
SAVING = ["directory", "keep_steps", "keep_last", "score", "save_every_logs"]


def without(old):
    """The groups whose fields are given by themselves."""
    groups = {"logging": LOGGING, "checkpoints": SAVING}
    return [name for name, fields in groups.items() if {*fields} & {*old}]


@pytest.mark.parametrize("train", [fit, population])
@pytest.mark.parametrize("group", [LOGGING, SAVING], ids=["logging", "checkpoints"])
def test_old_keywords_do_what_they_did(train, group, tmp_path):
    folders = [tmp_path / name for name in ("new", "old")]
    for folder in folders:
        folder.mkdir()
    expected = trained(train, folders[0], LOGGING, SAVING, [])
    with pytest.warns(DeprecationWarning, match="is deprecated; give") as said:
        found = trained(train, folders[1], LOGGING, SAVING, group)
    assert found == expected
    assert all(found)
    told = [str(warning.message).split("=")[0] for warning in said]
    assert sorted(told) == sorted(OLD_NAMES.get(name, name) for name in group)


@pytest.mark.parametrize("train", [fit, population])
@pytest.mark.parametrize("name", [*LOGGING, *SAVING])
def test_each_old_keyword_names_its_new_form(train, name, tmp_path):
    value = {
        "metrics": training.MetricsFile(tmp_path / "metrics.jsonl"),
        "directory": tmp_path / "checkpoints",
        "evaluate": lambda state: {},
        "progress": lambda steps, loss: None,
        "score": score,
        "keep_steps": [1],
    }.get(name, 1)
    group = "logging" if name in LOGGING else "checkpoints"
    kind = {"logging": "Logging", "checkpoints": "Checkpoints"}[group]
    old = OLD_NAMES.get(name, name)
    words = f"{old}= is deprecated; give {group}=training.{kind}({name}=...)"
    with pytest.warns(DeprecationWarning, match=re.escape(words)):
        train(**{old: value})
    with pytest.raises(TypeError, match=re.escape(f"got {old}= and {group}=")):
        train(**{old: value, group: getattr(training, kind)()})


@pytest.mark.parametrize("train", [fit, population])
def test_an_unknown_keyword_is_refused(train):
    with pytest.raises(TypeError, match="unexpected keyword argument 'metric'"):
        train(metric=None)


def test_settings_are_checked_when_made():
    for name in ("log_every_steps", "keep_last", "save_every_logs"):
        group = training.Logging if name in LOGGING else training.Checkpoints
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            group(**{name: 0})
    with pytest.raises(ValueError, match=r"keep_steps must lie in \[0, 6\], got \[7\]"):
        fit(checkpoints=training.Checkpoints(keep_steps=[7]))


def test_statistics_may_be_left_out():
    own = objective, jnp.float32(0)
    states = [
        training.fit(*own, stats, OPTIMIZER, batches, num_steps=6, steps_per_call=1)
        for stats in ({}, None)
    ]
    states += [fit(), training.member(population(), 0)]
    assert len({float(state.params) for state in states}) == 1
    assert all(state.batch_stats == {} for state in states)
    with pytest.raises(TypeError, match="needs optimizer= and batches="):
        training.fit(*own, num_steps=6)


def test_a_step_that_was_not_kept_is_named(tmp_path):
    def saving(keep_steps):
        return training.Checkpoints(
            directory=tmp_path, keep_steps=keep_steps, keep_last=1
        )

    fit(checkpoints=saving([]))
    words = r"keep_steps names steps \[2, 3\], which the training in .* did not keep"
    with pytest.raises(checkpoints.CheckpointError, match=words):
        fit(checkpoints=saving([0, 2, 3]))
