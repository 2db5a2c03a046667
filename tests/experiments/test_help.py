"""`--help` of every study: each field its own words, none of a neighbour's."""

import dataclasses
import re
import sys

import pytest

from experiments import reproduce
from experiments.common import launch

PRESETS = [(study, preset) for study in reproduce.STUDIES for preset in study.presets]


def described(text):
    """`{"--flag": words}` of a help text, without the defaults."""
    found, flag = {}, None
    for line in text.replace("│", " ").splitlines():
        if not line.startswith("  "):
            flag = None  # a panel's title and words
            continue
        line = line.strip()
        start = re.match(r"(?:-\w, )?(--[a-z][\w.-]*)(?:[^ ]| (?! ))*(.*)", line)
        if start:
            flag = start.group(1)
            found[flag] = start.group(2).strip()
        elif flag is not None:
            found[flag] += f" {line}"
    return {
        flag: re.sub(r"\((default|fixed to|repeatable).*", "", words).strip()
        for flag, words in found.items()
    }


def flags(config, prefix=""):
    """The flags of a config's fields, through the dataclasses in it."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from flags(value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            for index, part in enumerate(value):
                yield from flags(part, f"{prefix}{name}.{index}.")
        else:
            yield f"--{prefix}{name}"


@pytest.mark.parametrize(
    ("study", "preset"), PRESETS, ids=[f"{s.name}-{p}" for s, p in PRESETS]
)
def test_each_field_has_words_of_its_own(study, preset, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [study.name, "--preset", preset, "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        launch.main(study)
    found = described(capsys.readouterr().out)
    assert {*flags(study.presets[preset])} <= {*found}
    groups = {}
    for flag, words in found.items():
        assert re.search(r"[A-Za-z]{3}", words), f"{flag} has no words"
        assert not words.endswith(","), f"{flag} has half a sentence: {words}"
        groups.setdefault(flag.rpartition(".")[0], []).append(words)
    for words in groups.values():
        assert len({*words}) == len(words), sorted(
            w for w in words if words.count(w) > 1
        )
