"""FunMatch's tables 2 to 4 and Figures 5 and 6: states, commands, what a folder has."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
import tyro

from experiments.common import fields
from experiments.funmatch import figures, lines, published, study, tables
from experiments.funmatch.arms import ARMS, OTHERS
from experiments.funmatch.claims import claims, statistics
from experiments.funmatch.comparisons import comparisons
from experiments.funmatch.config import PRESETS, Config, name
from kd_heuristics import plots

ROWS = [(table, row) for table, (_, _, make) in tables.TABLES.items() for row in make()]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda x: getattr(x, "name", x))
def test_the_command_of_a_row_trains_exactly_its_cells(table, row):
    words = shlex.split(tables.command(row, {}))
    if not row.is_trained:
        assert table == "table2" or row.arm in ("teacher", "labels (best)")
        return
    assert words[:4] == ["python", "-m", "experiments.funmatch", "--preset"]
    place = words.index("--name")
    preset = PRESETS[words[4]]
    config = tyro.cli(Config, args=words[5:place], default=preset)
    resolved = fields.resolved(config)
    stages = [name(row.arm, epochs) for epochs in row.cells]
    assert [its.name for its in study.STUDY.plan(resolved).trainings] == stages
    if row.rate is not None:
        (setting,) = (s for s, _ in resolved.plan(row.arm))
        assert setting.rate == row.rate
    assert tables.preset_of(json.loads(json.dumps(vars(resolved), default=str))) == (
        row.preset
    )


def test_states():
    (mix,) = (
        row
        for row in published.table3()
        if (row.preset, row.arm) == ("imagenet", "mix")
    )
    found = {("imagenet", "mix", 300): 80.0, ("imagenet", "labels_sgd", 90): 70.0}
    assert tables.state(mix, found) == "1 of 7 run"
    assert "mix@300" not in tables.command(mix, found)
    every = {("imagenet", "mix", epochs): 80.0 for epochs in mix.cells}
    assert (tables.state(mix, every), tables.command(mix, every)) == ("run", "")
    assert tables.state(mix, {}) == "not run"
    best = published.table3()[0]
    assert tables.ours(best, 90, found) == 70.0
    assert tables.state(published.table2()[0], found) == "another paper's"


def result(accuracy, validation=0.5):
    return {
        "test_accuracy": {"mean": accuracy, "values": [accuracy]},
        "validation_accuracy": {"mean": validation},
        "test_kl": {"mean": 0.1, "values": [0.1]},
        "test_agreement": {"mean": 0.1, "values": [0.1]},
        "setting": {"epochs": 300},
    }


def write(folder, config, arms, **changes):
    folder.mkdir(parents=True)
    described = {"study": "funmatch", "config": config, **changes}
    (folder / "config.json").write_text(json.dumps(described, default=vars))
    teacher = {"validation": 0.9, "test": 0.91}
    found = {"arms": arms, "teacher_accuracy": teacher}
    (folder / "results.json").write_text(json.dumps(found))


def test_a_folder_of_runs_and_sweeps_is_collected(tmp_path):
    pets = dataclasses.asdict(fields.resolved(PRESETS["pets"]))
    other = {**pets, "width": 0.5}
    jobs = tmp_path / "pets" / "funmatch-sweep" / "jobs"
    write(jobs / "00000", pets, {"mix": {"300": result(0.8, 0.7)}})
    write(jobs / "00001", pets, {"mix": {"300": result(0.9, 0.6)}})
    write(jobs / "00002", pets, {"mix": {"1000": result(None, None)}})
    write(jobs / "00003", other, {"mix": {"300": result(0.99, 0.99)}})
    write(jobs / "00004", pets, {"mix": {"300": result(0.99, 0.99)}}, own={"model": 1})
    write(tmp_path / "run", pets, {"others": {"300": result(0.3)}})
    better = {"others": {"300": result(0.99)}}  # of a few of its seeds
    write(tmp_path / "run" / "seeds" / "0-3", pets, better)
    (tmp_path / "run" / "jobs").mkdir()
    (tmp_path / "run" / "jobs" / "config.json").write_text('{"study": "sgdr"}')
    # The best on validation images counts, also if its test accuracy is lower.
    assert tables.collect(tmp_path) == {
        ("pets", "mix", 300): 80.0,
        ("pets", "others", 300): 30.0,
        ("pets", "teacher", 0): 91.0,
    }


def test_every_table_and_figure_is_there_with_nothing_and_with_something_run():
    some = {("pets", "mix", 300): 80.0, ("imagenet", "shampoo", 30): 70.0}
    for found in ({}, some):
        made = tables.collected(found)
        assert [*made] == ["table2", "table3", "table4", "figure5", "figure6"]
        for panel in [panel for own in made.values() for panel in own.panels]:
            if isinstance(panel, plots.Table):
                assert panel.rows
    chart = made["figure5"].panels[0]
    assert [series.name for series in chart.series] == ["Shampoo, mixup"]
    assert "not run: same inception crop" in chart.title
    paper = made["figure5"].panels[3]
    assert paper.series[1].mean.tolist() == [77.52, 79.43, 80.47, 80.83, 81.11, 81.45]


def test_a_run_shows_its_own_tables_and_figures_alone():
    arms = {"same/ic": {"300": result(0.6)}, "pretrained": {"300": result(0.7)}}
    results = {"arms": arms, "teacher_accuracy": {"validation": 0.9, "test": 0.9}}
    digits = fields.resolved(PRESETS["digits"])
    config = dataclasses.asdict(digits) | {"main": ["same/ic"]}
    found = figures.figures(config, results, {})
    assert [*found] == ["patience", "variants", "curves", "figure5"]
    (series,) = found["figure5"].panels[1].series[1:]
    np.testing.assert_allclose(series.mean, [70.0])
    config = dataclasses.asdict(fields.resolved(PRESETS["imagenet_160"]))
    found = figures.figures(config, results, {})
    assert {"table2", "table3"} <= {*found}


def test_figure_6_has_all_pairs_of_sets():
    pairs = {(row.preset, row.arm) for row in published.figure6()}
    images = ("mix", "others", "related")
    assert pairs == {(name, arm) for name in ("pets", "sun") for arm in images}
    for preset, arm in pairs:
        config = fields.resolved(PRESETS[preset])
        assert len(config.plan(arm)) == len(config.settings)
    assert {*lines.IMAGES} == {*images}


def test_the_claims_of_the_paper_are_declared_on_its_sets():
    every = dataclasses.replace(PRESETS["digits"], other_arms=OTHERS)
    papers = [PRESETS[preset] for preset in (*published.SETS, *published.IMAGENET)]
    keys = {
        claim.key
        for config in (*papers, every)
        for claim in comparisons(fields.resolved(config))
    }
    assert keys >= {
        "patience/teacher",
        "overfits/fix/cc",
        "patience/mix/same/ic",
        "shampoo/shampoo_same/same/ic",
        "first-weights/early",
        "first-weights/late",
        "overfits/labels",
        "others/mobilenet_gn/mobilenet_bn",
        "others/full_size/mix",
        "others/ensemble/mix",
        "others/mix/others",
        "others/related",
        "others/same/ic/fix/ic_ens",
        "others/same/rc/ind/rc",
        "others/fix/cc/fix/rs",
        "shortest/same/ic/mix",
    }


def test_presets_of_table_3_train_its_cells():
    for preset in published.IMAGENET:
        config = fields.resolved(PRESETS[preset])
        trained = {(arm, s.epochs) for arm in config.arms for s, _ in config.plan(arm)}
        rows = [row for row in published.table3() if row.preset == preset]
        cells = {(row.arm, e) for row in rows if row.is_trained for e in row.cells}
        beside = {("full_size", 300)} if preset == "imagenet_160" else set()
        assert trained == cells | beside
    assert "ind/ic" not in PRESETS["imagenet"].arms
    assert 0.03 in PRESETS["imagenet"].grid.rates
    lengths = [s.epochs for s, _ in PRESETS["imagenet_384"].plan("ensemble")]
    assert lengths == [1_200, 4_800, 9_600]
    two = [arm for arm in ARMS if ARMS[arm].ensemble and "mobilenet" in arm]
    assert {*two} <= {*PRESETS["imagenet_384"].arms}


def test_the_rows_in_small_have_what_the_study_of_digits_lacks():
    """Curves of the optimiser and of first weights, two teachers, MobileNets."""
    config = fields.resolved(PRESETS["rows"])
    assert (config.seeds, config.first_seed, config.looks) == (4, 1000, (4,))
    trained = {arm: [s.epochs for s, _ in config.plan(arm)] for arm in config.arms}
    assert all(seeds == 4 for arm in trained for _, seeds in config.plan(arm))
    short, middle, long = (setting.epochs for setting in config.settings)
    assert middle == 4 * short == long / 4 == config.other_epochs
    assert trained["same/ic"] == trained["pretrained"] == [short, middle, long]
    assert trained["shampoo_same"] == [short, middle]
    two = {arm for arm in trained if ARMS[arm].ensemble}
    assert two == {"ensemble", "mobilenet_gn_two", "mobilenet_bn_two"}
    found = {its.key: its for its in claims(config)}
    assert not any(its.main for its in found.values())
    assert found["others/mobilenet_gn_two/mobilenet_gn"].paper == 0.25  # 74.85, 74.60
    assert found["others/mobilenet_bn_two/mobilenet_bn"].paper == 0.96  # 73.28, 72.32
    nearer = [key for key in found if key.startswith("distance/")]
    assert nearer == [
        "distance/shampoo/shampoo_same/same/ic",
        "distance/first-weights/early",
        "distance/first-weights/late",
        "distance/others/shampoo/mix",
        "distance/others/mobilenet_gn/mobilenet_bn",
    ]
    for key in nearer:
        assert found[key].paper is None
        assert (found[key].unit, found[key].smallest_effect) == ("nats", 0.02)


def test_distances_of_shorter_trainings_are_signed_as_accuracies():
    config = fields.resolved(PRESETS["rows"])
    arrays = {
        f"{name(arm, s.epochs)}/{metric}": np.full(4, value)
        for arm in config.arms
        for s, _ in config.plan(arm)
        for metric in ("test_accuracy", "test_kl")
        for near in [arm == "pretrained" and s.epochs < 96]
        for value in [0.5 + 0.1 * (near == (metric == "test_accuracy"))]
    }
    found = statistics(config, arrays, 0.9)
    np.testing.assert_allclose(found["first-weights/early"], 10)
    np.testing.assert_allclose(found["distance/first-weights/early"], 0.1)
    np.testing.assert_allclose(found["distance/first-weights/late"], 0)
