"""The page: what it shows of finished, failed, unfinished and hostile run folders."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from kd_heuristics import report, runs

CLAIM = report.Claim(
    key="x",
    words="<script>alert(1)</script>",
    kind="difference",
    smallest_effect=0.1,
    unit="nats",
    paper=0.5,
)


OPENING = {
    "headline": "Is <it>?",
    "question": "why & how?",
    "paper": "Someone & others",
    "answers": ["barrier"],
    "figure": "figure2",
}


def folder(root, name):
    run = runs.RunFolder(root / name)
    run.open({"study": name, **OPENING, "config": {"a": "<b>"}})
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
    assert '<span class="badge good">reproduced</span>' in page
    assert "<td>1 nats [0.752, 1.25]</td><td>0.5 nats</td>" in page
    assert "NonFiniteError: &lt;img&gt;" in page
    assert "a &lt; b" in page
    assert "Not finished" in page
    assert "why &amp; how?" in page
    assert [page.count(f'<section id="{n}"') for n in ("done", "failed")] == [1, 1]


@pytest.mark.parametrize(("found", "words"), [(None, "no format"), (1, "format 1")])
def test_a_folder_of_another_format_is_said_to_be_and_shown(tmp_path, found, words):
    done = folder(tmp_path, "done")
    done.write_json("results.json", {"claims": [report.judge(CLAIM, [1.0, 1.1, 0.9])]})
    assert "format" not in report.write(tmp_path).read_text().partition("<main>")[2]
    described = done.read_json("config.json") | {"format": found}
    done.write_json("config.json", described)
    page = report.write(tmp_path).read_text()
    assert f"The run folder has {words}, this version's is {runs.FORMAT}" in page
    assert '<span class="badge good">reproduced</span>' in page
    assert "why &amp; how?" in page


def test_a_still_image_has_the_pixels_of_the_figure(tmp_path):
    run = folder(tmp_path, "done")
    run.write_json("results.json", {"claims": []})
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 30, 4), np.uint8) | [0, 0, 0, 255]
    (run.path / "figures").mkdir()
    Image.fromarray(pixels.astype(np.uint8)).save(run.path / "figures" / "noise.png")
    page = report.write(tmp_path).read_text()
    # In the opening and in the section.
    (data,) = {*re.findall(r'src="data:image/webp;base64,([^"]*)"', page)}
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels[..., :3])


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


def test_what_other_code_made_and_was_accepted_is_shown(tmp_path):
    run = folder(tmp_path, "done")
    run.write_json("results.json", {"claims": []})
    assert "other code" not in report.write(tmp_path).read_text()
    record = run.read_json("environment.json")
    record["invocations"][-1]["accepted_code"] = {"stages/<a>": ["mine.b", "mine.c"]}
    run.write_json("environment.json", record)
    page = report.write(tmp_path).read_text()
    assert "Made by other code, and accepted: 1 of its parts." in page
    assert "<td>stages/&lt;a&gt;</td><td>mine.b, mine.c</td>" in page


def test_an_expected_study_without_a_run_leaves_a_line_with_its_command(tmp_path):
    for name in ("a", "b"):
        folder(tmp_path, name).write_json("results.json", {"claims": []})
    expected = [{**OPENING, "study": name} for name in ("b", "<c>")]
    page = report.write(tmp_path, expected).read_text()
    assert re.findall(r'<section id="(.*?)"', page) == ["b", "a", "reading"]
    assert page.count("<h2>Is &lt;it&gt;?</h2>") == 3
    assert page.count("No run of it here") == 1
    assert "python -m experiments.&lt;c&gt;" in page


def test_opens_with_the_verdict_of_the_claims_that_answer(tmp_path):
    claims = [
        report.judge(report.Claim(**{**vars(CLAIM), "key": key}), values)
        for key, values in (
            ("barriers", [1.0, 1.1, 0.9]),  # of another family
            ("barrier/sgdr/0-2", [-1.0, -1.1, -0.9]),
            ("another", [1.0, 1.1, 0.9]),
        )
    ]
    folder(tmp_path, "sgdr").write_json("results.json", {"claims": claims})
    page = report.write(tmp_path).read_text()
    card = re.search(r"<article.*?</article>", page, re.S).group()
    assert "Is &lt;it&gt;?" in card
    assert "Someone &amp; others" in card
    assert "1 claim: 1 contradicted; 3 seeds." in card
    assert "reproduced</span>" not in card


def test_folders_of_a_command_line_make_one_page_elsewhere(tmp_path):
    for name in ("one", "two"):
        folder(tmp_path / "runs", name)
    target = tmp_path / "both.html"
    paths = [tmp_path / "runs" / "one", tmp_path / "runs" / "two"]
    page = report.write_page(paths, target).read_text()
    assert page.count("Not finished") == 4  # a card and a section of each


def drawn(root, name):
    """A finished run of a study, with a figure."""
    run = folder(root, name)
    run.write_json("results.json", {"claims": [report.judge(CLAIM, [1.0, 1.1, 0.9])]})
    (run.path / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(run.path / "figures" / "figure2.png")


def test_a_study_of_two_presets_has_a_section_and_a_card_of_each(tmp_path):
    for preset in ("demo", "digits"):
        drawn(tmp_path / preset, "sgdr")
    drawn(tmp_path / "demo", "warmup")
    paths = [tmp_path / "demo", tmp_path / "digits", tmp_path / "demo" / "sgdr"]
    page = report.write_page(paths, tmp_path / "both.html").read_text()
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len({*ids})
    sections = re.findall(r'<section id="([^"]*)"><h2>([^<]*)</h2>', page)
    names = ["demo/sgdr", "digits/sgdr", "warmup"]
    assert sections[:3] == [(name, name) for name in names]
    links = re.findall(r'href="#([^"]*)"', page)
    assert {*links} <= {*ids}
    assert re.findall(r'<li><a href="#([^"]*)"', page) == names
    cards = re.findall(r"<article .*?</article>", page, re.S)
    asked = [re.search(r"<h2>(.*?)</h2>", card).group(1) for card in cards]
    question = "Is &lt;it&gt;?"
    assert asked == [f"{question} (demo/sgdr)", f"{question} (digits/sgdr)", question]
    for name, card in zip(names, cards[:2], strict=False):
        assert f'href="#{name}"' in card
        assert f'id="opening-{name}-figure2"' in card


def test_presets_of_one_name_are_told_apart_by_where_they_lie(tmp_path):
    for root in ("a", "b"):
        folder(tmp_path / root / "demo", "sgdr")
    paths = [tmp_path / root / "demo" for root in ("a", "b")]
    page = report.write_page(paths, tmp_path / "both.html").read_text()
    found = re.findall(r'<section id="(.*?)"', page)
    assert found == ["a/demo/sgdr", "b/demo/sgdr", "reading"]


def test_the_drawing_places_interval_zone_and_paper_to_scale():
    from kd_heuristics.report import findings

    claim = report.judge(CLAIM, [0.0, 1.0, 2.0])
    half = 4.302653 / np.sqrt(3)  # t(0.975, 2) * s / sqrt(n), s = 1
    drawing = findings.drawing(claim)
    low, high = 1 - half, 1 + half
    x = re.search(r'class="paper" cx="([\d.]+)"', drawing).group(1)
    # 180 units from the lowest to the highest of all that is drawn
    assert float(x) == pytest.approx(10 + 180 * (0.5 - low) / (high - low), abs=0.06)
