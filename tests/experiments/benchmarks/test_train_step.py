"""The benchmark of training steps: the contenders do the same; the table fills."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import train_step
from kd_heuristics import models

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(4, 32, 32, 3)).astype(np.float32)
LABELS = RANDOM.integers(0, 10, 4).astype(np.int32)
TINY = {"width": 0.05, "classifier_width": 8}


def test_scan_and_loop_take_the_same_steps():
    runs = []
    for kind in ("scan", "loop"):
        ours = train_step.Ours("shallow", TINY, IMAGES, LABELS)
        first = jax.tree.map(np.array, ours.state[0])
        getattr(ours, kind)(2)
        getattr(ours, kind)(2)
        runs.append(ours.state)
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, ours.state[0])
        assert max(jax.tree.leaves(moved)) > 1e-4
    for a, b in zip(*map(jax.tree.leaves, runs), strict=True):
        # four float32 steps, the same operations in two programs
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_steps_fill_a_turn():
    calls = []
    assert train_step.steps_for(0.0, lambda: calls.append(1)) == 2
    assert len(calls) == 2


@pytest.fixture(scope="module")
def torch_models():
    pytest.importorskip("torch")
    from experiments.benchmarks import torch_models

    return torch_models


def test_networks_are_of_one_size(torch_models):
    for name, options in train_step.CASES.values():
        network = models.create(name, 10, **options)
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.asarray(IMAGES))
        ours = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        rival = torch_models.Rival(name, options, IMAGES, LABELS)
        assert rival.num_parameters == ours, name


def arrays(tree):
    """The parameters in the order in which the layers are called."""
    layers = ["conv", "bn", "block", "conv_0", "bn_0", "conv_1", "bn_1"]
    layers += ["shortcut_conv", "shortcut_bn", "fc", "kernel", "scale", "bias"]

    def place(name):
        exact = name if name in layers else name.split("_")[0]
        return layers.index(exact), name

    for name in sorted(tree, key=place):
        if isinstance(tree[name], dict):
            yield from arrays(tree[name])
        else:
            yield np.asarray(tree[name])


@pytest.mark.parametrize(
    ("name", "options"),
    [("vgg11", TINY), ("resnet8", {"width": 0.25}), ("resnet18", {"width": 0.05})],
)
def test_networks_compute_the_same(torch_models, name, options):
    torch = torch_models.torch
    network = models.create(name, 10, **options)
    variables = network.init(jax.random.key(0), jnp.asarray(IMAGES))
    rival = torch_models.Rival(name, options, IMAGES, LABELS)
    own = list(arrays(variables["params"]))
    with torch.inference_mode():
        for theirs, array in zip(rival.model.parameters(), own, strict=True):
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
            theirs.copy_(torch.from_numpy(array.transpose(axes).copy()))
        pixels = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())
        expected = rival.model.eval()(pixels).numpy()
    found = jax.jit(network.apply)(variables, jnp.asarray(IMAGES))
    # float32 through up to 18 layers; running statistics are 0 and 1 in both
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_a_row_of_the_table(torch_models, monkeypatch):
    monkeypatch.setitem(train_step.CASES, "tiny", ("vgg11", TINY))
    config = train_step.Config(models=("tiny",), batch=2, repeats=1, seconds=0.001)
    row = train_step.measure_case(config, "tiny", torch_models, 1)
    assert len(row) + 1 == train_step.HEADER[0].count("|") - 1
    numbers = [float(x.replace(",", "")) for x in re.findall(r"\d[\d,.]*\d", row[1])]
    assert min(numbers) > 0
