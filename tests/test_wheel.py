"""The wheel: complete, installs into a clean environment, and is light to import."""

import json
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from kd_heuristics import cli

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


CLAIMS = """
looks = [4]
[helps]
words = "it helps"
kind = "difference"
smallest_effect = 2.0
unit = "points"
main = true
statistic = "gain"
"""
# Files beside the code that it reads.
READ = (
    "report/assets/page.js",
    "report/assets/page.css",
    "data/assets/china.png",
    "cli/__main__.py",
    "py.typed",
)


def pip(*words, python=sys.executable):
    done = subprocess.run(
        [str(python), "-m", "pip", *words, "--disable-pip-version-check", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of the wheel, built from the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "backend", with_pip=True)
    python = folder / "backend" / "bin" / "python"
    pip("install", "hatchling", python=python)
    words = ["-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run([python, *words], cwd=ROOT, check=True)
    (source,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    (found,) = folder.glob("*.whl")
    return found


def test_importing_touches_no_device_no_setting_and_no_tensorflow():
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROBE]))
    assert not found["tensorflow"]
    assert not found["devices"]
    assert found["settings"]


@pytest.mark.long
def test_holds_the_package_and_nothing_else(wheel):
    files = (path for path in (ROOT / "kd_heuristics").rglob("*") if path.is_file())
    ours = {
        str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts
    }
    assert {f"kd_heuristics/{name}" for name in READ} <= ours
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == ours


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
    for name in cli.COMMANDS:
        done = subprocess.run([program, name, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"usage: kd-heuristics {name}" in done.stdout
    _judges(program, tmp_path)
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    (tmp_path / "block.py").write_text(block)
    subprocess.run([python, "block.py"], cwd=tmp_path, check=True)


def _judges(program, folder):
    """A verdict on a table, and its page, whose styles come with the package."""
    (folder / "claims.toml").write_text(CLAIMS)
    rows = [f"{seed},{80 + seed / 10}" for seed in range(4)]
    (folder / "runs.csv").write_text("\n".join(["seed,gain", *rows]))
    words = [program, "judge", "runs.csv", "claims.toml"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "reproduced" in done.stdout
    assert (folder / "verdicts.html").exists()
