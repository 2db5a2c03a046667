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


def sections(page):
    """The studies of a page, in order."""
    return re.findall(r'<section class="study" id="(.*?)"', page)


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
    cells = re.findall(r'<td data-label="(?:here|paper)">(.*?)</td>', page)
    interval = '<span class="ends">[0.752, 1.25]</span>'
    assert cells[:2] == [f"1 nats {interval}", "0.5 nats"]
    assert "NonFiniteError: &lt;img&gt;" in page
    assert "a &lt; b" in page
    assert "Not finished" in page
    assert "why &amp; how?" in page
    assert sections(page) == ["done", "failed", "unfinished"]


@pytest.mark.parametrize(("found", "words"), [(None, "no format"), (1, "format 1")])
def test_a_folder_of_another_format_is_said_to_be_and_shown(tmp_path, found, words):
    done = folder(tmp_path, "done")
    done.write_json("results.json", {"claims": [report.judge(CLAIM, [1.0, 1.1, 0.9])]})
    _, main, body = report.write(tmp_path).read_text().partition('<main id="main">')
    assert main
    assert "format" not in body
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
    (data,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', page)  # once
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


def test_a_missing_study_is_named_with_its_command_and_is_no_failure(tmp_path):
    for name in ("a", "b"):
        folder(tmp_path, name).write_json("results.json", {"claims": []})
    expected = [{**OPENING, "study": name} for name in ("b", "<c>")]
    page = report.write(tmp_path, expected).read_text()
    assert sections(page) == ["b", "a"]
    assert page.count("<h2>Is &lt;it&gt;?</h2>") == 2
    command = "<code>python -m experiments.&lt;c&gt;</code>"
    assert f'<p class="absent">Not part of these runs: {command}.</p>' in page
    assert 'class="bad"' not in page
    assert "Not part" not in report.write(tmp_path).read_text()


def test_a_users_network_and_data_stand_once_above_a_study(tmp_path):
    run = runs.RunFolder(tmp_path / "mine")
    paper = "the question of Someone, asked of your own: net on photos"
    own = OPENING | {"paper": paper, "subject": "net on photos"}
    run.open({"study": "mine", **own, "config": {}})
    run.begin()
    (who,) = re.findall('<p class="who">(.*?)</p>', report.write(tmp_path).read_text())
    assert who.startswith(paper)
    assert who.count("net on photos") == 1


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
    (answer,) = re.findall(r'<p class="answer">(.*?)</p>', page)
    assert answer == (
        '<span class="badge bad">contradicted</span> '
        "&lt;script&gt;alert(1)&lt;/script&gt;, here \N{MINUS SIGN}1 nats "
        '<span class="ends">[\N{MINUS SIGN}1.25, \N{MINUS SIGN}0.752]</span>'
        ", in the paper 0.5 nats."
    )
    brief = page.partition("Claims that answer it")[2].partition("</table>")[0]
    assert brief.count("<tr>") == 2  # the head and the claim
    assert "All 3 claims: 2 reproduced, 1 contradicted</summary>" in page
    assert page.index('id="reading"') < page.index("<table>")
    assert page.count('id="reading"') == 1


def test_our_controls_are_told_apart_from_what_the_paper_claims(tmp_path):
    claims = [
        report.judge(report.Claim(**{**vars(CLAIM), **own}), [1.0, 1.1, 0.9])
        for own in (
            {"key": "a", "words": "first", "main": True},
            {"key": "b", "words": "second"},
            {"key": "null/c", "words": "third"},
        )
    ]
    run = runs.RunFolder(tmp_path / "sgdr")
    run.open({"study": "sgdr", "controls": ["null"], "config": {}})
    run.write_json("results.json", {"claims": claims})
    page = report.write(tmp_path).read_text()
    tables = re.findall(r"<caption>(.*?)</caption>(.*?)</table>", page, re.S)
    words = {
        caption: re.findall(r'<td data-label="claim">(\w+)', inside)
        for caption, inside in tables
    }
    assert words == {
        "Claims that answer it": ["first"],
        "What the paper claims, main claims": ["first"],
        "What the paper claims, secondary and exploratory": ["second"],
        "Our own controls and other papers&#x27; claims": ["third"],
        "Preset of sgdr": [],
    }


def test_of_a_users_network_no_paper_claims_anything(tmp_path):
    for name, own, paper in (("mine", {"network": "net"}, None), ("theirs", {}, 0.5)):
        claim = report.Claim(**{**vars(CLAIM), "main": True, "paper": paper})
        run = runs.RunFolder(tmp_path / name / "sgdr")
        run.open({"study": "sgdr", "controls": ["x"], "own": own, "config": {}})
        claims = [report.judge(claim, [1.0, 1.1, 0.9])]
        run.write_json("results.json", {"claims": claims})
    mine, theirs = (
        report.write(tmp_path / name).read_text().partition("<main")[2]
        for name in ("mine", "theirs")
    )
    assert "<caption>Main claims</caption>" in mine
    assert 'data-label="paper"' not in mine
    assert 'data-label="paper"' in theirs
    assert "Our own controls" in theirs


def test_a_preview_is_said_on_top_with_the_seeds_that_verdicts_need(tmp_path):
    for name, values in (("few", [1.0]), ("many", [1.0, 1.1, 0.9, 1.0])):
        config = {"seeds": len(values), "looks": [4, 8], "model": "<vgg>"}
        run = runs.RunFolder(tmp_path / name)
        run.open({"study": name, "config": config | {"dataset": "digits"}})
        run.begin()
        judged = report.judge_all([CLAIM], {"x": values}, looks=(4, 8))
        run.write_json("results.json", {"claims": judged})
    page = report.write_page([tmp_path / "few"], tmp_path / "p.html").read_text()
    head = page.partition("<main")[0]
    words = "estimates from too few seeds for any verdict. The first verdicts come at 4"
    assert words in head
    for name, said in (("network and data", "&lt;vgg&gt; on digits"), ("seeds", "1")):
        assert f"<dt>{name}</dt><dd>{said}</dd>" in head
    assert re.search(r"<dt>hardware</dt><dd>cpu x \d+, \d+ CPU cores</dd>", head)
    assert "<dt>software</dt><dd>kd_heuristics " in head
    both = report.write(tmp_path).read_text().partition("<main")[0]
    assert "The numbers of few are estimates" in both
    assert "<dt>seeds</dt><dd>1 to 4</dd>" in both
    page = report.write_page([tmp_path / "many"], tmp_path / "p.html").read_text()
    assert "Preview" not in page.partition("<main")[0]


def test_a_yes_or_no_without_a_seed_that_counts_says_so(tmp_path):
    fields = {**vars(CLAIM), "kind": "mostly", "paper": 1.0}
    claims = [
        report.judge_all([report.Claim(**fields)], {"x": values})[0]
        | {"key": key, "seeds": [7]}
        for key, values in (("barrier/a", [np.nan]), ("barrier/b", [1.0]))
    ]
    run = folder(tmp_path, "sgdr")
    run.write_json("results.json", {"claims": claims})
    page = report.write(tmp_path).read_text()
    assert "0 of 0" not in page
    cells = re.findall(r'<td data-label="here">(.*?)</td>', page)
    assert cells[:2] == ["1 of 1 seed", "no seed counts"]  # what has a seed comes first
    assert "Not counted, because a training failed or a check did: 7." in page


def test_numbers_have_the_unit_and_the_rule_what_it_is_of(tmp_path):
    unit = "% of the worse end's train loss"
    own = {**vars(CLAIM), "unit": unit, "smallest_effect": 5.0}
    judged = report.judge(report.Claim(**own), [-0.4, -0.5, -0.6])
    folder(tmp_path, "sgdr").write_json("results.json", {"claims": [judged]})
    page = report.write(tmp_path).read_text()
    (here, *_) = re.findall(r'<td data-label="here">(.*?)</td>', page)
    assert here.startswith("\N{MINUS SIGN}0.5 % <")
    assert "at least 5 % of the worse end&#x27;s train loss" in page


def test_folders_of_a_command_line_make_one_page_elsewhere(tmp_path):
    for name in ("one", "two"):
        folder(tmp_path / "runs", name)
    target = tmp_path / "both.html"
    paths = [tmp_path / "runs" / "one", tmp_path / "runs" / "two"]
    page = report.write_page(paths, target).read_text()
    assert page.count("Not finished") == 2


def drawn(root, name):
    """A finished run of a study, with a figure."""
    run = folder(root, name)
    run.write_json("results.json", {"claims": [report.judge(CLAIM, [1.0, 1.1, 0.9])]})
    (run.path / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(run.path / "figures" / "figure2.png")


def test_a_study_of_two_presets_has_a_section_of_each(tmp_path):
    for preset in ("demo", "digits"):
        drawn(tmp_path / preset, "sgdr")
    drawn(tmp_path / "demo", "warmup")
    paths = [tmp_path / "demo", tmp_path / "digits", tmp_path / "demo" / "sgdr"]
    page = report.write_page(paths, tmp_path / "both.html").read_text()
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len({*ids})
    names = ["demo/sgdr", "digits/sgdr", "warmup"]
    assert sections(page) == names
    asked = re.findall("<h2>(.*?)</h2>", page)
    question = "Is &lt;it&gt;?"
    assert asked == [f"{question} (demo/sgdr)", f"{question} (digits/sgdr)", question]
    assert {*re.findall(r'href="#([^"]*)"', page)} <= {*ids}
    links = re.findall(r'<li><a href="#([^"]*)">(.*?)</a>', page)
    assert links == [*zip(names, asked, strict=True)]
    figures = re.findall(r'<figure class="[^"]*" id="([^"]*)"', page)
    assert figures == [f"{name}-figure2" for name in names]  # each once


def test_presets_of_one_name_are_told_apart_by_where_they_lie(tmp_path):
    for root in ("a", "b"):
        folder(tmp_path / root / "demo", "sgdr")
    paths = [tmp_path / root / "demo" for root in ("a", "b")]
    page = report.write_page(paths, tmp_path / "both.html").read_text()
    assert sections(page) == ["a/demo/sgdr", "b/demo/sgdr"]


def test_the_drawing_places_interval_zone_and_paper_to_scale():
    from kd_heuristics.report import verdicts

    claim = report.judge(CLAIM, [0.0, 1.0, 2.0])
    half = 4.302653 / np.sqrt(3)  # t(0.975, 2) * s / sqrt(n), s = 1
    drawing = verdicts.drawing(claim)
    low, high = 1 - half, 1 + half
    x = re.search(r'class="paper" cx="([\d.]+)"', drawing).group(1)
    # 180 units from the lowest to the highest of all that is drawn
    assert float(x) == pytest.approx(10 + 180 * (0.5 - low) / (high - low), abs=0.06)
