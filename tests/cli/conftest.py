"""A tiny model of one's own, its data, and checkpoints in every form that is read."""

import textwrap

import jax
import numpy as np
import pytest

from kd_heuristics import checkpoints, models
from kd_heuristics.cli import checkpoint

NETS = """
    import flax.linen as nn
    import jax.numpy as jnp
    from kd_heuristics import models

    class Net(nn.Module):
        num_classes: int
        units: int

        @nn.compact
        def __call__(self, images, train):
            x = images.reshape(len(images), -1)
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.units)(x))
            logits = nn.Dense(self.num_classes)(nn.relu(x))
            return logits, {"00_hidden": x, "01_logits": logits}

    def make(num_classes, units=3):
        return models.from_linen("net", Net(num_classes, units))

    def no_network(num_classes):
        return "a word"

    class Other(nn.Module):
        @nn.compact
        def __call__(self, images):
            return images

    def other_call(num_classes):
        return models.from_linen("other", Other())

    def of(inner):
        init = lambda key, images: {"params": inner(images)}
        apply = lambda variables, images: inner(images)
        return models.from_functions("other", init, apply)

    def other_size(num_classes):
        return of(lambda x: x.reshape(len(x), -1) @ jnp.ones((48, num_classes)))

    def other_rank(num_classes):
        return of(lambda x: x.reshape(*x.shape[:5], -1).swapaxes(4, 5))

    def maps(num_classes):
        return of(lambda x: x)

    def mistake(images):
        raise TypeError("no conversion of this to that")

    def own_mistake(num_classes):
        return of(lambda x: mistake(x))

    def more_classes(num_classes):
        return of(lambda x: x[:, 0, 0] @ jnp.ones((1, 3)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """nets.py, data.npz, and a.npz, b.npz and steps/ with the same two networks."""
    path = tmp_path_factory.mktemp("cli")
    (path / "nets.py").write_text(textwrap.dedent(NETS))
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 12), ("test", 8)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 4, 4, 1), np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 2
    np.savez(path / "data.npz", **arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(str(path))
        network = models.create("nets:make", 2)
        images = np.zeros((1, 4, 4, 1), np.float32)
        a, b = (network.init(jax.random.key(seed), images) for seed in (0, 1))
    checkpoint.save(path / "a.npz", a)
    checkpoint.save(path / "b.npz", b)
    checkpoint.save(path / "params.npz", a["params"])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), a, b)
    checkpoints.save(path / "steps", 5, stacked)
    checkpoints.save(path / "steps", 9, stacked)
    return path


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder, as the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def own():
    """The options that name the model and the data."""
    return ("--model", "nets:make", "--data", "data.npz", "--batch-size", "8")
