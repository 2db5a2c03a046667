"""Runs of a study beside each other, and the tables of a run."""

import csv
import json

import numpy as np
import pytest

from kd_heuristics import cli, plots, report, runs
from kd_heuristics.plots import stored
from kd_heuristics.report import tables
from kd_heuristics.report.compare import write_comparison
from tests.report.folders import write

CLAIM = report.Claim(
    key="gain",
    words="it gains",
    kind="difference",
    smallest_effect=0.1,
    unit="nats",
    main=True,
)


def run_folder(path, values, *, first=0, rate=0.1, study="sgdr"):
    """A finished run with one claim, one chart and one map."""
    run = runs.RunFolder(path)
    config = {"rate": rate, "seeds": len(values), "first_seed": first}
    run.open({"study": study, "question": "Does it?", "config": config})
    run.begin()
    run.write_json("results.json", {"claims": [report.judge(CLAIM, values)]})
    line = json.dumps({"stage": f"net-seed{first}", "step": 3, "loss": None, "a": 0.5})
    (run.path / "metrics.jsonl").write_text(line + "\n")
    curves = np.arange(2.0 * len(values)).reshape(len(values), 2)
    chart = plots.Chart(
        "(a) Curve",
        plots.Axis("epoch"),
        plots.Axis("loss", "nats"),
        [
            plots.Series([0, 1], curves, "ours"),
            plots.Series([0, 1], [3, 4], "theirs", paper=True),
        ],
    )
    heat = plots.HeatMap("(b) Map", [[0.1, np.nan]], ["r"], ["c", "d"])
    stored.save(plots.Figure("F", "Curve and map", [chart, heat]), run.path, "figure")
    return run.path


@pytest.fixture
def two(tmp_path):
    return (
        run_folder(tmp_path / "old" / "sgdr", [1.0, 2.0, 3.0]),
        run_folder(tmp_path / "new" / "sgdr", [2.0, 3.5, 9.0], first=1, rate=0.2),
    )


def test_a_comparison_has_what_differs_and_what_each_seed_gained(two, tmp_path):
    page = write_comparison(two, tmp_path / "c.html").read_text()
    assert "<code>rate</code></td><td>0.1</td><td>0.2</td>" in page
    # Seeds 1 and 2 are in both: 2.0 - 2.0 and 3.5 - 3.0, t(1 df) = 12.71 at 95 %.
    assert "<td>0.25 nats [-2.93, 3.43], 2 seeds</td>" in page
    assert page.count('"title": "(a) Curve"') == 1
    for name in ("old/sgdr: ours", "new/sgdr: ours"):
        assert f'"name": "{name}"' in page
    assert page.count('"meta": "theirs"') == 1
    for name in ("(b) Map (old/sgdr)", "(b) Map (new/sgdr)"):
        assert f'"title": "{name}"' in page
    assert page.count("data:image/webp") == 1


def test_equal_configs_and_no_shared_seed_are_said(tmp_path):
    a = run_folder(tmp_path / "a" / "sgdr", [1.0, 2.0])
    b = run_folder(tmp_path / "b" / "sgdr", [1.0, 2.0], first=2)
    page = write_comparison([a, b], tmp_path / "c.html").read_text()
    assert "no seed in both" in page
    c = run_folder(tmp_path / "c" / "sgdr", [1.0, 2.0])
    assert "configs are equal" in write_comparison([a, c], tmp_path / "d").read_text()


def test_every_figure_of_a_study_can_be_compared(tmp_path):
    folders = [tmp_path / name / "distillation" for name in "ab"]
    for folder in folders:
        write(folder.parent, ["distillation"])
    page = write_comparison(folders, tmp_path / "c.html").read_text()
    assert page.count("<figure") == len([*(folders[0] / "figures").glob("*.json")])


def test_bad_input_of_a_comparison(two, tmp_path):
    with pytest.raises(ValueError, match="at least two runs, got 1"):
        write_comparison(two[:1], tmp_path / "c.html")
    with pytest.raises(runs.RunError, match="no run folder"):
        write_comparison([two[0], tmp_path / "none"], tmp_path / "c.html")
    other = run_folder(tmp_path / "warmup", [1.0], study="warmup")
    with pytest.raises(ValueError, match="of one study, got sgdr, warmup"):
        write_comparison([two[0], other], tmp_path / "c.html")
    (two[1] / "results.json").unlink()
    with pytest.raises(ValueError, match="has no results"):
        write_comparison(two, tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_export_writes_a_row_for_each_number(two, tmp_path, capsys):
    cli.main(["export", *map(str, two), "--csv", str(tmp_path / "out")])
    assert "statistics.csv: 6 rows" in capsys.readouterr().out

    def rows(name, columns):
        with (tmp_path / "out" / f"{name}.csv").open() as file:
            return [tuple(row[c] for c in columns) for row in csv.DictReader(file)]

    found = rows("statistics", ["run", "claim", "seed", "value", "counted"])
    assert found[3] == (str(two[1]), "gain", "1", "2.0", "yes")
    metrics = rows("metrics", ["training", "seed", "step", "metric", "value"])
    assert metrics[:2] == [("net", "0", "3", "loss", ""), ("net", "0", "3", "a", "0.5")]
    curves = rows("curves", ["series", "paper", "seed", "x", "y", "y_label"])
    assert curves[2] == ("ours", "no", "1", "0.0", "2.0", "loss (nats)")
    assert curves[6] == ("theirs", "yes", "", "0.0", "3.0", "loss (nats)")
    assert rows("maps", ["row", "column", "value"])[1] == ("r", "d", "")
    [first, _] = rows("claims", ["mean", "low", "verdict", "seeds"])
    assert float(first[0]) == 2.0
    assert first[3] == "3"
    described = {(t, c) for t, c in rows("columns", ["table", "column"])}
    assert described == {(t, c) for t, own in tables.COLUMNS.items() for c in own}


def test_metrics_of_blocks_of_seeds_are_exported_by_seed(tmp_path):
    path = run_folder(tmp_path / "sgdr", [1.0] * 6)  # with lines of fewer seeds
    for block, stages in (
        ("0-3", ["net-seed0", "net-seed3-net1", "teacher"]),
        ("4-5", ["net-seed4", "teacher"]),
    ):
        folder = path / "seeds" / block
        folder.mkdir(parents=True)
        lines = [{"stage": stage, "step": 1, "loss": 0.5} for stage in stages]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
    cli.main(["export", str(path), "--csv", str(tmp_path / "out")])
    with (tmp_path / "out" / "metrics.csv").open() as file:
        found = [(row["training"], row["seed"]) for row in csv.DictReader(file)]
    assert found == [
        ("net", "0"),
        ("net-net1", "3"),
        ("teacher (seeds 0-3)", ""),
        ("net", "4"),
        ("teacher (seeds 4-5)", ""),
    ]


def test_claims_of_some_seeds_are_paired_by_the_seeds_they_name(tmp_path):
    paths = [run_folder(tmp_path / name / "sgdr", [1.0] * 6) for name in "ab"]
    for path, values, seeds in zip(
        paths, ([1.0, 2.0], [4.0, 6.0]), ([0, 4], [4, 5]), strict=True
    ):
        judged = report.judge(CLAIM, values) | {"seeds": seeds}
        (path / "results.json").write_text(json.dumps({"claims": [judged]}))
    page = write_comparison(paths, tmp_path / "c.html").read_text()
    assert "<td>2 nats, 1 seeds</td>" in page  # seed 4: 4.0 - 2.0
    (run, _) = report.read(paths)
    rows = tables.tidy(run, [])["statistics"]
    assert [(row["seed"], row["value"]) for row in rows] == [(0, 1.0), (4, 2.0)]


def test_every_study_can_be_exported(tmp_path):
    write(tmp_path / "a")
    for run in report.read([tmp_path / "a"]):
        for name, rows in tables.tidy(run, []).items():
            assert all(row.keys() == tables.COLUMNS[name].keys() for row in rows)


def test_bad_input_of_an_export(two, tmp_path, capsys):
    for words, said in (
        (["export"], "name at least one run folder"),
        (["export", str(tmp_path / "none")], "no run folder"),
        (["export", str(two[0]), "--csv", str(two[0] / "config.json")], "--csv"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
    (two[0] / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit):
        cli.main(["export", str(two[0]), "--csv", str(tmp_path / "out")])
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
