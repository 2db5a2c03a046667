"""connect, surface and similarity on a user's own model, through the program."""

import json

import numpy as np
import pytest
from flax import traverse_util

from kd_heuristics import cli


def oracle(folder, name, t=None, other=None):
    """Mean test loss in float64, statistics from all training images at once."""

    def load(file):
        flat = dict(np.load(folder / file))
        return traverse_util.unflatten_dict(flat, sep="/")["params"]

    params = load(name)
    if other is not None:
        end = load(other)
        params = {
            layer: {
                k: (1 - t) * v.astype(float) + t * end[layer][k] for k, v in own.items()
            }
            for layer, own in params.items()
        }
    data = np.load(folder / "data.npz")
    train = data["train_images"].astype(float)
    scale = train.mean(), train.std()

    def hidden(images):
        x = (images.reshape(len(images), -1) - scale[0]) / scale[1]
        return x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]

    # Two batches, of 8 and of 4 that are filled up: pooled over the 12 examples.
    inner = hidden(train)
    x = (hidden(data["test_images"].astype(float)) - inner.mean(0)) / np.sqrt(
        inner.var(0) + 1e-5
    )
    x = x * params["BatchNorm_0"]["scale"] + params["BatchNorm_0"]["bias"]
    logits = np.maximum(x, 0) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(8), data["test_labels"]].mean()


@pytest.fixture(scope="module")
def connected(folder):
    """connect's folder, with a curve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        words = "connect a.npz steps@5#1 --model nets:make --data data.npz --epochs 2"
        cli.main([*words.split(), "--train-batch-size", "6", "--num-points", "3"])
    return folder / "connect"


def test_connect_finds_the_losses_along_the_segment(connected, folder):
    results = json.loads((connected / "results.json").read_text())
    arrays = np.load(connected / "arrays.npz")
    assert set(results["paths"]) == {"segment", "curve"}
    expected = [
        oracle(folder, "a.npz"),
        oracle(folder, "a.npz", 0.5, "b.npz"),
        oracle(folder, "b.npz"),
    ]
    # float32 statistics and sums
    np.testing.assert_allclose(arrays["segment/test_loss"], expected, rtol=2e-5)
    np.testing.assert_allclose(
        results["paths"]["segment"]["test_loss"]["barrier"],
        max(0, expected[1] - max(expected[0], expected[2])),
        atol=2e-5,
    )
    assert (connected / "figures" / "path.png").stat().st_size > 5000


def test_surface_takes_the_bend_that_connect_wrote(connected, inside, own):
    words = ("surface", "a.npz", "b.npz", "connect/bend.npz", "--grid", "2", "3")
    cli.main([*words, *own])
    arrays = np.load(inside / "surface" / "arrays.npz")
    assert arrays["test_loss"].shape == (3, 2)
    width = np.load(inside / "connect" / "arrays.npz")
    assert np.isfinite(arrays["test_loss"]).all()
    assert width["t"].tolist() == [0, 0.5, 1]
    assert (inside / "surface" / "figures" / "surface.png").stat().st_size > 5000


def test_surface_of_two_networks_has_a_third_off_their_middle(inside, own):
    words = ("surface", "a.npz", "b.npz", "--grid", "2", "2", "--out", "two")
    cli.main([*words, *own])
    a, b, c = np.load(inside / "two" / "arrays.npz")["anchors"]
    np.testing.assert_allclose(a, 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(c - (a + b) / 2), b[0] / 2, rtol=1e-5)


def test_similarity_of_a_network_with_itself_is_one(inside, own):
    words = ("similarity", "a.npz", "steps#0", "--measure", "cka", "--conv", "mean")
    cli.main([*words, *own])
    found = np.load(inside / "similarity" / "arrays.npz")
    np.testing.assert_allclose(np.diagonal(found["map"]), 1, atol=1e-5)
    assert (np.diagonal(found["floor"]) < 0.9).all()
    results = json.loads((inside / "similarity" / "results.json").read_text())
    assert results["layers_a"] == ["00_hidden", "01_logits"]
    assert results["treatments_a"] == {"00_hidden": "none", "01_logits": "none"}


@pytest.mark.parametrize("measure", ["debiased_cka", "knn"])
def test_a_tested_similarity_has_p_values(inside, own, measure, capsys):
    words = ("similarity", "a.npz", "steps#0", "--measure", measure, "--conv", "mean")
    options = ("--k", "3", "--test", "--permutations", "39", "--out", measure)
    cli.main([*words, *options, *own])
    found = np.load(inside / measure / "arrays.npz")
    np.testing.assert_allclose(np.diagonal(found["map"]), 1, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(found["calibrated"]), 1, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(found["p_value"]), 1 / 40, atol=1e-6)
    assert (np.diagonal(found["floor"]) < 0.9).all()
    assert "p-value" in capsys.readouterr().out


def test_too_few_permutations_are_refused(inside, own, capsys):
    with pytest.raises(SystemExit):
        cli.main(
            ["similarity", "a.npz", "b.npz", "--test", "--permutations", "9", *own]
        )
    assert "at least 19" in capsys.readouterr().err
