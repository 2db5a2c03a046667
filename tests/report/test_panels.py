"""Panels hold the numbers of the run folder, the paper's beside them, and words."""

import itertools
import json
import re

import numpy as np
import pytest

from experiments.common import maps
from kd_heuristics import plots, report, runs
from kd_heuristics.report import live
from tests.report import folders


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """`(html, arrays by study, panels by figure)` of all studies."""
    root = tmp_path_factory.mktemp("runs")
    arrays = folders.write(root)
    text = report.write(root).read_text()
    panels = {}
    figures = re.findall(
        r'<figure class="[^"]*" id="([^"]*)">(.*?)</figure>', text, re.S
    )
    for name, inside in figures:
        found = re.findall(
            r'<script type="application/json">(.*?)</script>', inside, re.S
        )
        panels[name] = [json.loads(one) for one in found]
    return text, arrays, panels


def test_each_heat_map_has_its_layers_and_values(page):
    _, arrays, panels = page
    ours, _, change, _, *papers = panels["sgdr-figure14"]
    values = arrays["sgdr"]["maps/restart"].mean(0)
    trace = ours["data"][0]
    np.testing.assert_allclose(trace["z"], values, rtol=1e-4)  # five digits
    assert trace["y"] == folders.LAYERS.tolist()
    assert trace["meta"] == ["epoch 0", "epoch 1"]
    expected = values - arrays["sgdr"]["maps/first-last"].mean(0)
    np.testing.assert_allclose(change["data"][0]["z"], expected, rtol=1e-4)
    assert [len(panel["data"][0]["z"]) for panel in papers] == [36, 36]


@pytest.mark.parametrize("study", ["sgdr", "warmup", "distillation"])
def test_maps_are_shown_by_every_measure_with_the_signs_that_agree(page, study):
    raw, *calibrated, statistics = page[2][f"{study}-measures"]
    own = raw["title"].split()[1].rstrip(",")
    titles = [panel["title"].split(maxsplit=1)[1] for panel in calibrated]
    assert titles == [f"{measure}, calibrated" for measure in maps.endings(own)]
    names = [trace["name"] for trace in statistics["data"] if trace["name"]]
    assert names == [*maps.endings(own)]
    words = f"{len(names)} of {len(names)} agree"
    assert statistics["names"]["y"][0].endswith(words)


def test_a_surface_has_both_sets_and_no_infinity(page):
    _, arrays, panels = page
    (panel,) = panels["sgdr-figure3"]
    train, _, test, _ = panel["data"]
    assert [trace["visible"] for trace in panel["data"]] == [True, True, False, False]
    assert train["z"][0] == [1.0, 1.0, 2.0, None]  # a loss of 0 has no logarithm
    np.testing.assert_allclose(
        test["z"], arrays["sgdr"]["plane-0-2/test_loss"], rtol=1e-4
    )
    scene = panel["layout"]["scene"]
    words = [scene[f"{axis}axis"]["title"]["text"] for axis in "xyz"]
    assert words == [
        "distance along w0 to w2",
        "distance towards the bend",
        "loss (nats, log scale)",
    ]


def test_networks_are_named_above_the_surface_and_not_over_each_other(page):
    (panel,) = page[2]["sgdr-figure3"]
    ground, pins, *_ = panel["data"]
    named = [(z, words) for z, words in zip(pins["z"], pins["text"], strict=True)]
    tops = {words: z for z, words in named if words}
    assert tops.keys() == {"w0", "w2", "bend", "w1"}
    highest = max(z for row in ground["z"] for z in row if z is not None)
    assert all(z > highest for z in tops.values())
    # From the left, as the camera sees them: across the direction of the eye.
    eye = panel["layout"]["scene"]["camera"]["eye"]
    side = [
        (np.array(pins[axis], float) - min(ground[axis])) / np.ptp(ground[axis])
        for axis in "xy"
    ]
    seen = -eye["y"] * side[0] + eye["x"] * side[1]
    order = [pins["text"][at] for at in np.argsort(seen) if pins["text"][at]]
    assert all(tops[a] != tops[b] for a, b in itertools.pairwise(order))


def test_curves_are_means_with_a_range_and_the_papers_wait_in_the_legend(page):
    _, arrays, panels = page
    panel = panels["mode_connectivity-figure1"][0]
    means = [trace for trace in panel["data"] if trace.get("name") == "epoch 2"]
    values = 100 * arrays["mode_connectivity"]["GA/chain/test_accuracy"][:, 1]
    np.testing.assert_allclose(means[0]["y"], values.mean(0), rtol=1e-4)
    papers = [t for t in panel["data"] if t.get("name", "").startswith("paper")]
    assert len(papers) == 4
    assert {trace["visible"] for trace in papers} == {"legendonly"}
    assert sum(trace["showlegend"] for trace in papers) == 1


def test_every_study_has_panels_and_every_image_says_what_it_shows(page):
    text, _, panels = page
    for figure in ("warmup-figure4", "warmup-figure5", "distillation-figure6"):
        assert len(panels[figure]) >= 4
    assert len(panels["fsp-figure3"]) == 2
    patience = panels["funmatch-patience"]
    # Means and ranges, and the teacher's accuracy.
    assert [len(panel["data"]) for panel in patience[:2]] == [7, 6]
    assert len(patience[2]["data"]) >= 4  # the paper's table 3
    alts = re.findall(r'<img class="still" alt="([^"]*)"', text)
    assert len(alts) == text.count("<img")
    assert any(
        "it rises: reproduced (here 1 nats, in the paper 0.5 nats)" in a for a in alts
    )


def test_tables_of_a_paper_stand_beside_ours(page):
    (table,) = re.findall("<caption>Table 1</caption>.*?</table>", page[0], re.S)
    head = re.findall(r"<th scope[^>]*>(.*?)</th>", table)
    cells = re.findall("<td>(.*?)</td>", table)
    assert dict(zip(head, cells, strict=True)) == {
        "net": "teacher, all steps",
        "ours, mean of nets": "91.00 ± 1.41 %",
        "paper, mean of nets": "91.75 %",
        "ours, ensemble": "93.00 %",
        "paper, ensemble": "93.48 %",
    }


def test_is_under_ten_megabytes_and_names_no_other_address(page):
    text = re.sub(r'id="library">[^<]*<', "", page[0])
    assert len(page[0]) < 10e6
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)


def test_a_run_of_an_earlier_version_keeps_its_still_images(tmp_path):
    """It has no figures as data, no opening, and claims of another form."""
    folders.write(tmp_path, ["warmup"])
    run = runs.RunFolder(tmp_path / "warmup")
    for path in (run.path / "figures").glob("*.json"):
        path.unlink()
    described, results = run.read_json("config.json"), run.read_json("results.json")
    config = {key: described[key] for key in ("study", "question", "config")}
    run.write_json("config.json", config)
    for claim in results["claims"]:
        claim["statement"] = claim.pop("words")
    run.write_json("results.json", results)
    text = report.write(tmp_path).read_text()
    assert 'class="with-live"' not in text
    stills = [*(run.path / "figures").glob("*.png")]
    assert text.count('class="still"') == len(stills) > 0
    assert "no format, this version's is" in text
    assert "it rises" not in text


def test_a_damaged_figure_is_said_to_be_and_hides_nothing(tmp_path):
    folders.write(tmp_path, ["warmup"])
    whole = report.write(tmp_path).read_text()
    path = tmp_path / "warmup" / "figures" / "figure5.json"
    for content, words in (
        ("{", "figure5.json cannot be read: Expecting property name"),
        ("[]", "figure5.json is no Figure"),
        (
            path.read_text().replace('"similarity"', '"<similar>"', 1),
            "panels[0].scale is &#x27;&lt;similar&gt;&#x27;, which is of another type",
        ),
    ):
        path.write_text(content)
        text = report.write(tmp_path).read_text()
        assert "The data of this figure are damaged: figure5.json" in text
        assert words in text
        assert text.count('class="still"') == whole.count('class="still"')
        assert text.count('class="with-live"') == whole.count('class="with-live"') - 1


X = np.arange(3.0)


def panel_of(series, y, references=()):
    chart = plots.Chart("chart", plots.Axis("x"), y, series, references)
    (found,) = live.panels(plots.Figure("f", "caption", [chart]), "what it shows")
    assert (found["title"], found["alt"]) == ("chart", "what it shows")
    return found


def test_rows_with_names_have_the_short_legend_and_the_long_words():
    series = [
        plots.Series(X, 0 * X, "a, mean", legend="mean", line="none", marker="D"),
        plots.Series(X, 0 * X + 1, "b, mean", legend="", line="none", marker="D"),
    ]
    found = panel_of(series, plots.Axis(names=["a", "b"]))
    keys = ("name", "meta", "showlegend", "mode")
    assert [tuple(trace[key] for key in keys) for trace in found["data"]] == [
        ("mean", "a, mean", True, "markers"),
        ("b, mean", "b, mean", False, "markers"),
    ]
    assert found["names"] == {"x": [], "y": ["a", "b"]}
    assert found["layout"]["yaxis"]["ticktext"] == ["a", "b"]
    assert found["layout"]["yaxis"]["range"] == [1.6, -0.6]  # the first on top


def test_lines_bars_labels_limits_and_references():
    series = [
        plots.Series(X, X, "line", line="dash", labels=["p", "", "q"]),
        plots.Series(X, [[0, 1, 2], [2, 3, 4]], "bars", line="bars"),
        plots.Series(X, X, "steps", line="steps"),
    ]
    y = plots.Axis("y", "nats", "log", limits=(0.1, None), ticks=[0.1, 1000])
    references = [plots.Reference(0.5, "half"), plots.Reference(1, "one", axis="x")]
    found = panel_of(series, y, references)
    line, bars, steps, half, one = found["data"]
    assert (line["mode"], line["text"]) == ("lines+text", ["p", "", "q"])
    assert line["line"]["dash"] == "dash"
    assert (bars["type"], bars["y"]) == ("bar", [1.0, 2.0, 3.0])
    assert steps["line"]["shape"] == "hv"
    assert (half["x"], half["y"]) == ([0.0, 2.0], [0.5, 0.5])
    assert (one["x"], one["y"]) == ([1.0, 1.0], [0.0, 4.0])
    axis = found["layout"]["yaxis"]
    assert (axis["range"], axis["type"]) == ([-1.0, None], "log")
    assert axis["ticktext"] == ["0.1", "1,000"]
    assert axis["title"]["text"] == "y (nats, log scale)"


def test_a_map_says_what_is_noise_and_has_its_scale():
    values = np.array([[0.5, -0.25]])
    parts = {"values": values, "rows": ["r"], "columns": ["c", "d"]}
    for scale, expected in (
        ("similarity", (values, 0, 1)),
        ("signed", (values, -0.5, 0.5)),
        ("size", (abs(values), 0, 0.5)),
    ):
        heat = plots.HeatMap("h", **parts, scale=scale, floor=np.full((1, 2), 0.3))
        (found,) = live.panels(plots.Figure("f", "c", [heat]), "alt")
        (trace,) = found["data"]
        np.testing.assert_array_equal(trace["z"], expected[0])
        assert (trace["zmin"], trace["zmax"]) == expected[1:]
        assert trace["customdata"] == [["", "not above the noise floor"]]


def test_layers_are_labelled_as_in_the_stills_and_at_most_thirty():
    names = [f"{place:02d}_conv" for place in range(45)]
    heat = plots.HeatMap("h", np.zeros((45, 2)), names, ["00_relu", "01_fc"])
    (found,) = live.panels(plots.Figure("f", "c", [heat]), "alt")
    axes = found["layout"]
    assert axes["xaxis"]["ticktext"] == ["relu", "fc"]
    assert axes["yaxis"]["tickvals"] == names[::2]
    assert axes["yaxis"]["ticktext"] == [f"conv{number}" for number in range(1, 46, 2)]
    (trace,) = found["data"]
    assert trace["y"] == names
