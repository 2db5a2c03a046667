"""Sinks get every line of the metrics file; nothing is sent where none is asked for."""

import sys
import time
import types

import pytest

from experiments.common import running
from kd_heuristics import runs, training
from kd_heuristics.training import sinks


def test_a_sink_gets_what_the_file_gets(tmp_path):
    told = []
    metrics = training.MetricsFile(
        tmp_path / "metrics.jsonl", sinks=[lambda *line: told.append(line)]
    )
    metrics.append("one", 3, {"loss": 0.5})
    assert told == [("one", 3, {"loss": 0.5})]
    assert metrics.read() == [{"stage": "one", "step": 3, "loss": 0.5}]


def test_none_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv(sinks.VARIABLE, raising=False)
    assert training.MetricsFile(tmp_path / "metrics.jsonl").sinks == []


def records(file):
    """The records of an event file: length, its checksum, the record, its checksum."""
    data = file.read_bytes()
    while len(data) > 12:
        size = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + size]
        data = data[16 + size :]


def test_tensorboard_writes_the_same_numbers(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="extra [tensorboard]")
    from tensorboardX.proto import event_pb2

    monkeypatch.setenv(sinks.VARIABLE, "tensorboard")
    training.MetricsFile(tmp_path / "metrics.jsonl").append("one", 3, {"loss": 0.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = []
    for _ in range(100):  # a thread of tensorboardX writes them
        events = [event_pb2.Event.FromString(record) for record in records(file)]
        if len(events) == 2:  # the version of the file is the first
            break
        time.sleep(0.1)
    (value,) = events[-1].summary.value
    assert (value.tag, events[-1].step, value.simple_value) == ("one/loss", 3, 0.5)


class FakeWandb(types.ModuleType):
    """`runs` has what each was told; without reinit `init` gives the one there is."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self._last = {}, None

    def init(self, *, dir, name, reinit=None):
        if self._last is None or reinit == "create_new":
            told = self.runs[name] = []
            self._last = types.SimpleNamespace(
                define_metric=lambda name, step_metric: told.append(
                    (name, step_metric)
                ),
                log=told.append,
            )
        return self._last


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_has_a_step_for_each_stage(tmp_path, wandb):
    sink = sinks.wandb(tmp_path / "run" / "wandb")
    sink("one", 3, {"loss": 0.5, "bad": float("nan")})
    sink("one", 4, {"loss": 0.25})
    assert wandb.runs["run"] == [
        ("one/*", "one/step"),
        {"one/loss": 0.5, "one/step": 3},
        {"one/loss": 0.25, "one/step": 4},
    ]


def test_each_study_of_a_process_has_a_run_of_its_own(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv(sinks.VARIABLE, "wandb")
    for name in ("sgdr", "warmup"):
        path = tmp_path / name / "metrics.jsonl"
        training.MetricsFile(path).append(name, 1, {"loss": 0.5})
    told = {name: calls[-1] for name, calls in wandb.runs.items()}
    assert told == {
        "sgdr": {"sgdr/loss": 0.5, "sgdr/step": 1},
        "warmup": {"warmup/loss": 0.5, "warmup/step": 1},
    }


def test_a_study_reads_its_lines_without_a_sink(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv(sinks.VARIABLE, "wandb")
    found = running.numbers(None, runs.RunFolder(tmp_path))
    assert found["skipped_updates"] == {}
    assert wandb.runs == {}


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_its_extra(name, tmp_path, monkeypatch):
    package = {"tensorboard": "tensorboardX", "wandb": "wandb"}[name]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"kd_heuristics\[{name}\]"):
        getattr(sinks, name)(tmp_path / name)


def test_an_unknown_name(tmp_path, monkeypatch):
    monkeypatch.setenv(sinks.VARIABLE, "tensorbord")
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        training.MetricsFile(tmp_path / "metrics.jsonl")
