"""Earlier names: each still works, warns, and has its row in the changelog."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from kd_heuristics.training import settings

ROOT = Path(__file__).parents[1]
# What the earlier names are; today's are looked up by these.
NAMES = {
    "points.crossing": "points.barrier",
    "points.linen_moments": "points.input_moments",
    "points.summary": "points.path_summary",
    "points.exact": "points.refit_exact",
    "points.pooled": "points.refit_pooled",
    "points.cumulative": "points.refit_cumulative",
    "hosts.first": "runtime.hosts.first",
    "parallel.mesh": "runtime.parallel.mesh",
    "surfaces.evaluate": "points.surfaces.evaluate",
}


def look_up(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"kd_heuristics.{module}"), attribute)


def table():
    """The first column of the changelog's table."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.M)
    return " ".join(rows)


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_name_is_todays_and_warns(name):
    words = re.escape(f"kd_heuristics.{name} is deprecated; take kd_heuristics.")
    with pytest.warns(DeprecationWarning, match=words + re.escape(NAMES[name]) + "$"):
        found = look_up(name)
    assert found is look_up(NAMES[name])


@pytest.mark.parametrize("name", ["points.none", "hosts.none"])
def test_an_unknown_name_is_none_of_them(name):
    with pytest.raises(AttributeError, match="has no attribute 'none'"):
        look_up(name)


def test_every_earlier_name_is_tried_and_in_the_changelog():
    declared = set()
    for file in (ROOT / "kd_heuristics").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            parts = file.relative_to(ROOT / "kd_heuristics").with_suffix("").parts
            module = ".".join(part for part in parts if part != "__init__")
            if node.func.id == "moved":
                declared.add(module)
            elif node.func.id == "earlier" and isinstance(node.args[2], ast.Dict):
                declared |= {f"{module}.{key.value}" for key in node.args[2].keys}
    tried = {name if name in declared else name.partition(".")[0] for name in NAMES}
    assert declared == tried
    for name in declared:
        assert name.rpartition(".")[2] in re.findall(r"\w+", table()), name


def test_every_earlier_keyword_of_fit_is_in_the_changelog():
    for name in settings.EARLIER:
        assert f"{name}=" in table(), name
