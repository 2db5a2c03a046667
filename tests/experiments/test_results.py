"""Kept seeds: collected, never mixed, judged together; pages follow from the JSON."""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import pytest

from experiments import results
from experiments.common import judging, kept, launch, records, results_page
from kd_heuristics import runs
from kd_heuristics.runtime import onednn
from tests.experiments.gains import STUDY, Config, value

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = [STUDY.opening]


@pytest.fixture
def run(tmp_path):
    """A run of six seeds, in blocks of four and two."""
    config = Config(seeds="auto", noise=2.0)
    study = dataclasses.replace(STUDY, presets={"digits": config, "cifar10": config})
    return study, launch.run(study, config, tmp_path / "digits" / "gains")


def kept_in(run, tmp_path):
    study, folder = run
    target = tmp_path / "kept" / "gains-digits"
    assert kept.collect(folder, target) == [0, 1, 2, 3, 4, 5]
    return study, target


def test_the_kept_seeds_give_the_verdicts_of_the_run(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    found = kept.judged(study, "digits", target)
    (own,) = json.loads((run[1] / "results.json").read_text())["claims"]
    keys = ("verdict", "mean", "interval", "level", "values", "look", "seeds")
    (judged,) = found["claims"]
    assert {key: judged[key] for key in keys} == {key: own[key] for key in keys}
    assert found["seeds"] == found["counted"] == [0, 1, 2, 3, 4, 5]
    assert found["missing"] == found["later"] == found["code_differs"] == []
    assert found["config_differs"] == {}
    assert found["rules_differ"] == found["declared_since"] == []
    values = [value(seed, 2.0) for seed in range(6)]
    assert found["accuracies"]["numbers_of/accuracy"] == runs.summary(values)
    seed = json.loads((target / "seed4.json").read_text())
    assert seed["statistics"] == {"gain": value(4, 2.0)}
    assert seed["block"] == [4, 5]
    assert seed["block_cpu_seconds"] >= 0
    assert {"config", "code", "claims", "rules", "hardware"} <= {*seed}


def test_missing_seeds_are_named_and_later_ones_wait(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    (target / "seed2.json").unlink()
    found = kept.judged(study, "digits", target)
    assert found["counted"] == [0, 1]
    assert found["missing"] == [2, 6, 7, 8]
    assert found["claims"][0]["look"] is None
    page = results_page.page(STUDIES, [found])
    assert "Seeds missing: 2, 6, 7, 8." in page
    assert "Seeds 3, 4, 5 wait for a missing one." in page
    assert "| it gains | preview |" in page
    (target / "seed0.json").unlink()
    found = kept.judged(study, "digits", target)
    assert (found["counted"], found["missing"]) == ([], [0, 2, 6, 7, 8])
    assert found["claims"][0]["values"] == []
    page = results_page.page(STUDIES, [found])
    assert "Seeds 1, 3, 4, 5 wait for a missing one." in page
    assert "| it gains | preview | - | - |" in page


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "config.json",
            {"config": {"noise": 9.0}},
            "config.noise: 2.0 there, 9.0 ",
        ),
        (
            "code.json",
            {"experiments.other": "1" * 64},
            "experiments.other: None there",
        ),
        ("config.json", {"claims": [{"smallest_effect": 7.0}]}, "smallest_effect"),
    ],
)
def test_seeds_of_another_run_are_refused(run, tmp_path, file, change, words):
    _, target = kept_in(run, tmp_path)
    block = run[1] / "seeds" / "4-5"
    found = json.loads((block / file).read_text())
    for key, new in change.items():
        if isinstance(new, dict):
            found[key] |= new
        elif isinstance(new, list):
            found[key][0] |= new[0]
        else:
            found[key] = new
    (block / file).write_text(json.dumps(found))
    before = (target / "seed4.json").read_bytes()
    with pytest.raises(runs.RunError, match=f"(?s)another run than .*{words}.*remove"):
        kept.collect(run[1], target)
    assert (target / "seed4.json").read_bytes() == before


def test_a_seed_put_there_by_hand_is_refused(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    seed = json.loads((target / "seed5.json").read_text())
    (target / "seed5.json").write_text(json.dumps(seed | {"code": "0" * 16}))
    with pytest.raises(runs.RunError, match=r"seed5.json has another code than seed0"):
        kept.judged(study, "digits", target)


def test_what_has_changed_since_is_said(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    shared = json.loads((target / "run.json").read_text())
    shared["code"]["experiments.gone"] = "0" * 12
    shared["code"][onednn.VARIABLE] = "all"  # of that machine
    (target / "run.json").write_text(json.dumps(shared))
    other = dataclasses.replace(Config(seeds="auto", noise=2.0), batch_size=7)
    study = dataclasses.replace(study, presets={"digits": other, "cifar10": other})
    found = kept.judged(study, "digits", target)
    assert found["code_differs"] == ["experiments.gone"]
    assert found["config_differs"] == {"batch_size": [100, 7]}
    later = json.loads((target / "run.json").read_text())
    del later["config"]["noise"], later["config"]["eval_batch_size"]  # came later
    (target / "run.json").write_text(json.dumps(later))
    assert Config().eval_batch_size == other.eval_batch_size
    again = kept.judged(study, "digits", target)
    assert again["config_differs"] == {"noise": [None, 2.0], "batch_size": [100, 7]}
    page = results_page.page(STUDIES, [found])
    assert "Not run on the final code: 1 modules" in page
    assert "Not run with the present preset, which differs in `batch_size`." in page


def test_claims_changed_or_declared_since_are_named(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    shared = json.loads((target / "run.json").read_text())
    (claim,) = shared["claims"]
    shared["claims"] = [claim | {"smallest_effect": 7.0}, claim | {"key": "gone"}]
    (target / "run.json").write_text(json.dumps(shared))
    others = (*study.claims(None), dataclasses.replace(study.claims(None)[0], key="b"))
    study = dataclasses.replace(study, claims=lambda config: others)
    for path in target.glob("seed*.json"):
        seed = json.loads(path.read_text())
        seed["statistics"]["gone"] = 0.0
        path.write_text(json.dumps(seed))
    found = kept.judged(study, "digits", target)
    assert found["rules_differ"] == ["gain", "gone"]
    assert found["declared_since"] == ["b"]
    page = results_page.page(STUDIES, [found])
    assert "Rules have changed since, of `gain`, `gone`; shown" in page
    assert "Declared since, and not judged: `b`." in page


def test_a_note_beside_the_seeds_and_accepted_code_are_shown(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    before = results_page.page(STUDIES, [kept.judged(study, "digits", target)])
    assert "Started" not in before
    assert "other code" not in before
    (target / "note.txt").write_text("Started anew at seed 12.\n")
    for path in target.glob("seed*.json"):
        seed = json.loads(path.read_text())
        seed["accepted_code"] = {"map": ["kd_heuristics.similarity.cca"]}
        path.write_text(json.dumps(seed))
    page = results_page.page(STUDIES, [kept.judged(study, "digits", target)])
    assert "\nStarted anew at seed 12.\n" in page
    assert "uses what other code made (kd_heuristics.similarity.cca)" in page


def test_results_without_kept_seeds_are_removed(tmp_path):
    folder = tmp_path / "docs/results"
    folder.mkdir(parents=True)
    for name in ("sgdr-digits.json", "mine.json"):
        (folder / name).write_text("{}")
    results.judge(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["mine.json"]


def test_the_pages_show_the_numbers_of_the_json(run, tmp_path):
    study, target = kept_in(run, tmp_path)
    found = kept.judged(study, "digits", target)
    (claim,) = found["claims"]
    page, table = (
        make(STUDIES, [found]) for make in (results_page.page, results_page.readme)
    )
    (low, high), mean = claim["interval"], claim["mean"]
    row = f"| it gains | reproduced | {mean:.3g} points [{low:.3g}, {high:.3g}] |"
    assert row in page
    assert "1 of 1 main claims of the studies run are decided." in page
    assert f"it gains: reproduced ({claim['mean']:.3g} points)" in table
    (opening,) = STUDIES
    without = [opening | {"presets": ["cifar10"]}]
    assert opening["question"] not in results_page.page(without, [])
    nothing = results_page.page(STUDIES, [])
    assert "Not run on the final code." in nothing
    assert "not run on the final code" in results_page.readme(STUDIES, [])


def test_the_repositorys_pages_are_those_of_its_json():
    for path, text in results.pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"run make results: {path}"


def test_a_training_at_chance_is_named():
    seeds = [
        {
            "seed": seed,
            "statistics": {"gain": 9.0 + seed / 50},
            "trained": {"a": accuracy},
        }
        for seed, accuracy in ((5, 0.9), (6, 0.18), (7, None), (8, 0.2))
    ]
    below = judging.threshold({"dataset": "digits_photo"})
    assert below == pytest.approx(0.1 + 0.9 / 10)
    found = judging.failures(seeds, below)["trainings"]["a"]
    assert (found["seeds"], found["of"], found["share"]) == ([6, 7], 4, 0.5)
    (claim,) = STUDY.claims(None)
    needs = dataclasses.replace(claim, trainings=("a",))
    (judged,) = judging.judge([needs], (2,), seeds, below)
    assert (judged["failed"], judged["verdict"]) == ([1], "reproduced")  # of 5 and 8
    assert judged["mean"] == pytest.approx(np.mean([9.1, 9.16]))
    (judged,) = judging.judge([claim], (2,), seeds, below)
    assert judged["failed"] == []
    seeds[0]["trained"]["a"] = math.nan
    assert judging.failures(seeds, below)["trainings"]["a"]["seeds"] == [5, 6, 7]


@pytest.mark.parametrize("failed", [0.1, 0.9])
def test_a_claim_on_a_training_that_a_seed_lacks_is_an_error_of_ours(failed):
    (claim,) = STUDY.claims(None)
    needs = dataclasses.replace(claim, trainings=("a", "b"))
    seeds = [{"seed": 5, "statistics": {"gain": 9.0}, "trained": {"a": failed}}]
    with pytest.raises(ValueError, match="needs the training 'b', but seed 5 has a"):
        judging.judge([needs], (2,), seeds, 0.19)


def test_only_accuracies_are_kept_of_the_results():
    text = records.digest({"a": 1})
    assert re.fullmatch(r"[0-9a-f]{16}", text)
    assert text != records.digest({"a": 2})
