"""Sweeps: jobs by index, what failed, what was never run; on Ray."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import pytest

from experiments.common import launch, records, running, sweep
from experiments.funmatch import study as funmatch
from kd_heuristics import runs
from tests.experiments.nothing import make


def test_jobs_run_by_index_and_are_gathered(tmp_path):
    found = make(tmp_path)
    for index in (0, 1, 4, 5):
        found.run(index)
    with pytest.raises(RuntimeError, match="value 3 made it fail"):
        found.run(3)
    assert [found.state(index) for index in range(5)] == [
        "done",
        "done",
        "missing",
        "failed",
        "done",
    ]
    gathered = make(tmp_path).gather()  # by another process, say
    assert gathered == json.loads((tmp_path / "sweep.json").read_text())
    assert gathered["count"] == {"done": 4, "failed": 1, "missing": 3}
    assert gathered["jobs"][3]["message"] == "value 3 made it fail"
    best = {group: row["index"] for group, row in gathered["best"].items()}
    assert best == {"even": 4, "odd": 5}


def test_a_finished_job_is_not_run_again_and_a_failed_one_is(tmp_path):
    make(tmp_path).run(0)
    make(tmp_path).run(0)  # would fail: the file is there
    with pytest.raises(RuntimeError):
        make(tmp_path).run(3)
    # As after the cause is mended; its description is another, so its folder stays.
    mended = make(tmp_path, failing=None)
    with pytest.raises(Exception, match="holds a run of another configuration"):
        mended.run(3)
    assert mended.state(3) == "failed"


def test_a_job_that_other_code_did_is_not_taken_for_done(tmp_path):
    found = make(tmp_path, count=2, failing=None)
    found.run(0)
    found.run(1)
    record = found.folder(1) / records.CODE
    code = json.loads(record.read_text())
    record.write_text(json.dumps(code | {"experiments.common.task": "before a mend"}))
    again = make(tmp_path, count=2, failing=None)
    assert [again.state(index) for index in (0, 1)] == ["done", "outdated"]
    with pytest.raises(
        runs.CodeChangedError, match=r"differ: experiments\.common\.task\."
    ):
        again.run(1)
    gathered = again.gather()
    assert gathered["count"] == {"done": 1, "outdated": 1}
    assert gathered["best"]["odd"] is None
    accepting = dataclasses.replace(again, on_other_code="accept")
    assert accepting.gather()["best"]["odd"]["index"] == 1
    (found.folder(1) / "computed").unlink()
    dataclasses.replace(again, on_other_code="recompute").run(1)
    assert (found.folder(1) / "computed").exists()
    assert again.state(1) == "done"


def test_a_job_that_fails_before_it_begins_is_recorded(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no disk")

    monkeypatch.setattr(running, "run", refuse)
    with pytest.raises(OSError, match="no disk"):
        make(tmp_path).run(0)
    monkeypatch.undo()
    assert make(tmp_path).gather()["jobs"][0]["error"] == "OSError"
    make(tmp_path).run(0)
    assert make(tmp_path).state(0) == "done"


def test_a_second_start_leaves_a_running_job_alone(tmp_path):
    job = make(tmp_path)
    with (
        runs.RunFolder(job.folder(0)).lock(),
        pytest.raises(runs.InUseError, match="is in use by process"),
    ):
        job.run(0)
    assert job.state(0) == "missing"
    job.run(0)
    assert job.state(0) == "done"


def test_a_second_start_keeps_the_error_of_a_failed_job(tmp_path):
    job = make(tmp_path)
    with pytest.raises(RuntimeError):
        job.run(3)
    with runs.RunFolder(job.folder(3)).lock(), pytest.raises(runs.InUseError):
        job.run(3)
    assert job.state(3) == "failed"


def test_a_group_without_any_result_has_no_best(tmp_path):
    assert make(tmp_path, count=1).gather()["best"] == {"even": None}


def test_the_command(tmp_path, capsys):
    own = functools.partial(make, tmp_path, 2, None)
    sweep.command(own, "1")
    sweep.command(own, "list")
    printed = capsys.readouterr().out
    assert "2 jobs" in printed
    assert "missing    even" in printed
    assert "done       odd" in printed
    with pytest.raises(SystemExit):
        sweep.command(own, "gather")  # one is missing
    sweep.command(own, "0")
    sweep.command(own, "gather")
    assert '{"done": 2}' in capsys.readouterr().out
    with pytest.raises(
        ValueError, match=r"list, gather, ray or the index .* got 'all'"
    ):
        sweep.command(own, "all")
    with pytest.raises(ValueError, match=r"the jobs 0\.\.1, got 2"):
        sweep.command(own, "2")


def test_ray_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"kd_heuristics\[sweep\]"):
        sweep.on_ray(functools.partial(make, tmp_path))


def test_the_command_line_knows_sweeps(monkeypatch, tmp_path, capsys):
    from experiments.funmatch import study as funmatch

    words = ["funmatch", "--preset", "smoke", "--workdir", str(tmp_path / "funmatch")]
    monkeypatch.setattr(sys, "argv", [*words, "--sweep", "list"])
    launch.main(funmatch.STUDY)
    printed = capsys.readouterr().out
    # two arms at two lengths with 80 points
    assert printed.startswith(f"320 jobs, in {tmp_path / 'funmatch-sweep'}")


@pytest.mark.long
def test_eight_jobs_on_a_local_ray_cluster(tmp_path):
    # In a process of its own: Ray forks, which JAX's threads of this one do not bear.
    root = pathlib.Path(__file__).parents[2]
    script = f"from tests.experiments import nothing; nothing.on_ray({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["count"] == {"done": 7, "failed": 1}
    assert found["jobs"][3]["message"] == "value 3 made it fail"
    assert found["best"]["odd"]["index"] == 5


@pytest.mark.parametrize(
    ("word", "status", "words"),
    [
        ("0", 0, "funmatch smoke, job 0"),
        ("320", 2, r"the sweep has the jobs 0..319, got 320; --sweep list names them"),
        ("list", 2, "--plan takes --sweep with the index of a job, got 'list'; leave"),
    ],
)
def test_the_plan_of_a_job(word, status, words, tmp_path, monkeypatch, capsys):
    arguments = ["--preset", "smoke", "--workdir", str(tmp_path / "run"), "--plan"]
    monkeypatch.setattr(sys, "argv", ["funmatch", *arguments, "--sweep", word])
    try:
        launch.main(funmatch.STUDY)
        found = 0
    except SystemExit as stop:
        found = stop.code
    said = capsys.readouterr()
    assert found == status
    assert words in said.out + said.err
    assert ("fix-cc@2" in said.out) == (status == 0)
    assert "mix@" not in said.out
    assert not list(tmp_path.iterdir())
