"""Seeds in blocks up to each look: resumed, extended, joined, stopped when decided."""

import dataclasses
import json
import re

import numpy as np
import pytest

from experiments import reproduce
from experiments.common import blocks, launch, merging
from experiments.common.own import Own
from kd_heuristics import data, report, runs
from tests.experiments.gains import RAN, STUDY, Config, claims, compute, value


@pytest.fixture(autouse=True)
def ran():
    RAN.clear()
    return RAN


def read(folder, name="results.json"):
    return json.loads((folder / name).read_text())


def gain(folder):
    (claim,) = read(folder)["claims"]
    return claim


def test_blocks_end_at_the_looks():
    names = [blocks.name(part) for part in blocks.of(Config(seeds=9, first_seed=100))]
    assert names == ["100-103", "104-105", "106-108"]
    beyond = [blocks.name(part) for part in blocks.of(Config(seeds=11))]
    assert beyond == ["0-3", "4-5", "6-8", "9-10"]
    for alone in (Config(seeds=1), Config(seeds=3), Config(seeds=2, looks=(2,))):
        assert blocks.of(alone) == []


def test_auto_stops_at_the_look_that_decides(tmp_path, ran):
    folder = launch.run(STUDY, Config(seeds="auto", noise=2.0), tmp_path / "gains")
    values = [value(seed, 2.0) for seed in range(9)]
    verdicts = [
        runs.judge_all(claims(None), {"gain": values[:n]}, looks=(4, 6, 9))[0]
        for n in (4, 6, 9)
    ]
    first = next(
        n
        for n, own in zip((4, 6, 9), verdicts, strict=True)
        if own["verdict"] != "inconclusive"
    )
    assert first == 6  # neither the first look nor the last
    assert ran == [[0, 1, 2, 3], [4, 5]]
    assert gain(folder)["verdict"] == "reproduced"
    assert (gain(folder)["look"], gain(folder)["values"]) == (6, values[:6])
    assert read(folder, "config.json")["config"]["seeds"] == 6
    assert read(folder)["seeds"] == [0, 1, 2, 3, 4, 5]
    assert read(folder)["numbers_of"]["accuracy"] == runs.summary(values[:6])
    with np.load(folder / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["gain"], np.outer(values[:6], [1, 1]))
        assert arrays["x"].tolist() == [0, 1]
    assert "6 seeds</figcaption>" in report.write(tmp_path).read_text()


def test_finished_blocks_are_not_run_again_and_more_seeds_leave_them_alone(
    tmp_path, ran
):
    quiet = Config(noise=0.01)
    folder = launch.run(STUDY, dataclasses.replace(quiet, seeds="auto"), tmp_path / "g")
    assert ran == [[0, 1, 2, 3]]
    before = (folder / "seeds/0-3/seed2.json").read_bytes()
    launch.run(STUDY, dataclasses.replace(quiet, seeds=9), folder)
    assert ran == [[0, 1, 2, 3], [4, 5], [6, 7, 8]]
    assert (folder / "seeds/0-3/seed2.json").read_bytes() == before
    whole = read(folder)
    launch.run(STUDY, dataclasses.replace(quiet, seeds="auto"), folder)
    assert len(ran) == 3
    assert read(folder) == whole
    assert gain(folder)["look"] == 4  # a claim keeps the look that decided it
    with pytest.raises(runs.RunError, match="holds 9 seeds; give --seeds 9 or more"):
        launch.run(STUDY, dataclasses.replace(quiet, seeds=4), folder)


def test_a_kill_spoils_no_finished_block(tmp_path, ran, monkeypatch):
    config = Config(seeds=9, noise=0.01)
    monkeypatch.setattr("tests.experiments.gains.KILLED_AT", {4})
    with pytest.raises(RuntimeError, match="made it fail"):
        launch.run(STUDY, config, tmp_path / "gains")
    assert "made it fail" in report.write(tmp_path).read_text()
    (tmp_path / "gains/seeds/4-5/seed4.json").write_text("{}")  # half of a block
    monkeypatch.setattr("tests.experiments.gains.KILLED_AT", set())
    folder = launch.run(STUDY, config, tmp_path / "gains")
    assert ran == [[0, 1, 2, 3], [4, 5], [6, 7, 8]]
    assert gain(folder)["values"] == [value(seed, 0.01) for seed in range(4)]
    assert len(gain(folder)["later_values"]) == 5
    page = report.write(tmp_path).read_text()
    assert "Failed" not in page
    assert "later, not counted: 4, 5, 6, 7, 8" in page


def test_seeds_after_the_last_look_are_named(tmp_path):
    config = Config(seeds=8, looks=(4, 6), noise=0.01, first_seed=10)
    folder = launch.run(STUDY, config, tmp_path / "gains")
    assert read(folder)["later_seeds"] == [16, 17]
    page = report.write(tmp_path).read_text()
    assert "Seeds 16, 17 were run after the last declared look." in page


def test_seeds_between_looks_are_refused_before_any_work(tmp_path, capsys):
    words = r"a declared look \(4, 6, 9\), fewer .* or auto; got 5"
    with pytest.raises(ValueError, match=words):
        launch.run(STUDY, Config(seeds=5), tmp_path / "gains")
    assert not (tmp_path / "gains").exists()
    for looks in ((6, 4), (4, 4), (1, 4), ()):
        with pytest.raises(ValueError, match="looks must be ascending numbers of see"):
            Config(looks=looks)
    with pytest.raises(ValueError, match="unknown seeds 'all'"):
        Config(seeds="all")


@pytest.mark.parametrize("study", reproduce.STUDIES, ids=lambda study: study.name)
def test_each_digits_preset_declares_its_looks(study):
    found = study.presets["digits"]
    assert found.seeds == "auto"
    assert len(blocks.of(found)) == len(found.looks)
    for preset in study.presets.values():  # none has seeds that do not count
        assert preset.seeds in (1, "auto", *preset.looks)


def test_an_array_without_seeds_must_be_declared():
    own = [{"x": np.zeros(3)}, {"x": np.zeros(3)}]
    with pytest.raises(ValueError, match=re.escape("'x' of shape (3,) has no leading")):
        merging.arrays(own, [4, 2], ("y",))
    assert merging.arrays(own, [4, 2], ("x*",))["x"].shape == (3,)


def test_results_that_differ_stand_by_block():
    one, two = {"a": [[1], [2]], "b": 1, "c": 0.5}, {"a": [[3]], "b": 2, "c": 1.5}
    found = merging.results([one, two], ["0-1", "2-2"])
    assert found == {"a": [[1], [2], [3]], "b": {"0-1": 1, "2-2": 2}, "c": 1.0}


def test_another_config_is_refused_before_a_block_runs(tmp_path, ran):
    folder = launch.run(STUDY, Config(seeds="auto", noise=0.01), tmp_path / "gains")
    page = report.write(tmp_path).read_text()
    with pytest.raises(runs.RunError, match=r"config.noise: 0.01 there, 1.0 asked for"):
        launch.run(STUDY, Config(seeds=6, noise=1.0), folder)
    assert ran == [[0, 1, 2, 3]]
    assert report.write(tmp_path).read_text() == page


def test_images_that_do_not_fit_leave_no_folder(tmp_path, ran):
    def refuse(config, own):
        raise ValueError("they do not fit")

    study = dataclasses.replace(STUDY, own=refuse)
    images = data.Dataset(np.zeros((2, 4, 4, 3), np.uint8), np.arange(2), 2, "mine")
    own = Own(dataset={"train": images, "test": images})
    for seeds in (1, "auto"):
        with pytest.raises(ValueError, match="they do not fit"):
            blocks.run(study, Config(seeds=seeds), tmp_path / "gains", own=own)
    assert not (tmp_path / "gains").exists()
    assert ran == []


def test_the_page_is_written_after_each_study(tmp_path, monkeypatch, capsys):
    """Each study sees the page of those before it; a failed one does not stop it."""
    names, seen = ["first", "broken", "last"], []

    def of(name):
        def own(config, folder, progress):
            page = tmp_path / "digits" / "report.html"
            seen.append(page.read_text() if page.exists() else "")
            if name == "broken":
                raise RuntimeError("it broke")
            return compute(config, folder, progress)

        presets = {"digits": Config(seeds=1), "cifar10": Config()}
        return dataclasses.replace(STUDY, name=name, compute=own, presets=presets)

    monkeypatch.setattr(reproduce, "STUDIES", tuple(map(of, names)))
    arguments = reproduce.Arguments(preset="digits", workdir=tmp_path)
    assert reproduce.run(arguments) == 1
    assert seen[0] == ""
    assert 'id="first"' in seen[1]
    assert "it broke" not in seen[1]
    assert "it broke" in seen[2]
    said = capsys.readouterr().out
    assert re.search(r"first: it gains: preview, 3\.\d+ points", said)  # one seed
    assert "report: " in said


def test_the_command_takes_auto_and_looks(tmp_path, monkeypatch, capsys, ran):
    words = ["gains", "--preset", "digits", "--workdir", str(tmp_path / "digits/gains")]
    presets = {"digits": Config(noise=0.001), "cifar10": Config()}
    study = dataclasses.replace(STUDY, presets=presets)
    more = ["--seeds", "auto", "--looks", "2", "5"]
    monkeypatch.setattr("sys.argv", [*words, *more])
    launch.main(study)
    assert ran == [[0, 1]]
    assert "gains, 2 seeds: it gains: " in capsys.readouterr().out
    for wrong, said in (
        (["--seeds", "4", "--looks", "2", "5"], "declared look (2, 5)"),
        (["--looks", "5", "2"], "looks must be ascending numbers of seeds"),
        (["--seeds", "0"], "seeds must"),
    ):
        monkeypatch.setattr("sys.argv", [*words, *wrong])
        with pytest.raises(SystemExit) as stopped:
            launch.main(study)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
