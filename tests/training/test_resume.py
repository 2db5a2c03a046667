"""Trainings that lost files, or were asked to stop, end with the same numbers."""

import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import checkpoints, runs, training
from kd_heuristics.runtime import interrupts
from tests.grouped import grouped

OPTIMIZER = training.sgd(0.05, 0.9)


def objective(params, batch_stats, batch, key):
    noise = jax.random.normal(key, params["kernel"].shape)
    loss = jnp.sum((params["kernel"] - batch - 0.1 * noise) ** 2)
    return loss, ({"count": batch_stats["count"] + 1}, {"loss": loss})


def scaled(factor, params, batch_stats, batch, key):
    loss, aux = objective(params, batch_stats, batch, key)
    return factor * loss, aux


def batches(seed, step):
    return jnp.sin(step * 7.0 + seed + jnp.arange(3.0))


def fit(folder, **options):
    folder.mkdir(exist_ok=True)
    return training.fit(
        objective,
        {"kernel": jnp.ones(3)},
        {"count": jnp.int32(0)},
        OPTIMIZER,
        batches,
        **grouped(
            {
                "metrics": training.MetricsFile(folder / "metrics.jsonl"),
                "num_steps": 20,
                "log_every_steps": 5,
                "keep_steps": [0, 5],
            }
            | options,
            directory=folder / "checkpoints",
        ),
    )


def assert_same(state, folder, whole):
    """States, metrics file and every checkpoint that is there."""
    expected, reference = whole
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    files = [path / "metrics.jsonl" for path in (folder, reference)]
    assert files[0].read_bytes() == files[1].read_bytes()
    places = [path / "checkpoints" for path in (folder, reference)]
    assert checkpoints.steps(places[0]) == checkpoints.steps(places[1])
    for step in checkpoints.steps(places[0]):
        a, b = (checkpoints.restore(place, expected, step) for place in places)
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    state = fit(folder)
    assert checkpoints.steps(folder / "checkpoints") == [0, 5, 15, 20]
    return state, folder


def damage(folder, step, how):
    path = folder / "checkpoints" / f"{step:08d}"
    if how == "missing":
        shutil.rmtree(path)
    elif how == "manifest":
        file = path / "manifest.sha256.json"
        file.write_text(file.read_text().replace('"score": null', '"score": 9.0'))
    else:
        next(path.rglob("manifest.ocdbt")).write_bytes(b"")
    return path


@pytest.mark.parametrize("how", ["emptied", "manifest"])
@pytest.mark.parametrize("steps", [[20], [20, 15]])
def test_the_newest_whole_checkpoint_is_gone_on_from(tmp_path, whole, how, steps):
    shutil.copytree(whole[1], tmp_path / "run")
    paths = [damage(tmp_path / "run", step, how) for step in steps]
    with pytest.warns(checkpoints.DamageWarning) as said:
        state = fit(tmp_path / "run")
    words = "\n".join(str(warning.message) for warning in said)
    assert all(str(path) in words for path in paths)
    assert_same(state, tmp_path / "run", whole)


def test_a_step_that_is_to_stay_is_made_again(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    damage(tmp_path / "run", 5, "emptied")
    damage(tmp_path / "run", 0, "missing")
    with (
        pytest.warns(checkpoints.DamageWarning),
        pytest.raises(
            checkpoints.CheckpointError, match=r"no usable checkpoint in .*: .* 5"
        ),
    ):
        fit(tmp_path / "run")
    shutil.copytree(
        whole[1] / "checkpoints" / "00000000",
        tmp_path / "run" / "checkpoints" / "00000000",
    )
    with pytest.warns(checkpoints.DamageWarning, match="step 5,"):
        state = fit(tmp_path / "run")
    assert_same(state, tmp_path / "run", whole)


def test_the_start_is_written_again(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    damage(tmp_path / "run", 0, "missing")
    assert_same(fit(tmp_path / "run"), tmp_path / "run", whole)


def test_with_none_left_it_refuses(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    for step in (0, 5, 15, 20):
        damage(tmp_path / "run", step, "emptied")
    before = sorted((tmp_path / "run").rglob("*"))
    with (
        pytest.warns(checkpoints.DamageWarning),
        pytest.raises(checkpoints.CheckpointError, match="Remove that folder"),
    ):
        fit(tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_folders_under_each_others_names_are_refused(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    place = tmp_path / "run" / "checkpoints"
    (place / "00000015").rename(place / "aside")
    (place / "00000020").rename(place / "00000015")
    (place / "aside").rename(place / "00000020")
    with pytest.warns(checkpoints.DamageWarning) as said:
        state = fit(tmp_path / "run")
    words = "\n".join(str(warning.message) for warning in said)
    assert "saved as step 20, not 15" in words
    assert "saved as step 15, not 20" in words
    assert_same(state, tmp_path / "run", whole)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"{}\n", b'{"stage": 1}\n', b"7\n"])
def test_a_damaged_metrics_file_is_refused(tmp_path, whole, content):
    shutil.copytree(whole[1], tmp_path / "run")
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_bytes(content + file.read_bytes())
    with pytest.raises(runs.RunError, match=r"line 1 of .*metrics.jsonl is damaged"):
        fit(tmp_path / "run")


def test_lost_lines_are_refused(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(runs.RunError, match=r"steps \[10, 15, 20\] of train"):
        fit(tmp_path / "run")


@pytest.mark.parametrize("stop", [4, 5, 7, 20])
@pytest.mark.parametrize("every", [1, 3])
def test_asked_to_stop_it_saves_within_a_call(tmp_path, stop, every):
    """Lines that are means over calls before and after are the same to the bit."""
    options = {"steps_per_call": 2, "save_every_logs": every, "keep_last": 9}
    reference = fit(tmp_path / "whole", **options)

    def ask(steps, loss, seen=[0]):  # noqa: B006 - a fresh list a test
        seen[0] += steps
        if seen[0] == stop:
            os.kill(os.getpid(), signal.SIGTERM)
            while not interrupts.received():  # a thread notes it
                pass

    with interrupts.handled(), pytest.raises(interrupts.Interrupted) as stopped:
        fit(tmp_path / "run", progress=ask, **options)
    assert stopped.value.status == 143
    due = min(stop + stop % 2, stop) if stop in (5, 20) else stop
    assert checkpoints.steps(tmp_path / "run" / "checkpoints")[-1] == due
    again = fit(tmp_path / "run", **options)
    jax.tree.map(np.testing.assert_array_equal, again, reference)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, whole):
    fit(tmp_path, num_steps=10)
    state = fit(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, whole[0])
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    assert lines == (whole[1] / "metrics.jsonl").read_bytes()


def test_a_shorter_training_is_refused_where_a_longer_one_was(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    with pytest.raises(
        checkpoints.CheckpointError, match=r"of step 20, .* num_steps=10"
    ):
        fit(tmp_path / "run", num_steps=10)
    assert_same(fit(tmp_path / "run"), tmp_path / "run", whole)


LONGER = {"num_steps": 50, "log_every_steps": 10, "keep_steps": [], "keep_last": 9}


@pytest.mark.parametrize("spread", ["fit", "members"])
@pytest.mark.parametrize("first", [3, 8, 20, 25, 29])
@pytest.mark.parametrize("steps_per_call", [1, 4, 50])
def test_a_longer_training_has_the_uninterrupted_lines(
    tmp_path, first, steps_per_call, spread
):
    """Where the shorter one ends has a line of its own, which the longer one lacks."""
    train = {"fit": fit, "members": members}[spread]
    options = LONGER | {"steps_per_call": steps_per_call}
    whole = train(tmp_path / "whole", **options)
    train(tmp_path / "run", **options | {"num_steps": first})
    lines = training.MetricsFile(tmp_path / "run" / "metrics.jsonl").read()
    assert lines[-1]["step"] == first
    state = train(tmp_path / "run", **options)
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def members(folder, seeds=(0, 1), **options):
    own = [
        training.Member(
            objective=objective,
            params={"kernel": jnp.ones(3)},
            batch_stats={"count": jnp.int32(0)},
            optimizer=OPTIMIZER,
            seed=seed,
            stage=f"member {place}",
        )
        for place, seed in enumerate(seeds)
    ]
    folder.mkdir(exist_ok=True)
    file = training.MetricsFile(folder / "metrics.jsonl")
    directory = folder / "checkpoints"
    return training.population(
        own, batches, **grouped(options, metrics=file, directory=directory)
    )


def test_three_lengths_and_a_signal_are_one_training(tmp_path):
    options = LONGER | {"steps_per_call": 4}
    whole = fit(tmp_path / "whole", **options)
    for length in (13, 17, 33):
        fit(tmp_path / "run", **options | {"num_steps": length})

    def ask(steps, loss, seen=[0]):  # noqa: B006 - a fresh list a test
        seen[0] += steps
        if seen[0] == 38:
            os.kill(os.getpid(), signal.SIGTERM)
            while not interrupts.received():  # a thread notes it
                pass

    with interrupts.handled(), pytest.raises(interrupts.Interrupted):
        fit(tmp_path / "run", progress=ask, **options)
    assert checkpoints.steps(tmp_path / "run" / "checkpoints")[-1] == 38
    state = fit(tmp_path / "run", **options)
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_score_of_a_line_that_is_none_is_forgotten(tmp_path):
    scores = iter(range(0, -99, -1))  # the earliest is the highest

    def score(values):
        return next(scores)

    fit(tmp_path, **LONGER | {"num_steps": 5, "score": score})
    assert checkpoints.best(tmp_path / "checkpoints") == 5
    fit(tmp_path, **LONGER | {"score": score})
    assert checkpoints.best(tmp_path / "checkpoints") == 10


@pytest.mark.parametrize("lines", [True, False], ids=["with lines", "without"])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("log_every_steps", 10, 4),
        ("log_every_steps", 10, 20),
        ("keep_steps", [13], []),
    ],
)
def test_other_lines_are_refused_by_their_own_name(tmp_path, name, old, new, lines):
    options = LONGER | ({} if lines else {"metrics": None}) | {name: old}
    fit(tmp_path, **options | {"num_steps": 15})
    words = re.escape(f"trained with {name}={old}, this call has {name}={new}")
    before = [(p, p.read_bytes()) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    with pytest.raises(runs.RunError, match=words):
        fit(tmp_path, **options | {name: new})
    after = [(p, p.read_bytes()) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert before == after


def make(rate, decay):
    return training.sgd(rate, 0.9, decay)


def of_table(rates):
    return optax.sgd(lambda step: rates[step])


OTHERS = {
    "seed": ({"seed": 4}, {"seed": 5}, "seed was 4 and is 5"),
    "rate": (
        {"optimizer": optax.sgd(0.5)},
        {"optimizer": optax.sgd(0.25)},
        "step_size was -0.5 and is -0.25",
    ),
    "bound rate": (
        {"optimizer": training.bind(make, jnp.float32(0.5), jnp.float32(0))},
        {"optimizer": training.bind(make, jnp.float32(0.25), jnp.float32(0))},
        "was 0.5 and is 0.25",
    ),
    "injected rate": (
        {"optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)},
        {"optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=0.25)},
        "learning_rate was 0.5 and is 0.25",
    ),
    "schedule": (
        {"optimizer": optax.sgd(optax.cosine_decay_schedule(0.5, 20))},
        {"optimizer": optax.sgd(optax.cosine_decay_schedule(0.5, 30))},
        r"decay_steps was 20(\.0)? and is 30",
    ),
    "table": (
        {"optimizer": training.bind(of_table, jnp.full(20, 0.5))},
        {"optimizer": training.bind(of_table, jnp.full(20, 0.25))},
        r"was float32\[20\] \w+ and is float32\[20\] \w+",
    ),
    "bound number of the objective": (
        {"objective": jax.tree_util.Partial(scaled, jnp.float32(0.5))},
        {"objective": jax.tree_util.Partial(scaled, jnp.float32(0.25))},
        r"objective\[0\] was 0.5 and is 0.25",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_seed_or_rate_is_said(tmp_path, case):
    def train(num_steps, **changed):
        own = {
            "objective": objective,
            "params": {"kernel": jnp.ones(3)},
            "batch_stats": {"count": jnp.int32(0)},
            "optimizer": optax.sgd(0.5),
        }
        options = {"num_steps": num_steps, "log_every_steps": 2, "stage": "own"}
        own |= {"batches": batches, "directory": tmp_path} | options | changed
        return training.fit(**grouped(own))

    first, second, words = OTHERS[case]
    train(2, **first)
    train(4, **first)  # the same is no news
    with pytest.warns(
        training.ResumeWarning, match=f"own resumes from step 4.*{words}"
    ):
        train(6, **second)
    train(8, **second)


def test_the_member_of_another_seed_is_named(tmp_path):
    members(tmp_path, (0, 1), num_steps=2)
    with pytest.warns(training.ResumeWarning) as said:
        members(tmp_path, (0, 2), num_steps=4)
    (warning,) = said
    assert str(warning.message).startswith("member 1 resumes from step 2")
    assert "its seed was 1 and is 2" in str(warning.message)


def test_too_little_room_is_known_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(checkpoints.CheckpointError, match=r"6 checkpoints of 0 MB"):
        fit(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
