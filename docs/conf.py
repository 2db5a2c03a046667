"""Sphinx: pages in Markdown, the reference from the docstrings; warnings are errors."""

import re

project = "kd_heuristics"
author = "The kd_heuristics developers"
project_copyright = author
release = version = "0.1.0"

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


def _as_markdown(app, what, name, obj, options, lines):
    """Keeps what reads as plain text in a docstring from being markup in RST."""
    del app, what, name, obj, options
    literal = False
    for index, line in enumerate(lines):
        if literal and line and not line.startswith(" "):
            literal = False
        if line.startswith((">>>", "...")):
            literal = True
            continue
        if not literal:
            lines[index] = re.sub(r"(?<!`)[|*](?![^`]*`[^`]*$)", r"\\\g<0>", line)


def setup(app):
    """Called by Sphinx."""
    # After napoleon, which has turned Args into fields by then.
    app.connect("autodoc-process-docstring", _as_markdown, priority=900)
