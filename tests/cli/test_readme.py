"""Every command of the README runs as it stands there, or is one that exists."""

import importlib
import pathlib
import re
import shlex
import subprocess

import pytest

from kd_heuristics import cli

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL))
LINES = [
    line.partition("#")[0] if " #" in line else line
    for line in BLOCKS.replace("\\\n", " ").splitlines()
]
INLINE = re.findall(r"`((?:make|python -m|kd-heuristics) [^`]*)`", TEXT)
COMMANDS = [line.strip() for line in [*LINES, *INLINE] if line.strip()]


def starting(word):
    return sorted({c for c in COMMANDS if c.startswith(word)})


def test_the_tools_run_on_a_users_own_networks(inside):
    """In the order of the README: surface takes what connect wrote."""
    lines = [line.strip() for line in LINES if line.startswith("kd-heuristics")]
    assert [shlex.split(line)[1] for line in lines] == [
        "connect",
        "surface",
        "align",
        "similarity",
        "sharpness",
        "info",
    ]
    for line in lines:
        cli.main(shlex.split(line)[1:])
    assert (inside / "surface" / "figures" / "surface.png").exists()


@pytest.mark.parametrize("command", starting("kd-heuristics"))
def test_a_command_of_the_program_exists(command):
    assert shlex.split(command)[1] in cli.COMMANDS or "--help" in command


@pytest.mark.parametrize("command", starting("make"))
def test_a_target_exists(command):
    done = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize("command", starting("python -m"))
def test_a_study_and_its_preset_exist(command):
    words = shlex.split(command.replace(" | ", "|"))
    if words[2].endswith(".NAME"):
        return
    if "--preset" not in words:
        return
    if words[2] == "experiments.reproduce":
        studies = importlib.import_module(words[2]).STUDIES
    else:
        studies = [importlib.import_module(f"{words[2]}.study").STUDY]
    for word in words[words.index("--preset") + 1].split("|"):
        assert all(word in study.presets for study in studies)


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    missing = [
        link
        for link in links
        if not link.startswith("http") and not (ROOT / link).exists()
    ]
    assert missing == []


def test_every_command_is_of_a_kind_that_is_tested():
    kinds = ("kd-heuristics", "make", "python -m", "KD_HEURISTICS_SINKS=", "pip ")
    assert [c for c in COMMANDS if not c.startswith(kinds)] == []
