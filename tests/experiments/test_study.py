"""A study of thirty lines runs, draws and reports; the library knows none by name."""

import ast
import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

from experiments import reproduce
from experiments.common import controls, fields, launch, running
from experiments.common.protocol import Entry
from experiments.common.study import Study
from kd_heuristics import plots, report

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    seeds: int = 3
    slope: float = 2.0


def compute(config, folder, progress):
    x = np.linspace(0, 1, 5)
    arrays = {"x": x, "y": np.stack([config.slope * x + k for k in range(3)])}
    rises = arrays["y"][:, -1] - arrays["y"][:, 0]
    return {"statistics": {"rise/all": rises}}, arrays


def claims(config):
    rule = {"kind": "difference", "smallest_effect": 1.0, "unit": "nats"}
    return [report.Claim(key="rise/all", words="it rises", **rule)]


def figures(config, results, arrays):
    series = plots.Series(x=arrays["x"], y=arrays["y"], name="measured")
    y = plots.Axis(label="loss", unit="nats")
    chart = plots.Chart(title="line", x=plots.Axis(label="x"), y=y, series=(series,))
    words = {"title": "Line", "caption": f"A line of slope {config['slope']:g}"}
    return {"line": plots.Figure(**words, claims=("rise",), panels=(chart,), columns=1)}


WORDS = {"name": "slopes", "headline": "Does it rise?", "question": "And how far?"}
STUDY = Study(
    **WORDS,
    paper="Nobody 2020",
    answers=("rise",),
    figure="line",
    presets={"smoke": Config(), "cifar10": Config(slope=3.0)},
    compute=compute,
    figures=figures,
    claims=claims,
)


def test_runs_draws_and_reports(tmp_path):
    folder = launch.run(STUDY, Config(), tmp_path / "smoke" / "slopes")
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"line.json", "line.png", "line.pdf"}
    page = report.write(tmp_path / "smoke").read_text()
    assert page.count("A line of slope 2</figcaption>") == 1
    assert "Does it rise?" in page
    assert "Nobody 2020" in page
    alt = "A line of slope 2, study slopes. it rises: reproduced (here 2 nats)."
    assert f'alt="{alt}"' in page
    assert "All 1 claim: 1 reproduced" in page
    assert "it rises, here 2 nats <" in page


def test_controls_are_claims_of_their_studies_and_written_into_the_config():
    studies = {study.name: study for study in reproduce.STUDIES}
    assert {*controls.CONTROLS} <= {*studies}
    for name, keys in controls.CONTROLS.items():
        studies[name].check_keys(keys, f"the controls of {name}")
    config = fields.resolved(studies["warmup"].presets["digits"])
    described = running.describe_run(studies["warmup"], config, {})
    found = ["early-accuracy/freeze_fc/freeze_random", "sharpness"]
    assert described["controls"] == found
    assert described["subject"] == "vgg11_bn on digits_photo"


def test_the_protocol_is_written_and_shown(tmp_path):
    entries = {
        "seeds": Entry(3, "table 1"),
        "slope": Entry(2.5, "figure 1", "<b>a steeper one</b>"),
    }
    study = dataclasses.replace(STUDY, protocol={"cifar10": entries})
    folder = launch.run(study, Config(slope=3.0), tmp_path / "slopes")
    written = json.loads((folder / "config.json").read_text())
    assert written["paper_preset"] == "cifar10"
    assert written["deviations"] == {}
    assert [row["status"] for row in written["protocol"]] == [
        "same",
        "differs: <b>a steeper one</b>",
    ]
    page = report.write(tmp_path).read_text()
    assert "<summary>Protocol: the paper&#x27;s value, ours, and why they" in page
    assert (
        "<td>slope</td><td>2.5</td><td>figure 1</td><td>3.0</td>"
        "<td>differs: &lt;b&gt;a steeper one&lt;/b&gt;</td>"
    ) in page


def changed(**fields):
    """A figures function with some fields of the figure changed."""

    def make(config, results, arrays):
        figure = figures(config, results, arrays)["line"]
        return {"line": dataclasses.replace(figure, **fields)}

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"figures": changed(claims=("rises",))},
            "claim, which figure 'line' of study 'slopes' names: 'rises'; did you mean "
            "'rise/all'",
        ),
        (
            {"figures": lambda config, results, arrays: {"line": arrays["z"]}},
            "a figure names the array 'z', which the run lacks; did you mean",
        ),
        ({"figure": "lines"}, "figure of study 'slopes': 'lines'; did you mean 'line'"),
    ],
)
def test_a_figure_of_what_does_not_exist_fails_the_run(tmp_path, changes, words):
    study = dataclasses.replace(STUDY, **changes)
    with pytest.raises(ValueError, match=re.escape(words)):
        launch.run(study, Config(), tmp_path / "slopes")
    assert "Failed: " in report.write(tmp_path).read_text()


def test_a_study_that_names_no_claim_is_refused_where_it_is_declared():
    with pytest.raises(ValueError, match="study 'slopes' names: 'ris'; did you mean"):
        dataclasses.replace(STUDY, answers=("ris",))
    with pytest.raises(ValueError, match="two claims have the key 'rise/all'"):
        dataclasses.replace(STUDY, claims=lambda config: 2 * claims(config))


NAMES = {study.name for study in reproduce.STUDIES}
# Tools of the same names: schedules, objectives and losses.
TOOLS = {"sgdr", "warmup", "distillation", "fsp"}


@pytest.mark.parametrize("package", ["plots", "report", "runs", "points", "training"])
def test_the_library_names_no_study_and_no_figure_of_a_paper(package):
    place = ROOT / "kd_heuristics" / package
    files = [*place.rglob("*.py")] or [place.with_suffix(".py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert file.stem not in NAMES, file
        assert not re.search(r"\b[Ff]ig(?:ure)?s?\.? ?\d", text), file
        assert not re.search(rf"\b({'|'.join(NAMES - TOOLS)})\b", text), file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                assert not re.match(r"experiments|kd_heuristics\.paper", name), file
