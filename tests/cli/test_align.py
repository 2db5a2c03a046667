"""align, connect --align and sharpness, through the program."""

import json

import jax
import numpy as np
import pytest

from kd_heuristics import cli, models
from kd_heuristics.cli import checkpoint
from tests.selection import some_long


@pytest.fixture(scope="module")
def permuted(folder):
    """c.npz: the first network with its hidden units in another order."""
    order = np.array([2, 0, 1])
    arrays = dict(np.load(folder / "a.npz"))
    for name, array in arrays.items():
        if "BatchNorm" in name or name.endswith("Dense_0/bias"):
            arrays[name] = array[order]
    arrays["params/Dense_0/kernel"] = arrays["params/Dense_0/kernel"][:, order]
    arrays["params/Dense_1/kernel"] = arrays["params/Dense_1/kernel"][order]
    np.savez(folder / "c.npz", **arrays)
    return "c.npz"


@pytest.mark.parametrize(
    "method", some_long(["weights", "activations"], "activations".__eq__)
)
def test_align_undoes_a_permutation(permuted, inside, own, method, capsys):
    out = f"to_{method}"
    words = ["align", "a.npz", permuted, "--num-points", "3", "--out", out]
    cli.main([*words, "--method", method, *own])
    found = np.load(inside / out / "aligned.npz")
    for name, array in np.load(inside / "a.npz").items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    results = json.loads((inside / out / "results.json").read_text())
    assert results["distance"]["aligned"] == 0
    assert results["distance"]["as given"] > 0
    assert [group["units"] for group in results["groups"].values()] == [3]
    assert results["barrier"]["aligned"]["test_loss"] < 1e-6
    assert (inside / out / "figures" / "aligned.png").stat().st_size > 5000
    assert "1 groups of units, 3 units" in capsys.readouterr().out


def test_connect_aligns_first(permuted, inside, own):
    words = "connect a.npz c.npz --align --bends 0 --num-points 3 --out straight"
    cli.main([*words.split(), *own])
    arrays = np.load(inside / "straight" / "arrays.npz")
    losses = arrays["segment/train_loss"]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    results = json.loads((inside / "straight" / "results.json").read_text())
    assert results["aligned"]
    assert results["distance"] == 0
    assert (inside / "straight" / "aligned.npz").exists()


@pytest.fixture(scope="module")
def dense(folder):
    """The trace and largest eigenvalue of a.npz's Hessian, by dense algebra."""
    data = np.load(folder / "data.npz")
    train = data["train_images"].astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        network = models.create("nets:make", 2)
    inputs = (train - train.mean()) / train.std()
    like = network.init(jax.random.key(0), inputs)
    place = checkpoint.parse(str(folder / "a.npz"))
    variables = checkpoint.network(place, like)
    vector, tree = jax.flatten_util.ravel_pytree(variables["params"])

    def loss(vector):
        logits = network.apply(variables | {"params": tree(vector)}, inputs)
        logs = jax.nn.log_softmax(logits)
        return -logs[np.arange(12), data["train_labels"]].mean()

    return np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(loss))(vector)))


@pytest.mark.parametrize("devices", some_long(["1", "4"], "4".__eq__))
def test_sharpness_equals_dense_algebra(dense, inside, own, devices, capsys):
    words = ["sharpness", "a.npz", "b.npz", "--k", "2", "--seed", "3"]
    words += ["--devices", devices, "--out", f"curved{devices}"]
    cli.main([*words, *own, *(["--density"] if devices == "4" else [])])
    folder = inside / f"curved{devices}"
    results = json.loads((folder / "results.json").read_text())
    first, second = results["networks"]
    np.testing.assert_allclose(first["eigenvalues"], dense[:-3:-1], rtol=1e-4)
    whole = first["traces"]["all"]
    assert abs(whole["mean"] - dense.sum()) < 4 * whole["standard_error"]
    assert {*first["traces"]} == {"all", "BatchNorm_0", "Dense_0", "Dense_1"}
    assert second["eigenvalues"] != first["eigenvalues"]
    arrays = np.load(folder / "arrays.npz")
    assert ("weights" in arrays) == (devices == "4")
    if devices == "4":
        np.testing.assert_allclose(arrays["weights"].sum(1), 1, rtol=1e-4)
    assert (folder / "figures" / "sharpness.png").stat().st_size > 5000
    assert "train loss, running batch statistics" in capsys.readouterr().out


@pytest.mark.long
def test_sharpness_with_refit_statistics_is_another(inside, own):
    words = "sharpness a.npz --k 1 --num-products 5 --num-samples 2 --stats refit"
    cli.main([*words.split(), "--out", "refit", *own])
    results = json.loads((inside / "refit" / "results.json").read_text())
    assert results["stats"] == "refit"
    assert np.isfinite(results["networks"][0]["eigenvalues"]).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("align a.npz b.npz --num-points 2", "--num-points must be at least 3"),
        ("align a.npz data.npz", "has no params/"),
        ("align a.npz b.npz --seed 99999999999", "seed must be at most"),
        ("sharpness a.npz --seed 99999999999", "seed must be at most"),
        ("sharpness", "name a checkpoint or more"),
        ("sharpness a.npz --k 0", "--k must be in 1 to --num-products, 20, got 0"),
        ("sharpness a.npz --num-samples 1", "--num-samples must be at least 2"),
    ],
)
def test_bad_input_is_one_line(words, said, inside, own, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words.split(), *own])
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
