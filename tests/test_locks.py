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


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"pid": 1}'])
def test_a_lock_whose_holder_wrote_nothing_or_nonsense(tmp_path, content):
    with locks.lock(tmp_path):
        owner = tmp_path / locks.OWNER
        owner.unlink() if content is None else owner.write_bytes(content)
        with (
            pytest.raises(locks.LockedError, match="only just"),
            locks.lock(tmp_path),
        ):
            pass
    assert not [*tmp_path.iterdir()]


COUNT = """
import pathlib, sys
from kd_heuristics.runtime import locks
folder, count = pathlib.Path(sys.argv[1]), 0
while count < 50:
    try:
        with locks.lock(folder):
            inside = folder.parent / "inside"
            inside.mkdir()  # fails while another is inside
            inside.rmdir()
            count += 1
    except locks.LockedError:
        pass
"""


def test_one_at_a_time_while_the_file_comes_and_goes(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", COUNT, str(folder)]
    started = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert not [*folder.iterdir()]
