"""Run folders from anywhere: the page escapes all of them, and nothing runs."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import report, runs
from kd_heuristics.report import pictures
from tests.report import folders

NASTY = "<script>alert('x')</script>\"'&{0}{title}%s"
HOSTILE = st.recursive(
    st.one_of(st.just(NASTY), st.text(max_size=5), st.integers(), st.none()),
    lambda inside: st.one_of(
        st.lists(inside, max_size=2),
        st.dictionaries(st.just(NASTY) | st.text(max_size=4), inside, max_size=2),
    ),
    max_leaves=4,
)


def claim(text):
    return {
        "key": text,
        "words": text,
        "kind": "difference",
        "main": False,
        "smallest_effect": 0.1,
        "unit": text,
        "paper": None,
        "values": [1.0],
        "later_values": [],
        "failed": [],
        "mean": None,
        "interval": None,
        "level": 0.05,
        "look": None,
        "seeds_needed": None,
        **dict.fromkeys(
            ("verdict", "verdict_at_half", "verdict_at_twice"), "inconclusive"
        ),
    }


def write(folder, described, results=None, environment=None, error=None):
    folder.mkdir(parents=True)
    files = {
        "config.json": described,
        "results.json": results,
        "environment.json": environment,
        "error.json": error,
    }
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("kind", [KeyError, ValueError, TypeError, AttributeError])
@pytest.mark.parametrize("place", ["section.html", "verdicts.claims_table"])
def test_a_bug_of_ours_is_no_damaged_file(tmp_path, monkeypatch, kind, place):
    def broken(*args, **options):
        raise kind("ours")

    write(tmp_path / "a", {"question": "", "config": {}}, {"claims": [claim("x")]})
    monkeypatch.setattr(f"kd_heuristics.report.{place}", broken)
    with pytest.raises(kind, match="ours"):
        report.write(tmp_path)


@pytest.mark.parametrize("kind", [KeyError, ValueError, TypeError, AttributeError])
def test_a_bug_in_drawing_is_no_damaged_figure(tmp_path, monkeypatch, kind):
    def broken(*args):
        raise kind("ours")

    folders.write(tmp_path, ["sgdr"])
    monkeypatch.setattr(pictures.live, "panels", broken)
    with pytest.raises(kind, match="ours"):
        report.write(tmp_path)


@pytest.mark.parametrize("name", ["words", "paper", "values", "verdict", "interval"])
@pytest.mark.parametrize("value", [None, 3, [3, 4, 5], {"a": 1}, 10**400, NASTY])
def test_a_claim_of_another_form_is_named(tmp_path, name, value):
    fine = {"paper": (None, 3), "interval": (None,), "words": (NASTY,)}
    fine |= {"values": ([3, 4, 5],)}
    config = {"config": {}, "format": runs.FORMAT}
    write(tmp_path / "a", config, {"claims": [claim("x") | {name: value}]})
    missing = {key: part for key, part in claim("x").items() if key != name}
    write(tmp_path / "b", config, {"claims": [missing]})
    page = report.write(tmp_path).read_text(encoding="utf-8")
    damaged = page.count(
        "results.json is damaged, or no run wrote it: &#x27;claims&#x27;"
    )
    assert damaged == (1 if any(value == good for good in fine.get(name, ())) else 2)


PROTOCOL = ("field", "paper", "source", "ours", "status")


@pytest.mark.parametrize(
    "rows",
    [
        3,
        {},
        ["epochs"],
        [dict.fromkeys(PROTOCOL, 1)],
        [dict.fromkeys(PROTOCOL[1:], "x")],
    ],
)
def test_a_protocol_of_another_form_is_named(tmp_path, rows):
    write(tmp_path / "a", {"config": {}, "protocol": rows}, {"claims": []})
    write(tmp_path / "b", {"config": {}, "protocol": []}, {"claims": []})
    page = report.write(tmp_path).read_text(encoding="utf-8")
    words = "config.json is damaged, or no run wrote it: &#x27;protocol&#x27;"
    assert page.count(words) == 1


def test_half_a_surrogate_is_shown(tmp_path):
    write(tmp_path / "a", {"question": "\ud800?", "config": {"x": "\udfff"}})
    assert '<p class="question">??</p>' in report.write(tmp_path).read_text("utf-8")


def test_every_string_is_escaped(tmp_path):
    described = {
        "study": NASTY,
        "question": NASTY,
        "config": {NASTY: NASTY, "list": [NASTY, {NASTY: NASTY}]},
        "paper_preset": NASTY,
        "deviations": {NASTY: [NASTY, {NASTY: NASTY}]},
        "protocol": [dict.fromkeys(PROTOCOL, NASTY)],
        **dict.fromkeys(("headline", "paper", "figure", "subject"), NASTY),
        **{name: [NASTY] for name in ("answers", "controls")},
    }
    described["config"] |= {"model": NASTY, "dataset": [NASTY], "looks": [NASTY]}
    entry = {
        "command": NASTY,
        "devices": [NASTY],
        "cpu_cores": NASTY,
        "versions": {NASTY: NASTY, "jax": NASTY},
        "git_commit": NASTY,
        "seconds": 1.0,
    }
    environment = {"resumes": NASTY, "invocations": [entry]}
    error = {"error": NASTY, "message": NASTY, "traceback": NASTY}
    write(tmp_path / "a<b>", described, {"claims": [claim(NASTY)]}, environment)
    write(tmp_path / "c", described, None, environment, error)
    figures = tmp_path / "a<b>" / "figures"
    figures.mkdir()
    (figures / "<img src=x>.png").write_bytes(b"no image")
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "alert(&#x27;x&#x27;)" in page
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert "The file of this figure is damaged" in page


@settings(derandomize=True, deadline=None, max_examples=150)
@given(described=HOSTILE, results=HOSTILE, environment=HOSTILE, error=HOSTILE)
def test_whatever_the_files_hold_there_is_a_page(
    tmp_path_factory, described, results, environment, error
):
    """Bounded fuzzing; what is no run's is said and hides no other study."""
    root = tmp_path_factory.mktemp("fuzz")
    write(root / "study", described, results, environment, error)
    write(root / "other", {"question": "fine?", "config": {}})
    page = report.write(root).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "fine?" in page


@pytest.mark.parametrize("name", ["arrays.npz", "stages/a.npz"])
@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data())
def test_npz_files_are_read_or_refused(tmp_path_factory, name, data):
    """Bounded fuzzing of the bytes of a real file: never other numbers."""
    folder = runs.RunFolder(tmp_path_factory.mktemp("npz"))
    arrays = {"x": np.arange(5.0), "layers": np.array(["a", "b"])}
    folder.save_arrays(name, arrays)
    path = folder.path / name
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = folder.load_arrays(name)
    except runs.RunError:
        return
    for key, array in found.items():
        np.testing.assert_array_equal(array, arrays[key])
