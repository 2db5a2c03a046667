"""Networks of Flax NNX and Equinox in the tools, as their users save and build them."""

import json
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from kd_heuristics import checkpoints, cli, models, points
from kd_heuristics.cli import checkpoint
from kd_heuristics.pytrees import leaf_names

NNX = """
    from flax import nnx
    from kd_heuristics import models

    class Net(nnx.Module):
        def __init__(self, num_classes, rngs):
            self.fc = nnx.Linear(16, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.value = nnx.Param(nnx.initializers.ones(rngs.params(), (1, 3)))
            self.blocks = nnx.List([nnx.Linear(3, num_classes, rngs=rngs)])

        def __call__(self, images):
            x = self.norm(self.fc(images.reshape(len(images), -1)))
            return self.blocks[0](self.dropout(nnx.relu(x * self.value[...])))

    def make(num_classes):
        return models.from_nnx("net", lambda rngs: Net(num_classes, rngs))
"""

EQUINOX = """
    import equinox as eqx
    import jax
    from kd_heuristics import models

    class Net(eqx.Module):
        fc: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __init__(self, num_classes, mode, key):
            keys = jax.random.split(key)
            self.fc = eqx.nn.Linear(16, 3, key=keys[0])
            self.norm = eqx.nn.BatchNorm(3, "batch", mode=mode, momentum=0.9)
            self.last = eqx.nn.Linear(3, num_classes, key=keys[1])

        def __call__(self, image, state):
            x, state = self.norm(self.fc(image.ravel()), state)
            return self.last(jax.nn.relu(x)), state

    def make(num_classes, mode="batch"):
        return models.from_equinox("net", lambda key: Net(num_classes, mode, key))
"""


@pytest.fixture
def nets(inside):
    for name, text in (("of_nnx", NNX), ("of_equinox", EQUINOX)):
        (inside / f"{name}.py").write_text(textwrap.dedent(text))
    return inside


def nnx_models(nets):
    import of_nnx  # pyrefly: ignore

    return [of_nnx.Net(2, nnx.Rngs(seed)) for seed in (0, 1)]


def by_checkpointer(path, model):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, nnx.state(model))
    return path


def by_checkpointer_plain(path, model):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, nnx.to_pure_dict(nnx.state(model)))
    return path


def by_manager(path, model):
    with ocp.CheckpointManager(path) as manager:
        manager.save(7, args=ocp.args.StandardSave(nnx.state(model)))
    return f"{path}@7"


def by_manager_item(path, model):
    items = {"model": ocp.args.StandardSave(nnx.state(model))}
    items["more"] = ocp.args.StandardSave({"fc": {"kernel": jnp.zeros((16, 3))}})
    with ocp.CheckpointManager(path) as manager:
        manager.save(7, args=ocp.args.Composite(**items))
    return path / "7" / "model"


def in_parts(path, model):
    parts = {"params": nnx.state(model, nnx.Param)}
    parts["batch_stats"] = nnx.state(model, nnx.BatchStat)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, parts)
    return path


def by_ours(path, model):
    checkpoints.save(path, 3, nnx.state(model))
    return path


WAYS = [by_checkpointer, by_checkpointer_plain, by_manager, by_manager_item, in_parts]
WAYS += [by_ours]


@pytest.mark.parametrize("way", WAYS)
def test_an_nnx_state_is_read_however_it_is_saved(way, nets, tmp_path):
    model = nnx_models(nets)[0]
    model.norm.mean[...] = jnp.array([1.0, 2.0, 3.0])
    place = checkpoint.parse(str(way(tmp_path / "saved", model)))
    network = models.create("of_nnx:make", 2)
    images = jnp.linspace(-1, 1, 48).reshape(3, 4, 4, 1)
    like = jax.eval_shape(network.init, jax.random.key(0), images)
    found = checkpoint.network(place, like)
    model.eval()
    np.testing.assert_array_equal(network.apply(found, images), model(images))


def test_connect_takes_nnx_states(nets, undrawn, tmp_path):
    ends = [
        str(by_checkpointer(tmp_path / str(index), model))
        for index, model in enumerate(nnx_models(nets))
    ]
    words = ("--model", "of_nnx:make", "--data", "data.npz", "--epochs", "1")
    cli.main(["connect", *ends, *words, "--out", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["distance"] > 0


def test_a_missing_array_is_named_by_what_is_there(nets, tmp_path, capsys):
    state = nnx.to_pure_dict(nnx.state(nnx_models(nets)[0]))
    del state["fc"]["kernel"], state["dropout"]
    checkpoint.save(tmp_path / "a.npz", state)
    words = ("--model", "of_nnx:make", "--data", "data.npz")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["connect", str(tmp_path / "a.npz"), "b.npz", *words])
    assert "has no params/fc/kernel" in capsys.readouterr().err


def equinox_ends(nets, mode, tmp_path):
    """Two networks after some training steps, saved; their variables."""
    network = models.create("of_equinox:make", 2, mode=mode)
    images = jnp.asarray(np.load("data.npz")["train_images"], jnp.float32) / 99
    found = []
    for seed in (0, 1):
        variables = network.init(jax.random.key(seed), images)
        for _ in range(3):
            _, stats = network.train(variables, images, jax.random.key(0))
            variables |= {"batch_stats": stats}
        checkpoints.save(tmp_path / str(seed), 1, variables)
        found.append(variables)
    return network, found


def logits_of(params, images, inner):
    """In float64, by the statistics of `inner`, which are of one layer exact."""

    def hidden(x):
        x = x.reshape(len(x), -1)
        return x @ params["fc"]["kernel"].T + params["fc"]["bias"]

    own, base = hidden(images), hidden(inner)
    x = (own - base.mean(0)) / np.sqrt(base.var(0) + 1e-5)
    x = x * params["norm"]["weight"] + params["norm"]["bias"]
    return np.maximum(x, 0) @ params["last"]["kernel"].T + params["last"]["bias"]


def widened(params):
    return jax.tree.map(lambda x: np.asarray(x, float), params)


@pytest.mark.parametrize("mode", ["batch", "ema"])
@pytest.mark.parametrize("pooled", [points.refit_pooled, points.refit_cumulative])
def test_statistics_of_equinox_are_estimated_anew(mode, pooled, nets, tmp_path):
    network, (variables, _) = equinox_ends(nets, mode, tmp_path)
    images = np.linspace(-1, 1, 192).reshape(1, 12, 4, 4, 1).astype(np.float32)

    def train(params, stats, batch):
        given = {"params": params, "batch_stats": stats}
        return network.train(given, batch["images"], jax.random.key(0))[1]

    refresh = pooled(train, variables["batch_stats"], {"images": jnp.asarray(images)})
    stats = jax.jit(refresh)(variables["params"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    found = network.apply(variables | {"batch_stats": stats}, jnp.asarray(images[0]))
    expected = logits_of(widened(variables["params"]), images[0], images[0])
    # float32 sums, divided by the deviations
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_the_tools_take_equinox_with_batch_norm(mode, nets, undrawn, tmp_path):
    _, ends = equinox_ends(nets, mode, tmp_path)
    words = ("--model", "of_equinox:make", "--model-options", f"mode={mode}")
    words += ("--data", "data.npz", "--pixels", "unit", "--batch-size", "12")
    both = (str(tmp_path / "0"), str(tmp_path / "1"))
    more = ("--epochs", "1", "--num-points", "3", "--out", str(tmp_path / "path"))
    cli.main(["connect", *both, *words, *more])
    bend = str(tmp_path / "path" / "bend.npz")
    out = str(tmp_path / "plane")
    cli.main(["surface", *both, bend, *words, "--grid", "2", "2", "--out", out])
    assert np.isfinite(np.load(tmp_path / "plane" / "arrays.npz")["test_loss"]).all()
    data = np.load("data.npz")
    train, test = (data[f"{part}_images"] / 255 for part in ("train", "test"))
    expected = []
    for t in (0, 0.5, 1):
        params = jax.tree.map(
            lambda a, b, t=t: (1 - t) * a + t * b,
            *(widened(end["params"]) for end in ends),
        )
        logits = logits_of(params, test, train)
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected.append(-logs[np.arange(len(logs)), data["test_labels"]].mean())
    found = np.load(tmp_path / "path" / "arrays.npz")["segment/test_loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["of_equinox", "of_nnx", "nets"])
def test_the_random_direction_has_filters_of_unit_ratio(
    name, nets, tmp_path, monkeypatch
):
    """Of the middle's own lengths, whichever axis the library keeps outputs on."""
    found = []
    monkeypatch.setattr(
        "kd_heuristics.cli.surface.landscape.plane",
        lambda *params, **_: found.append(params) or 1 / 0,
    )
    network = models.create(f"{name}:make", 2)
    for seed in (0, 1):
        variables = network.init(jax.random.key(seed), jnp.zeros((1, 4, 4, 1)))
        checkpoint.save(tmp_path / f"{seed}.npz", {"params": variables["params"]})
    ends = [str(tmp_path / f"{seed}.npz") for seed in (0, 1)]
    with pytest.raises(ZeroDivisionError):
        cli.main(["surface", *ends, "--model", f"{name}:make", "--data", "data.npz"])
    a, b, c = (leaf_names.flat(params) for params in found[0])
    kernels = [key for key in a if key.endswith("kernel")]
    assert len(kernels) == 2
    axis = 1 if name == "of_equinox" else 0
    ratios = []
    for key in kernels:
        x, y, z = (np.asarray(tree[key], float) for tree in (a, b, c))
        middle = (x + y) / 2
        ratios.append(
            np.linalg.norm(z - middle, axis=axis) / np.linalg.norm(middle, axis=axis)
        )
    # float32 lengths; one factor scales the whole direction
    ratios = np.concatenate(ratios)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


def test_states_that_cannot_be_estimated_are_refused_before_the_fit(
    nets, tmp_path, monkeypatch, capsys
):
    text = textwrap.dedent(EQUINOX).replace(
        "self.fc = eqx.nn.Linear(16, 3, key=keys[0])",
        'self.fc = eqx.nn.SpectralNorm(eqx.nn.Linear(16, 3, key=keys[0]), "weight", '
        "key=keys[1])",
    )
    text = text.replace("self.norm(self.fc(image.ravel()), state)", "SPECTRAL")
    text = text.replace(
        "x, state = SPECTRAL",
        "x, state = self.fc(image.ravel(), state); x, state = self.norm(x, state)",
    ).replace("fc: eqx.nn.Linear", "fc: eqx.nn.SpectralNorm")
    (nets / "spectral.py").write_text(text)
    network = models.create("spectral:make", 2)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    checkpoints.save(tmp_path / "0", 1, variables)
    monkeypatch.setattr("kd_heuristics.training.fit", lambda *_, **__: 1 / 0)
    words = ("--model", "spectral:make", "--data", "data.npz")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["connect", *[str(tmp_path / "0")] * 2, *words])
    assert 'leaves named "mean" and "var" in pairs' in capsys.readouterr().err
