"""The pages of docs/tools list all that is public, and their examples run."""

import importlib
import pathlib
import re

import pytest

from kd_heuristics import cli

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGES = {page.stem: page.read_text() for page in sorted((DOCS / "tools").glob("*.md"))}
TABLES = {
    name: section
    for text in PAGES.values()
    for name, section in re.findall(
        r"^## Functions of `(.+?)`\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
}
EXAMPLES = {
    stem: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for stem, text in PAGES.items()
    for section in re.findall(
        r"^## Worked example\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
}
NOT_ALONE = {"alignment"}  # its example is of two trained networks, see the page


def public(name):
    """What a module offers; without `__all__`, what it defines."""
    module = importlib.import_module(name)
    own = [
        key
        for key, value in vars(module).items()
        if key[0] != "_" and getattr(value, "__module__", None) == name
    ]
    return getattr(module, "__all__", own)


def listed(section):
    return re.findall(r"^\| `([a-zA-Z_0-9]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_lists_what_its_module_offers(name):
    assert sorted(listed(TABLES[name])) == sorted(public(name))


def test_every_page_of_tools_has_a_table_and_an_example():
    assert [stem for stem, text in PAGES.items() if "\n| " not in text] == []
    assert sorted(EXAMPLES) == sorted(PAGES)
    of_tables = {name.split(".")[1] for name in TABLES}
    assert {*PAGES} - {"cli"} <= of_tables


def test_the_page_of_the_command_line_lists_its_commands():
    assert listed(PAGES["cli"]) == [*cli.COMMANDS]


@pytest.mark.parametrize(
    "stem", [s for s, found in EXAMPLES.items() if found and s not in NOT_ALONE]
)
def test_an_example_runs(stem):
    scope: dict = {"__name__": stem}
    for block in EXAMPLES[stem]:
        exec(compile(block, f"{stem}.md", "exec"), scope)


def test_a_page_reads_without_being_built():
    """No directive, and every link leads to a file or a heading."""
    wrong = []
    for page in sorted(DOCS.rglob("*.md")):
        if "_build" in page.parts:
            continue
        text = page.read_text()
        wrong += [(page.name, its) for its in re.findall(r"(?:```|:::)\{\S+", text)]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if link.startswith("http"):
                continue
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append((page.name, link))
    assert wrong == []


def anchors(page):
    """The anchors of a page's headings, as code hosts name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles]
