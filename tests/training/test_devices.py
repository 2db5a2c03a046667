"""Batches over a mesh and in micro-batches, against one device and one pass."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import checkpoints, data, models, training
from kd_heuristics.models import layers
from kd_heuristics.models.normalization import BatchNorm
from kd_heuristics.runtime import parallel
from tests.grouped import grouped


class ConvNet(nn.Module):
    """A convolution, a batch norm and a dense layer: what differs over devices."""

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.convolution(6, 3)(images)
        x = nn.relu(BatchNorm(use_running_average=not train)(x))
        return nn.Dense(4)(x.mean((1, 2))), {}


RNG = np.random.RandomState(1)
SET = data.Dataset(
    RNG.randint(0, 256, (40, 8, 8, 3)).astype(np.uint8),
    RNG.randint(0, 4, 40).astype(np.int32),
    4,
)
BATCHES = data.train_batches(SET, 16, padding=2, flip=True)
OPTIMIZER = training.sgd(0.01, 0.9, weight_decay=1e-3)
UNDECAYED = training.sgd(0.01, 0.9)  # of parameters without kernels
NETWORK = models.from_linen("tiny", ConvNet())
CLASSIFIER = training.Classifier(NETWORK, (127.0,) * 3, (60.0,) * 3)


@functools.cache
def start():
    variables = NETWORK.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return variables["params"], variables["batch_stats"]


@functools.cache
def train(num_devices, micro_batches=1):
    """The state after four steps, and the mean loss."""
    losses = []
    state = training.fit(
        CLASSIFIER.supervised,
        *start(),
        OPTIMIZER,
        BATCHES,
        num_steps=4,
        micro_batches=micro_batches,
        mesh=None if num_devices is None else parallel.mesh(num_devices),
        logging=training.Logging(progress=lambda steps, loss: losses.append(loss)),
    )
    return state, losses[0]


# Sums over the batch run in another order on each number of devices: float32's 6e-8,
# over sums of 1,024 terms and four steps.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("num_devices", [1, 2, 3, 4])  # a batch is of 16
def test_any_number_of_devices_gives_the_same_training(num_devices):
    expected, loss = train(None)
    state, split_loss = train(num_devices)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)
        assert len(b.devices()) == num_devices


@pytest.mark.parametrize("num_devices", [2, 4])
def test_a_ragged_set_counts_each_example_once_on_a_mesh(num_devices):
    params, batch_stats = train(None)[0].params, train(None)[0].batch_stats
    plain = data.eval_batches(SET, 12)  # 40 = 3 * 12 + 4
    mesh = parallel.mesh(num_devices)
    alone = training.evaluate(CLASSIFIER.metric, params, batch_stats, plain)
    split = training.evaluate(CLASSIFIER.metric, params, batch_stats, plain, mesh=mesh)
    whole = CLASSIFIER.metric(
        params,
        batch_stats,
        {
            "images": jnp.asarray(SET.images),
            "labels": jnp.asarray(SET.labels),
            "mask": jnp.ones(40, bool),
        },
    )
    for name in alone:
        assert split[name] == pytest.approx(alone[name], rel=1e-5)
        assert alone[name] == pytest.approx(float(whole[name].mean()), rel=1e-5)


def test_micro_batches_average_gradients_and_have_their_own_statistics():
    state, loss = train(None, micro_batches=2)
    split, split_loss = train(3, micro_batches=2)  # of 8, over 3 devices
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)
    # One step by hand: the mean of the parts' gradients, the statistics moved twice.
    params, batch_stats = start()
    key = jax.random.fold_in(jax.random.key(0), 0)
    keys = jax.random.split(key, 2)
    batch = BATCHES(0, 0)
    parts = [{name: leaf[i::2] for name, leaf in batch.items()} for i in range(2)]
    gradients = []
    for index, part in enumerate(parts):
        gradient, (batch_stats, _) = jax.jit(
            jax.grad(CLASSIFIER.supervised, has_aux=True)
        )(params, batch_stats, part, keys[index])
        gradients.append(gradient)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 2, *gradients)
    updates, _ = OPTIMIZER.update(mean, OPTIMIZER.init(params), params)
    one = training.fit(
        CLASSIFIER.supervised,
        *start(),
        OPTIMIZER,
        BATCHES,
        num_steps=1,
        micro_batches=2,
    )
    expected = jax.tree.map(jnp.add, params, updates), batch_stats
    for a, b in zip(
        jax.tree.leaves(expected),
        jax.tree.leaves((one.params, one.batch_stats)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **TOLERANCE)


def test_a_checkpoint_moves_to_another_number_of_devices(tmp_path):
    state = train(4)[0]
    checkpoints.save(tmp_path, 4, state)
    two = parallel.replicate(
        jax.tree.map(jnp.zeros_like, train(None)[0]), parallel.mesh(2)
    )
    for like, count in ((two, 2), (train(None)[0], 1)):
        moved = checkpoints.restore(tmp_path, like)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
            np.testing.assert_array_equal(a, b)
            assert len(b.devices()) == count


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"micro_batches": 3}, "a batch of 16 cannot be split into 3 micro-batches"),
        ({"micro_batches": 0}, "micro_batches must be at least 1, got 0"),
        (
            {"mesh": 3, "batch_norm": "device"},
            "a batch of 16 cannot be split over 3 devices",
        ),
        (
            {"mesh": 4, "micro_batches": 8, "batch_norm": "device"},
            "a batch of 2 cannot be split over 4",
        ),
    ],
)
def test_what_does_not_divide_is_refused(options, words):
    if "mesh" in options:
        options = options | {"mesh": parallel.mesh(options["mesh"])}
    with pytest.raises(ValueError, match=words):
        training.fit(
            CLASSIFIER.supervised,
            *start(),
            OPTIMIZER,
            BATCHES,
            num_steps=1,
            **grouped(options),
        )


def test_a_mesh_of_too_many_devices_is_refused():
    with pytest.raises(ValueError, match="mesh of 99 devices needs 1 to 4"):
        parallel.mesh(99)


def test_each_device_has_its_share_of_the_batch():
    found = []

    def objective(weight, batch_stats, batch, key):
        jax.debug.inspect_array_sharding(batch["images"], callback=found.append)
        images = batch["images"].astype(jnp.float32)
        return (weight * images).mean(), (batch_stats, {})

    training.fit(
        objective,
        jnp.float32(1),
        {},
        UNDECAYED,
        BATCHES,
        num_steps=1,
        mesh=parallel.mesh(4),
    )
    assert found[0].shard_shape((16, 8, 8, 3)) == (4, 8, 8, 3)


class GhostNet(nn.Module):
    """`ConvNet` with the statistics of 4 parts of a batch."""

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.convolution(6, 3)(images)
        norm = BatchNorm(use_running_average=not train, groups=4, name="BatchNorm_0")
        return nn.Dense(4)(nn.relu(norm(x)).mean((1, 2))), {}


def test_statistics_of_each_device_are_those_of_parts_of_a_batch():
    ghost = training.Classifier(
        models.from_linen("ghost", GhostNet()), CLASSIFIER.mean, CLASSIFIER.std
    )
    found = [
        training.fit(
            classifier.supervised,
            *start(),
            OPTIMIZER,
            BATCHES,
            num_steps=4,
            **grouped(options),
        )
        for classifier, options in (
            (ghost, {}),
            (CLASSIFIER, {"mesh": parallel.mesh(4), "batch_norm": "device"}),
        )
    ]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)
    # And they differ from those of the whole batch.
    var = found[1].batch_stats["BatchNorm_0"]["var"]
    assert not np.allclose(var, train(None)[0].batch_stats["BatchNorm_0"]["var"])


def test_each_device_draws_for_itself():
    def objective(weight, batch_stats, batch, key):
        return weight * jax.random.uniform(key), (batch_stats, {})

    means = []
    training.fit(
        objective,
        jnp.float32(1),
        {},
        UNDECAYED,
        BATCHES,
        num_steps=1,
        mesh=parallel.mesh(4),
        batch_norm="device",
        logging=training.Logging(progress=lambda steps, loss: means.append(loss)),
    )
    key = jax.random.fold_in(jax.random.key(0), 0)
    keys = [jax.random.fold_in(key, device) for device in range(4)]
    expected = np.mean([jax.random.uniform(key) for key in keys])
    assert means == [pytest.approx(expected, rel=1e-6)]


def with_numbers(params, batch_stats, batch, key):
    loss = ((batch["x"] * params) ** 2).mean() * batch["scale"]
    return loss, (batch_stats, {"scale": batch["scale"], "weight": 2, "half": 0.5})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"micro_batches": 2},
        {"mesh": parallel.mesh(2)},
        {"mesh": parallel.mesh(2), "micro_batches": 2},
        {"mesh": parallel.mesh(2), "batch_norm": "device"},
    ],
)
def test_batches_and_metrics_may_hold_python_numbers(tmp_path, options):
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    training.fit(
        with_numbers,
        jnp.float32(1),
        {},
        UNDECAYED,
        lambda seed, step: {"x": jnp.ones(8), "scale": 0.25},
        num_steps=2,
        **grouped(options, metrics=metrics),
    )
    (line,) = metrics.read()
    assert (line["scale"], line["weight"], line["half"]) == (0.25, 2.0, 0.5)


def test_an_unknown_batch_norm_is_refused():
    with pytest.raises(ValueError, match="did you mean 'device'"):
        training.fit(
            CLASSIFIER.supervised,
            *start(),
            UNDECAYED,
            BATCHES,
            num_steps=1,
            batch_norm="devices",
        )
