"""The wheel: complete, installs into a clean environment, and is light to import."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Importing every public module, beside what jax, flax and optax cost by themselves.
PROBE = """
import json, sys, time
start = time.perf_counter()
import flax, jax, optax
middle = time.perf_counter()
settings = dict(jax.config.values)
from kd_heuristics import checkpoints, curves, data, distill, freezing, landscape
from kd_heuristics import models, points, schedules, similarity, training
from kd_heuristics.points import surfaces
end = time.perf_counter()
from jax._src import xla_bridge
print(json.dumps({
    "theirs": middle - start,
    "ours": end - middle,
    "tensorflow": "tensorflow" in sys.modules,
    "devices": xla_bridge.backends_are_initialized(),
    "settings": settings == dict(jax.config.values),
    "file": checkpoints.__file__,
}))
"""


def pip(*words, python=sys.executable):
    done = subprocess.run(
        [str(python), "-m", "pip", *words, "--disable-pip-version-check", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of the wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (found,) = folder.glob("*.whl")
    return found


def test_importing_touches_no_device_no_setting_and_no_tensorflow():
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROBE]))
    assert not found["tensorflow"]
    assert not found["devices"]
    assert found["settings"]


@pytest.mark.long
def test_holds_what_the_code_reads_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "kd_heuristics/report/assets/page.js",
        "kd_heuristics/report/assets/page.css",
        "kd_heuristics/data/assets/china.png",
        "kd_heuristics/cli/__main__.py",
    ):
        assert name in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kd_heuristics"}


@pytest.mark.long
def test_in_a_clean_environment(wheel, tmp_path):
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    pip("install", str(wheel), python=python)
    # The second run has its files in the page cache and its bytecode written.
    for _ in range(2):
        out = subprocess.check_output([str(python), "-c", PROBE], cwd=tmp_path)
    found = json.loads(out)
    assert str(tmp_path) in found["file"]
    assert not found["tensorflow"]
    program = tmp_path / "clean" / "bin" / "kd-heuristics"
    info = subprocess.run([program, "info"], capture_output=True, text=True)
    assert info.returncode == 0, info.stderr
    assert "digits_photo: comes with the package" in info.stdout
    print(f"import: {found['theirs']:.2f} s theirs, {found['ours']:.2f} s ours")
