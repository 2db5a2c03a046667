"""The SGDR study end to end: results, figures, kills, and the paper's schedule."""

import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

from experiments import launch, sgdr
from kd_heuristics import report, runs, training

STEPS = 500  # an epoch of CIFAR-10 at batch 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return launch.run(
        sgdr.STUDY, sgdr.PRESETS["smoke"], tmp_path_factory.mktemp("smoke") / "sgdr"
    )


def test_leaves_what_the_run_folder_promises(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "stages",
        "arrays.npz",
        "results.json",
        "figures",
    }
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "figure2.png",
        "figure2.pdf",
        "barriers.png",
        "barriers.pdf",
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
    config = sgdr.PRESETS["smoke"]
    lab = sgdr.Laboratory(config, runs.RunFolder(folder), Silent())
    with np.load(folder / "arrays.npz") as arrays:
        for arm in sgdr.ARMS:
            for a, b in config.pairs(arm):
                for index, epoch in ((0, a), (-1, b)):
                    params = lab.iterate(arm, 0, epoch)
                    for name, batches in lab.sets.items():
                        own = training.evaluate(
                            lab.classifier.metric, params, {}, batches
                        )
                        for path in ("segment", "chain"):
                            loss = arrays[f"{arm}/{a}-{b}/{path}/{name}_loss"][0, index]
                            np.testing.assert_allclose(loss, own["loss"], rtol=1e-6)


class Silent:
    def start(self, steps):
        pass

    def stage(self, name):
        pass

    def advance(self, steps, loss=None):
        pass


def test_killed_at_any_moment_it_ends_the_same(folder, tmp_path):
    """SIGKILL at moments drawn at random, then the same command until it is through."""
    command = [sys.executable, "-m", "experiments.sgdr", "--preset", "smoke"]
    command += ["--workdir", str(tmp_path / "sgdr")]
    # The reference ran on four virtual devices; a study uses the first one only.
    moments = random.Random(5)
    kills = 0
    for attempt in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            # The start takes seconds; later attempts are given more time to get on.
            process.wait(timeout=4 + 3 * attempt * moments.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert process.returncode == 0
    assert kills >= 1
    for name in ("results.json", "arrays.npz", "metrics.jsonl", "config.json"):
        assert (tmp_path / "sgdr" / name).read_bytes() == (folder / name).read_bytes()
    record = json.loads((tmp_path / "sgdr" / "environment.json").read_text())
    assert record["resumes"] >= 1


def test_rerunning_a_finished_study_changes_nothing(folder):
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
    config = sgdr.dataclasses.replace(sgdr.PRESETS["cifar10"], restarts="step")
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
    assert "data:image/png;base64," in page
    assert "every fitted chain" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--preset", "cifar"], 2, "cifar10"),
        (["--dataset", "digit_photo"], 2, "digits_photo"),
        (["--model", "vgg61"], 2, "vgg16"),
        (["--epoch", "3"], 2, "--epochs"),
        (["--epochs", "5"], 2, "0..4"),
        (["--preset", "cifar10"], 1, "kd-heuristics prepare cifar10"),
        (["--workdir", "README.md"], 1, "cannot be written"),
        (["--workdir", "tests"], 1, "not a run folder"),
    ],
)
def test_bad_input_ends_with_one_message(arguments, status, words, tmp_path):
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path)}
    if "--workdir" not in arguments:
        arguments = [*arguments, "--workdir", str(tmp_path / "run")]
    result = subprocess.run(
        [sys.executable, "-m", "experiments.sgdr", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == status
    assert words in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
