"""Every command and every option that the documentation names exists."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from experiments import reproduce
from kd_heuristics import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
STARTS = ("kd-heuristics ", "python -m ", "make ")
OTHERS = {"--array", "--minutes"}  # of sbatch and of tests.faults.soak


def commands(text):
    """What a page tells its reader to type, one line each."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^ *```(?:bash|sh)\n(.*?)```", text, re.DOTALL | re.M)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    lines += re.findall(r"^ {4,}(\S.*)$", prose, re.M)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    lines = [re.sub(r"\s# .*", "", line).strip() for line in lines]
    lines = [re.sub(r"^(\w+=\S+ )+|^srun .*?(?=python)", "", line) for line in lines]
    return [line for line in lines if line.startswith(STARTS)]


COMMANDS = sorted(
    {(page.name, line) for page in PAGES for line in commands(page.read_text())}
)


def helped(call, capsys):
    """The options in a program's help."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        call()
    assert stop.value.code in (0, None)
    return {*re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out)}


@pytest.fixture
def options(monkeypatch, capsys):
    """`options(program)`: of a command, or of a module with a command line."""
    monkeypatch.setenv("COLUMNS", "200")

    def options(program):
        name = program.split()[-1]
        if program.startswith("kd-heuristics"):
            return helped(lambda: cli.main([name, "--help"]), capsys)
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        if hasattr(module, "study"):
            study = importlib.import_module(f"{name}.study").STUDY
            launch = importlib.import_module("experiments.common.launch")
            return helped(lambda: launch.main(study), capsys)
        return helped(module.main, capsys) if hasattr(module, "main") else set()

    return options


def program(line):
    """`kd-heuristics NAME` or `python -m MODULE`; None where a page names none."""
    words = shlex.split(line.replace("...", " "))
    count = 2 if words[0] == "kd-heuristics" else 3
    name = words[count - 1]
    return (
        None
        if name.startswith("-") or name.split(".")[-1].isupper()
        else " ".join(words[:count])
    )


@pytest.mark.parametrize(
    ("page", "line"), [c for c in COMMANDS if c[1].startswith("make ")]
)
def test_a_target_exists(page, line):
    target = line.split()[1]
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert target in known, page


@pytest.mark.parametrize(
    "found", sorted({program(c[1]) for c in COMMANDS if c[1][0] != "m"} - {None})
)
def test_a_program_has_the_options_that_pages_give_it(found, options):
    lines = [line for _, line in COMMANDS if line[0] != "m" and program(line) == found]
    name = found.split()[-1]
    if found.startswith("kd-heuristics"):
        assert name in cli.COMMANDS
    else:
        assert importlib.util.find_spec(name), name
    given = {word for line in lines for word in re.findall(r" (--[a-z][\w.-]*)", line)}
    if given:
        assert given - options(found) == set()


def test_a_preset_of_a_command_exists():
    for page, line in COMMANDS:
        words = line.split()
        if "--preset" not in words or program(line) is None:
            continue
        (name,) = [study for study in reproduce.STUDIES if study.name in line] or [None]
        studies = reproduce.STUDIES if name is None else [name]
        preset = words[words.index("--preset") + 1]
        assert any(preset in study.presets for study in studies), (page, line)


def test_every_option_in_the_text_exists(options):
    programs = [f"kd-heuristics {name}" for name in cli.COMMANDS]
    modules = ["reproduce", "results", "funmatch.tables", "warmup.sweep"]
    modules += [study.name for study in reproduce.STUDIES]
    programs += [f"python -m experiments.{name}" for name in modules]
    known = set().union(*map(options, programs)) | OTHERS
    wrong = {
        (page.name, word)
        for page in PAGES
        for code in re.findall(r"`([^`\n]*--[^`]*)`", page.read_text())
        for word in re.findall(r"(?<!\S)(--[a-z][\w.-]*)", code)
        if word not in known
    }
    assert wrong == set()
