"""The documentation builds, and a warning is an error."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.long
def test_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="extra [docs]")
    pytest.importorskip("myst_parser", reason="extra [docs]")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", DOCS, tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "tools" / "curves.html").read_text()
    assert "kd_heuristics.curves.bezier" in page


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text()
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    built = {page for page in pages if page.parts[0] == "_build"}
    missing = [
        str(p) for p in pages - built if str(p) not in index and str(p) != "index"
    ]
    assert missing == []
