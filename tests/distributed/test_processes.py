"""The same numbers on 1, 2, 4 and 8 devices of one process and on 8 of two."""

import ast
import shutil

import numpy as np
import pytest

from kd_heuristics import checkpoints, runs
from tests.data import prepared_fixture
from tests.distributed import launching, recipes

WORKER = ["-W", "error", "-m", "tests.distributed.worker"]

# Sums over a batch are taken in another order on each number of devices: float32's
# 6e-8, over sums of 1,024 terms and eight steps. The bias before the batch norm has no
# gradient but rounding, some 1e-7, which is why small numbers are compared absolutely.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process with 8 devices."""
    folder = tmp_path_factory.mktemp("results")
    prepared = {"train": 20, "test": 2}
    prepared_fixture.write(folder / "tfds", "caltech_birds2011", prepared)
    launching.run([*WORKER, str(folder), "1,8"], devices=8)
    return folder


@pytest.fixture(scope="module")
def others(alone):
    """Beside them those of 2 and 4 devices."""
    launching.run([*WORKER, str(alone), "2,4"], devices=8)
    return alone


@pytest.fixture(scope="module")
def pair(alone):
    """What two processes with 4 devices each print; their results lie there too."""
    shutil.copytree(alone / "saved", alone / "on_pair")
    shutil.rmtree(alone / "on_pair" / f"{recipes.STEPS:08d}")
    both = launching.begin_pair([*WORKER, str(alone)], devices=4)
    return [said(launching.end(process)[0]) for process in both]


def said(output):
    lines = [line.partition(": ") for line in output.splitlines()]
    return {name: value for name, _, value in lines}


def arrays(folder, name):
    return runs.RunFolder(folder).load_arrays(f"{name}.npz")


def assert_close(expected, found):
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, err_msg=name, **TOLERANCE)


@pytest.mark.parametrize("name", ["mesh8", "pair"])
def test_devices_and_processes_agree(name, alone, pair):
    assert_same_numbers(arrays(alone, "mesh1"), arrays(alone, name))


@pytest.mark.long
@pytest.mark.parametrize("name", ["mesh2", "mesh4"])
def test_fewer_devices_agree(name, others):
    assert_same_numbers(arrays(others, "mesh1"), arrays(others, name))


def assert_same_numbers(expected, found):
    assert_close(expected, found)
    # Counts are equal: which examples are right, and that each is counted once.
    for which in ("evaluation", "distilled", "curve/1", "curve/2"):
        for count in ("accuracy", "label"):
            key = f"{which}/{count}"
            np.testing.assert_array_equal(found[key], expected[key], err_msg=key)
        mean = recipes.SET.labels.mean()
        np.testing.assert_allclose(found[f"{which}/label"], mean, rtol=1e-12)


@pytest.mark.parametrize("name", ["members_spread", "pair_members"])
def test_members_shared_out_are_those_of_one_device(name, alone, pair):
    assert_close(arrays(alone, "members"), arrays(alone, name))


def trained(folder):
    start = "supervised/"
    found = arrays(folder, "mesh8")
    return {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}


@pytest.mark.parametrize("name", ["resumed", "pair_resumed"])
def test_a_checkpoint_of_8_devices_is_gone_on_with_elsewhere(name, alone, pair):
    assert_close(trained(alone), arrays(alone, name))


def test_two_processes_leave_a_checkpoint_that_one_reads(alone, pair):
    state = checkpoints.restore(alone / "on_pair", step=recipes.STEPS)
    saved = arrays(alone, "pair_resumed")
    kernel = state["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, saved["params/Dense_0/kernel"])


def test_a_signal_to_one_stops_both_at_one_step_and_nothing_is_lost(alone, pair):
    assert [found["stopped"] for found in pair] == ["(143, [3])"] * 2
    assert_close(trained(alone), arrays(alone, "pair_gone_on"))
    lines = [ast.literal_eval(found["lines"]) for found in pair]
    assert lines == [[recipes.LOG, recipes.STEPS]] * 2


def test_both_have_the_same_error(pair):
    for found in pair:
        assert found["error"] == "RunError: process 0 cannot read"
        assert found["untold"].startswith("HostError: process 0 returned a lock")
        assert "the objective became infinite or NaN in step 0" in found["nonfinite"]
        assert "a mesh of 2 processes needs all of their 8 devices" in found["mesh"]
