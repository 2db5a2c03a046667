"""The lock of a run folder: who holds it is said, and his death releases it."""

import pathlib
import signal
import subprocess
import sys

import pytest

from kd_heuristics import runs
from kd_heuristics.runtime import locks

ROOT = pathlib.Path(__file__).parents[1]
HOLD = """
import pathlib, sys, time
from kd_heuristics.runtime import locks
with locks.lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_told_by_whom(tmp_path, holder):
    with (
        pytest.raises(runs.RunError, match=rf"process {holder.pid} on .*, since 20"),
        runs.RunFolder(tmp_path).lock(),
    ):
        pass
    assert (tmp_path / locks.FILE).exists()


def test_a_killed_holder_locks_nobody_out(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / locks.FILE).exists()
    folder = runs.RunFolder(tmp_path)
    with folder.lock():
        folder.open({"study": "s"})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_lock_whose_holder_wrote_nothing_or_nonsense(tmp_path):
    for content in (b"", b"{", b"[]", b'{"pid": 1}'):
        with locks.lock(tmp_path):
            (tmp_path / locks.FILE).write_bytes(content)
            with pytest.raises(locks.LockedError, match="only just"):
                locks._acquire(tmp_path / locks.FILE)


def test_the_file_taken_away_while_it_was_opened(tmp_path, monkeypatch):
    """The holder removes it between another's opening and locking it."""
    real, found = locks._is, []

    def late(path, descriptor):
        if not found:
            path.unlink()
        found.append(real(path, descriptor))
        return found[-1]

    monkeypatch.setattr(locks, "_is", late)
    with locks.lock(tmp_path):
        assert (tmp_path / locks.FILE).exists()
    assert found == [False, True]
