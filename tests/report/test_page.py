"""The page: what it shows of finished, failed, unfinished and hostile run folders."""

import json

import pytest

from kd_heuristics import report, runs

CLAIM = report.Claim(
    statement="<script>alert(1)</script>",
    statistic="x",
    direction="above",
    smallest_effect=0.0,
    margin=0.1,
    unit="nats",
    paper=0.5,
)


def folder(root, name):
    run = runs.RunFolder(root / name)
    run.open({"study": name, "question": "why & how?", "config": {"a": "<b>"}})
    run.begin()
    return run


def test_shows_claims_errors_and_what_is_unfinished_and_escapes_all(tmp_path):
    done = folder(tmp_path, "done")
    done.write_json("results.json", {"claims": [report.judge(CLAIM, [1.0, 1.1, 0.9])]})
    failed = folder(tmp_path, "failed")
    error = {"error": "NonFiniteError", "message": "<img>", "traceback": "a < b"}
    failed.write_json("error.json", error)
    folder(tmp_path, "unfinished")
    page = report.write(tmp_path).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<td class=good>reproduced</td>" in page
    assert "<td>1 [0.752, 1.25]</td><td>0.5</td>" in page
    assert "NonFiniteError: &lt;img&gt;" in page
    assert "a &lt; b" in page
    assert "Not finished" in page
    assert "why &amp; how?" in page
    assert page.count("<section") == 3


def test_no_run_folder_is_an_error(tmp_path):
    with pytest.raises(runs.RunError, match="no run folder"):
        report.write(tmp_path)


def test_what_the_preset_changed_is_shown(tmp_path):
    run = runs.RunFolder(tmp_path / "study")
    run.open({"config": {}, "deviations": {"peak_rate": (0.02, 0.05)}})
    run.write_json("results.json", {"claims": []})
    page = report.write(tmp_path).read_text()
    assert "<td>peak_rate</td><td>0.02</td><td>0.05</td>" in page
    assert json.loads((run.path / "config.json").read_text())["deviations"]
