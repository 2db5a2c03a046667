"""The SGDR study end to end: results, figures, kills, and the paper's schedule."""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import reproduce
from experiments.common import figures, launch, task
from experiments.common.study import StudyRun
from experiments.sgdr import figures as drawn
from experiments.sgdr import study as sgdr
from experiments.sgdr.iterates import Iterates
from kd_heuristics import checkpoints, report, runs, training
from tests.experiments import planned
from tests.experiments.silent import Silent

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 500  # an epoch of CIFAR-10 at batch 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return launch.run(
        sgdr.STUDY, sgdr.PRESETS["smoke"], tmp_path_factory.mktemp("smoke") / "sgdr"
    )


def test_leaves_what_the_run_folder_promises(folder):
    planned.check(sgdr.STUDY, folder, sgdr.PRESETS["smoke"])
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "code.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "stages",
        "arrays.npz",
        "results.json",
        "seed0.json",
        "figures",
    }
    figures = ("figure2", "figure3", "figure11", "figure14", "measures", "barriers")
    figures += ("rivals",)
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{name}.{kind}" for name in figures for kind in ("json", "png", "pdf")
    }


def test_every_number_has_its_seeds(folder):
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [0]
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    assert len(results["pairs"]) == 3
    for pair in results["pairs"]:
        assert len(pair["weight_distance"]["values"]) == 1
        assert pair["weight_distance"]["mean"] > 0


def test_paths_end_at_the_networks_own_loss(folder):
    config = sgdr.PRESETS["smoke"].resolved
    run = StudyRun(config, runs.RunFolder(folder), Silent(), by=sgdr.compute)
    its = task.make(config)
    nets = Iterates(run, its)
    with np.load(folder / "arrays.npz") as arrays:
        for arm in sgdr.ARMS:
            for a, b in config.pairs(arm):
                for index, epoch in ((0, a), (-1, b)):
                    params = nets.at(arm, 0, epoch)
                    for name, batches in its.sets.items():
                        own = training.evaluate(
                            its.classifier.metric, params, {}, batches
                        )
                        for path in ("segment", "chain"):
                            loss = arrays[f"{arm}/{a}-{b}/{path}/{name}_loss"][0, index]
                            np.testing.assert_allclose(loss, own["loss"], rtol=1e-6)


def test_minima_of_high_loss_fail_the_gate(folder):
    config = sgdr.PRESETS["smoke"].resolved
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    losses = arrays["sgdr/0-2/segment/train_loss"][0]
    ends = max(losses[0], losses[-1])
    for limit, valid in ((0.99 * ends, False), (1.01 * ends, True)):
        gated = dataclasses.replace(config, largest_end_loss=float(limit))
        found = sgdr.results(gated, arrays, [0])["statistics"]
        values = {key: own[0] for key, own in found.items()}
        for key in ("barrier/sgdr/0-2", "basins"):
            assert np.isfinite(values[key]) == valid, key
        assert np.isfinite(values["barrier/step/0-1"])


def test_statistics_of_averages_and_twins(folder):
    """The smoke run's arrays, with the numbers of the lenses made up."""
    config = sgdr.PRESETS["smoke"].resolved
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    results = json.loads((folder / "results.json").read_text())
    assert {*results["twins"]} == {"1"}
    assert results["minima"] == [0, 2]
    assert results["fge_minima"] == [0, 1, 2]
    own = {"last": 0.7, "ensemble": 0.85, "average": 0.1, "fge": 0.9}
    for kind, value in own.items():
        arrays[f"averages/{kind}/test_accuracy"] = np.array([value])
    for arm, value in (("sgdr", 0.8), ("cosine", 0.82), ("wsd", 0.79), ("linear", 1)):
        arrays[f"{arm}/test_accuracy"] = np.full((1, 3), float(value))
    along = np.full((1, 5), 0.8)
    for lowest, stable in ((0.79, 1), (0.77, 0)):
        along[0, 2] = lowest
        arrays["twin1/segment/test_accuracy"] = along
        found = sgdr.results(config, arrays, [0])["statistics"]
        assert found["instability/1"] == stable
    expected = {
        "averages/ensemble-last": 5.0,  # of the last minimum as it was trained
        "averages/ensemble-cosine": 3.0,
        "averages/average-last": -60.0,
        "averages/fge-last": 10.0,
        "averages/fge-ensemble": 5.0,
        "final-accuracy/wsd-sgdr": -1.0,
        "final-accuracy/linear-sgdr": 20.0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], err_msg=name)
    assert {c.source for c in sgdr.claims(config)} <= {*found}


def test_pairs_without_a_chain_have_a_segment_alone(folder):
    with np.load(folder / "arrays.npz") as file:
        arrays = {k: v for k, v in file.items() if "step/0-1/chain" not in k}
    config = sgdr.PRESETS["smoke"].resolved
    found = sgdr.results(config, arrays, [0]) | {"claims": []}
    (step,) = (pair for pair in found["pairs"] if pair["arm"] == "step")
    assert "relative_barrier" in step
    assert "gain" not in step
    described = json.loads((folder / "config.json").read_text())["config"]
    assert sgdr.figures.figures(described, found, arrays)["figure11"]


def test_a_warmup_lies_within_the_first_cycle():
    config = sgdr.PRESETS["digits"].resolved
    for arm in sgdr.ARMS:
        rate = np.asarray(jax.vmap(config.schedule(arm, 10))(np.arange(41)))
        np.testing.assert_allclose(rate[:41], rate[40] * np.arange(41) / 40, rtol=1e-5)
    assert config.joined("sgdr") == ((23, 55),)
    with pytest.raises(ValueError, match="warmup_epochs must end within the first"):
        dataclasses.replace(config, warmup_epochs=9)


# As many virtual devices as in this process: their number changes the threads of a
# device and with them the order of sums.
ENVIRONMENT = os.environ | {"JAX_NUM_CPU_DEVICES": str(len(jax.devices()))}


def start(workdir):
    words = ["experiments.sgdr", "--preset", "smoke", "--workdir", str(workdir)]
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(
        command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL
    )


def assert_ends_as(folder, other):
    for name in ("results.json", "arrays.npz", "config.json"):
        assert (other / name).read_bytes() == (folder / name).read_bytes(), name
    # A training that was repeated is logged after those that were not.
    lines, again = (
        (at / "metrics.jsonl").read_text().splitlines() for at in (folder, other)
    )
    assert sorted(again) == sorted(lines)
    record = json.loads((other / "environment.json").read_text())
    assert record["invocations"][-1]["finished"]
    return record["resumes"]


def kill_after(process, seconds):
    """SIGKILL unless the process ends by itself; whether it was killed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


# In seconds: `tests/faults/test_signals.py::test_a_program_that_is_killed`.
@pytest.mark.long
def test_killed_within_a_training_it_ends_the_same(folder, tmp_path):
    process = start(tmp_path / "run")
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "checkpoints" / "train" / "00000004").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    assert kill_after(process, 0.0)
    assert start(tmp_path / "run").wait() == 0
    assert assert_ends_as(folder, tmp_path / "run") == 1


@pytest.mark.long
def test_killed_at_random_moments_it_ends_the_same(folder, tmp_path):
    moments = random.Random(5)
    kills = 0
    for attempt in range(40):
        process = start(tmp_path / "run")
        # The start takes seconds; later attempts get more time, so that it ends.
        if not kill_after(process, 4 + 2 * attempt * moments.random()):
            break
        kills += 1
    assert process.returncode == 0
    assert kills >= 2
    assert assert_ends_as(folder, tmp_path / "run") >= 1


def test_rerunning_a_finished_study_changes_nothing(folder, undrawn):
    before = (folder / "arrays.npz").read_bytes()
    launch.run(sgdr.STUDY, sgdr.PRESETS["smoke"], folder)
    assert (folder / "arrays.npz").read_bytes() == before


def test_the_papers_learning_rate_trace():
    """Figure 2b: minima after epochs 10, 31, 72 and 153, counted from 0."""
    rate = sgdr.PRESETS["cifar10"].schedule("sgdr", STEPS)
    trace = np.array([float(rate(epoch * STEPS)) for epoch in range(200)])
    minima = [
        e for e in range(1, 199) if trace[e] < trace[e - 1] and trace[e] < trace[e + 1]
    ]
    assert minima == [10, 31, 72, 153]
    np.testing.assert_allclose(trace[minima], 1e-6, rtol=1e-3)
    np.testing.assert_allclose(trace[[0, 11, 32, 73, 154]], 0.05, rtol=1e-6)
    # The rate is held for the whole epoch.
    assert float(rate(4 * STEPS)) == float(rate(5 * STEPS - 1))


def test_exact_restarts_are_the_other_option():
    config = dataclasses.replace(sgdr.PRESETS["cifar10"], restarts="step")
    rate = config.schedule("sgdr", STEPS)
    for restart in (10, 30, 70, 150):
        assert float(rate(restart * STEPS)) == np.float32(0.05)
        assert float(rate(restart * STEPS - 1)) < 2e-6


def test_step_decay_of_the_paper():
    rate = sgdr.PRESETS["cifar10"].schedule("step", STEPS)
    values = [float(rate(e * STEPS)) for e in (0, 59, 60, 149, 150, 199)]
    np.testing.assert_allclose(
        values, [0.05, 0.05, 0.01, 0.01, 0.002, 0.002], rtol=1e-6
    )


def test_the_page_holds_the_study(folder):
    page = report.write(folder.parent).read_text()
    assert "data:image/webp;base64," in page
    assert "every fitted chain" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--preset", "cifar"], 2, "cifar10"),
        (["--dataset", "digit_photo"], 2, "did you mean 'digits_photo'"),
        (["--model", "vgg61"], 2, "did you mean 'vgg16'"),
        (["--epoch", "3"], 2, "--epochs"),
        (["--epochs", "0"], 2, "epochs must be at least 1, got 0"),
        (["--seeds", "0"], 2, "seeds must be at least 1, got 0"),
        (["--preset", "cifar10"], 1, "kd-heuristics prepare cifar10"),
        (["--workdir", "README.md"], 1, "cannot be written"),
        (["--workdir", "tests"], 1, "not a run folder"),
    ],
)
def test_bad_input_ends_with_one_message(
    arguments, status, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    if "--workdir" not in arguments:
        arguments = [*arguments, "--workdir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["sgdr", *arguments])
    with pytest.raises(SystemExit) as stop:
        launch.main(sgdr.STUDY)
    assert stop.value.code == status
    printed = capsys.readouterr()
    assert words in printed.err + printed.out
    assert not (tmp_path / "run").exists()


def test_another_config_in_the_folder_is_refused_and_nothing_is_lost(
    folder, monkeypatch, capsys
):
    before = {path: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
    words = ["--preset", "smoke", "--peak-rate", "0.5", "--workdir", str(folder)]
    monkeypatch.setattr(sys, "argv", ["sgdr", *words])
    with pytest.raises(SystemExit) as stop:
        launch.main(sgdr.STUDY)
    assert stop.value.code == 1
    assert "config.peak_rate: 0.02 there, 0.5 asked for" in capsys.readouterr().err
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_damaged_iterate_is_trained_again(folder, undrawn, tmp_path):
    """Also after the training is done: from the last whole checkpoint before it."""
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / "stages" / "sgdr-0-2-seed0.npz").unlink()
    shutil.rmtree(copy / "checkpoints" / "chains")
    checkpoint = copy / "checkpoints" / "train" / "00000012"
    (checkpoint / "manifest.ocdbt").write_bytes(b"")
    with pytest.warns(checkpoints.DamageWarning, match=f"step 12, {checkpoint}"):
        launch.run(sgdr.STUDY, sgdr.PRESETS["smoke"], copy)
    assert_ends_as(folder, copy)
    environment = json.loads((copy / "environment.json").read_text())
    whole, *_, resumed = (run["compilation"] for run in environment["invocations"])
    assert resumed["programs"] <= whole["programs"]
    assert whole["networks"]["advance"] == 3  # of training, twins, fitting chains
    for name, count in resumed["networks"].items():
        assert count <= whole["networks"][name], name


def test_what_other_code_trained_is_refused_or_accepted_and_said(
    folder, undrawn, tmp_path
):
    copy = tmp_path / "smoke" / "sgdr"
    shutil.copytree(folder, copy)
    record = copy / "checkpoints" / "train.code.json"
    (entry,) = json.loads(record.read_text())
    code = entry["code"]
    assert {"experiments.sgdr.study", "kd_heuristics.training.step"} <= {*code}
    assert not any(".plots" in name or ".report" in name for name in code)
    entry["code"] = code | {"kd_heuristics.points.moments": "old"}
    record.write_text(json.dumps([entry]))
    with pytest.raises(
        runs.CodeChangedError, match=r"differ: \S*points\.moments\. Add"
    ):
        launch.run(sgdr.STUDY, sgdr.PRESETS["smoke"], copy)
    assert "points.moments" in report.write(copy.parent).read_text()  # it failed
    launch.run(sgdr.STUDY, sgdr.PRESETS["smoke"], copy, "accept")
    assert (copy / "results.json").read_bytes() == (
        folder / "results.json"
    ).read_bytes()
    page = report.write(copy.parent).read_text()
    assert "Made by other code, and accepted: 1 of its parts." in page
    assert "<td>kd_heuristics.points.moments</td>" in page


def test_a_failing_study_is_reported_and_the_status_says_so(tmp_path, monkeypatch):
    def fail(config, folder, progress):
        raise training.NonFiniteError("the objective became nan")

    broken = dataclasses.replace(sgdr.STUDY, name="broken", compute=fail)
    monkeypatch.setattr(reproduce, "STUDIES", (broken,))
    arguments = reproduce.Arguments(preset="smoke", workdir=tmp_path)
    assert reproduce.run(arguments) == 1
    page = (tmp_path / "smoke" / "report.html").read_text()
    assert "NonFiniteError: the objective became nan" in page


def test_the_papers_curves_lie_behind_a_cifar10_figure(folder, tmp_path):
    copy = tmp_path / "cifar10" / "sgdr"
    shutil.copytree(folder, copy)
    described = json.loads((copy / "config.json").read_text())
    described["config"]["dataset"] = "cifar10"
    (copy / "config.json").write_text(json.dumps(described))
    shown = {
        place: [
            sum(series.paper and not series.hidden for series in panel.series)
            for panel in figures.described(sgdr.STUDY, place)["figure2"].panels
        ]
        for place in (folder, copy)
    }
    # A segment and a chain for each of three pairs; accuracies of two arms.
    assert shown == {folder: [0, 0, 0, 0], copy: [2, 0, 6, 6]}


@pytest.mark.long
def test_two_devices_bfloat16_and_two_seeds(tmp_path):
    config = dataclasses.replace(
        sgdr.PRESETS["smoke"],
        seeds=2,
        devices=2,
        dtype="bfloat16",
        batch_norm="device",
    )
    folder = launch.run(sgdr.STUDY, config, tmp_path / "sgdr")
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [0, 1]
    first, second = results["pairs"][0]["weight_distance"]["values"]
    assert first != second


@pytest.mark.parametrize("chained", ["last", "all"])
def test_the_legend_names_segments_and_chains(chained):
    config = {"sgdr_pairs": [(1, 3), (3, 7)], "step_pairs": []}
    kinds = {"1-3": ["segment"], "3-7": ["segment", "chain"]}
    if chained == "all":
        kinds["1-3"] = kinds["3-7"]
    arrays = {"t": np.linspace(0, 1, 3)} | {
        f"sgdr/{pair}/{kind}/{metric}": np.ones((2, 3))
        for pair, found in kinds.items()
        for kind in found
        for metric in ("train_accuracy", "test_accuracy", "test_loss")
    }
    first, *_ = drawn.figure11(config, arrays).panels
    words = [series.legend for series in first.series if series.legend]
    if chained == "all":
        assert words == ["segments (dashed)", "w1 to w3", "w3 to w7"]
    else:
        named = ["w1 to w3 (segment)", "w3 to w7 (segment)", "w3 to w7 (chain)"]
        assert words == named
