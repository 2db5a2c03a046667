"""What a single process sees of several, and what it refuses."""

import dataclasses
import pickle
import sys
import threading

import jax
import pytest

from experiments.common import launch
from experiments.sgdr import study as sgdr
from kd_heuristics.runtime import hosts, interrupts


def test_one_process_asks_nobody():
    assert (hosts.count(), hosts.index(), hosts.is_first()) == (1, 0, True)
    assert hosts.first(divmod, 7, 2) == (3, 1)
    assert hosts.highest(15) == 15
    interrupts.check()
    with pytest.raises(ZeroDivisionError):
        hosts.first(divmod, 1, 0)


def test_a_result_that_cannot_be_told_is_an_error_of_all(monkeypatch):
    told = []
    monkeypatch.setattr(hosts, "count", lambda: 2)
    monkeypatch.setattr(hosts, "_told", told.append)
    words = "returned a lock, which cannot be sent to the other processes"
    with pytest.raises(hosts.HostError, match=words):
        hosts.first(threading.Lock)
    error, value = pickle.loads(told[0])
    assert isinstance(error, hosts.HostError)
    assert words in str(error)
    assert value is None


@pytest.mark.parametrize(
    "where",
    ["", "slurm", "host,2,0", "host:1", "host:1,2", "host:1,2,2", ":1,2,0", "h:1,x,0"],
)
def test_a_bad_address_is_refused(where, monkeypatch, capsys):
    assert stopped(monkeypatch, where) == launch.USAGE
    words = capsys.readouterr().err
    assert "auto or HOST:PORT,COUNT,INDEX" in words
    assert repr(where) in words


def test_no_cluster_is_said(monkeypatch, capsys):
    def initialize(**given):
        assert not given
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert stopped(monkeypatch, "auto") == launch.USAGE
    assert "no cluster was found" in capsys.readouterr().err


def test_others_that_are_not_reached_are_said(monkeypatch, capsys):
    def initialize(**given):
        assert given == {
            "coordinator_address": "10.0.0.1:8476",
            "num_processes": 2,
            "process_id": 1,
            "cluster_detection_method": "deactivate",
        }
        raise RuntimeError("DEADLINE_EXCEEDED: 300 s\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert stopped(monkeypatch, "10.0.0.1:8476,2,1") == launch.FAILED
    words = capsys.readouterr().err
    assert "did not come together (DEADLINE_EXCEEDED: 300 s)" in words
    assert "and more" not in words


def test_a_sweep_is_of_one_process_each(monkeypatch, capsys):
    study = dataclasses.replace(sgdr.STUDY, jobs=lambda config: [])
    assert stopped(monkeypatch, "auto", study, "--sweep", "list") == launch.USAGE
    assert "leave out --distributed, got 'auto'" in capsys.readouterr().err


def test_a_number_of_devices_of_ones_own_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(hosts, "start", lambda where: None)
    arguments = ("--devices", "2")
    assert stopped(monkeypatch, "auto", sgdr.STUDY, *arguments) == launch.USAGE
    assert "takes all 4 devices" in capsys.readouterr().err


def stopped(monkeypatch, where, study=sgdr.STUDY, *more):
    """The status with which a study's command line ends."""
    words = ["--preset", "smoke", "--distributed", where, *more]
    monkeypatch.setattr(sys, "argv", ["sgdr", *words])
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    with pytest.raises(SystemExit) as stop:
        launch.main(study)
    return stop.value.code
