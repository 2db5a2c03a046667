"""One version everywhere: the package, its citation, the documentation, notebooks."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


VERSION = tomllib.loads(read("pyproject.toml"))["project"]["version"]


def test_every_place_states_the_version():
    places = {
        "CITATION.cff": rf"^version: {re.escape(VERSION)}$",
        "docs/conf.py": rf'^release = version = "{re.escape(VERSION)}"$',
        "CHANGELOG.md": rf"^## {re.escape(VERSION)}, \d{{4}}-\d\d-\d\d$",
    }
    for place, line in places.items():
        assert re.search(line, read(place), re.M), place


def test_the_citation_has_the_day_of_the_changelog():
    (day,) = re.findall(
        rf"^## {re.escape(VERSION)}, (\S+)$", read("CHANGELOG.md"), re.M
    )
    assert f"date-released: {day}\n" in read("CITATION.cff")


def test_notebooks_and_their_links_are_of_the_version():
    for path in sorted((ROOT / "colab").glob("*.ipynb")):
        text = read(path)
        assert f'TAG = \\"v{VERSION}\\"' in text, path.name
        said = re.findall(r"\bv(\d+\.\d+\.\d+)|kd_heuristics-(\d+\.\d+\.\d+)", text)
        assert {number for pair in said for number in pair if number} == {VERSION}


def test_the_changelog_groups_a_version_and_is_open_for_the_next():
    headings = re.findall(r"^##+ (.+)$", read("CHANGELOG.md"), re.M)
    assert headings[0] == "Unreleased"
    start = next(i for i, title in enumerate(headings) if title.startswith(VERSION))
    assert headings[start + 1 : start + 5] == ["Added", "Changed", "Fixed", "Removed"]
