"""Sphinx: pages in Markdown, the reference from docstrings; warnings are errors."""

import re

from kd_heuristics import cli

project = "kd_heuristics"
author = "The kd_heuristics developers"
project_copyright = author
release = version = "0.2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "kd_heuristics"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository
default_role = "code"  # our docstrings write `code` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and types are in the words
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _as_rst(app, what, name, obj, options, lines):
    """Our docstrings, which are plain text, as the RST that napoleon goes on with."""
    del app, what, name, obj, options
    found, in_section = [], False
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        in_section |= bool(_SECTION.match(first))
        if _INLINE.match(first):
            paragraph = [line.strip() for line in paragraph]  # "Returns: ..." goes on
        elif not in_section and first.startswith((" ", "|")):
            found += ["::", "", *("    " + line for line in paragraph), ""]
            continue
        if not first.lstrip().startswith(">>>"):
            paragraph = [_plain(line) for line in _parted(paragraph, in_section)]
        found += [*paragraph, ""]
    lines[:] = found


_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
_INLINE = re.compile(r"(Returns|Raises|Warns|Yields): ")


def _paragraphs(lines):
    """Runs of lines without a blank one."""
    run = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line)
        elif run:
            yield run
            run = []


def _parted(paragraph, in_section):
    """A blank line where text goes on after an indented part, as RST wants it."""
    found = []
    lone = len([line for line in paragraph if line.startswith("- ")]) == 1
    for line in paragraph:
        if lone and line.startswith("- "):
            line = "\\" + line  # a minus, no list
        before = found[-1] if found else ""
        if not in_section and before.startswith(" ") and not line.startswith(" "):
            found.append("")
        found.append(line)
    return found


def _plain(line):
    """Without the markup that a bar or a star would be; what is in backticks stays."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(
        p if p.startswith("`") else re.sub(r"[|*]", r"\\\g<0>", p) for p in parts
    )


# What only built pages have, so that code hosts show no directives: the menu, and the
# reference below each table of functions.
_MENU = """
```{toctree}
:hidden:
:glob:
:caption: Studies

results
designs
protocols
own_*
misleading
guides/verdicts
guides/study
guides/own_loop
```

```{toctree}
:hidden:
:glob:
:caption: Guides

landscape
guides/conv
guides/svcca
guides/surface
hardware
hosts
robustness
```

```{toctree}
:hidden:
:glob:
:caption: Tools

tools/*
```
"""
_ELSEWHERE = {  # listed by the module that defines them
    "kd_heuristics.points.surfaces": "Surface",
    "kd_heuristics.report": "Claim, judge, judge_all, summary",
}


def _with_reference(app, name, source):
    del app
    if name == "index":
        source[0] += _MENU
    lines = []
    for module in re.findall(r"^## Functions of `(.+)`$", source[0], re.MULTILINE):
        lines += [f".. automodule:: {module}", "   :members:"]
        if module in _ELSEWHERE:
            lines.append(f"   :exclude-members: {_ELSEWHERE[module]}")
        lines.append("")
    if name == "tools/cli":
        lines += [".. automodule:: kd_heuristics.cli", "   :no-members:", ""]
        for command in map(cli.command, cli.COMMANDS):
            lines.append(f".. autofunction:: {command.__module__}.{command.__name__}")
    if lines:
        lines = ["", "## Reference", "", "```{eval-rst}", *lines, "```", ""]
        source[0] += "\n".join(lines)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _with_reference)
    app.connect("autodoc-process-docstring", _as_rst, priority=400)  # before napoleon
