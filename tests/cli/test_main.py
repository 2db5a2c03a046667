import subprocess
import sys
from pathlib import Path

import pytest

from kd_heuristics import cli
from kd_heuristics.cli import prepare
from kd_heuristics.data.prepare import PrepareError


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def test_help_names_the_commands(capsys):
    assert run("--help") == 0
    assert "prepare" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [(), ("prepar", "cifar10"), ("prepare",), ("prepare", "a", "b")]
)
def test_wrong_usage_is_status_2(arguments):
    assert run(*arguments) == 2


@pytest.mark.parametrize(
    ("name", "nearest"), [("cifar11", "cifar10"), ("cifar_100", "cifar100")]
)
def test_an_unknown_name_is_status_2_and_the_nearest(name, nearest, capsys):
    assert run("prepare", name) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: unknown dataset")
    assert f"did you mean {nearest!r}?" in captured.err


def test_prepare_passes_its_arguments_on(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(
        prepare,
        "prepare_set",
        lambda *arguments, source: calls.append((*arguments, source)),
    )
    cli.main(["prepare", "cifar10"])
    cli.main(["prepare", "cifar100", "--data-dir", str(tmp_path)])
    cli.main(["prepare", "fashion_mnist", "--from", str(tmp_path)])
    assert calls == [
        ("cifar10", None, None),
        ("cifar100", tmp_path, None),
        ("fashion_mnist", None, tmp_path),
    ]


def test_idx_files_of_another_set_are_status_2(tmp_path, capsys):
    assert run("prepare", "cifar10", "--from", str(tmp_path)) == 2
    assert "--from takes the IDX files of fashion_mnist" in capsys.readouterr().err


def test_a_failure_is_status_1_and_its_words(monkeypatch, capsys):
    def fail(*_, **__):
        raise PrepareError("no such network")

    monkeypatch.setattr(prepare, "prepare_set", fail)
    assert run("prepare", "cifar10") == 1
    assert capsys.readouterr().err == "error: no such network\n"


def test_a_warning_is_one_plain_line():
    script = (
        "import warnings\n"
        "from kd_heuristics import cli\n"
        "def warn():\n"
        "    'Warn.'\n"
        "    warnings.warn('the surface is another', stacklevel=1)\n"
        "cli.command = lambda name: warn\n"
        "cli.main(['info'])\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stderr == "warning: the surface is another\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_line_of_a_command_is_the_first_of_its_help(name):
    first, *_ = (cli.command(name).__doc__ or "").splitlines()
    assert cli.COMMANDS[name] == first


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["kd_heuristics.cli", "--help"], "jax|numpy|scipy|matplotlib|tyro"),
        (["experiments.sgdr", "--help"], "scipy.stats|scipy.optimize|matplotlib"),
    ],
)
def test_help_comes_without_what_it_does_not_need(words, unneeded):
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "argparse" in imported or "contextlib" in imported
    assert not {*unneeded.split("|")} & imported


def test_as_a_process():
    found = subprocess.run(
        [sys.executable, "-m", "kd_heuristics.cli", "prepare", "cifar"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "did you mean" in found.stderr
    assert "Traceback" not in found.stderr


def test_no_command_raises_a_plain_value_error():
    """Such an error would end in a traceback, not in one line: take InputError."""
    for file in Path(cli.__file__).parent.glob("*.py"):
        assert "raise ValueError" not in file.read_text(encoding="utf-8"), file
