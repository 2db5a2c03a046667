"""Teachers: ensembles by their formulas, and that nothing ever changes them."""

import operator
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import data, distill, models, training
from tests.distill import oracles
from tests.distill.nets import IMAGES, quick, vgg

CLOSE = 2e-6
STUDENT = oracles.logits(0)
MEMBERS = [oracles.logits(seed) for seed in (1, 2, 3)]
INPUTS = jnp.ones(())


def scaled(variables, inputs):
    return variables["logits"] * inputs


TEACHERS = [distill.Teacher(scaled, {"logits": logits}) for logits in MEMBERS]


def softmax(logits, temperature):
    return np.exp(np.float64(oracles.log_softmax(logits, temperature)))


def test_mean_of_logits_is_the_geometric_mean_of_predictions():
    found = distill.mean_of_logits(TEACHERS)(INPUTS)
    np.testing.assert_allclose(found, np.mean(MEMBERS, 0), rtol=CLOSE, atol=1e-6)
    geometric = np.prod([softmax(z, 4.0) for z in MEMBERS], 0) ** (1 / 3)
    geometric /= geometric.sum(-1, keepdims=True)
    np.testing.assert_allclose(softmax(found, 4.0), geometric, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mean_of_probabilities_at_the_losss_temperature(temperature):
    teacher = distill.mean_of_probabilities(TEACHERS, temperature)
    expected = np.mean([softmax(z, temperature) for z in MEMBERS], 0)
    found = quick(lambda: jax.nn.softmax(teacher(INPUTS) / temperature))()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mean_of_probabilities_of_opposite_certainties():
    # exp(1e6) overflows, and the mean of log-probabilities would be -1e6.
    sure = [lambda x: x, lambda x: -x]
    logits = jnp.array([[1e4, -1e4]])
    found = quick(distill.mean_of_probabilities(sure, 1e-2))(logits)
    np.testing.assert_allclose(jax.nn.softmax(found / 1e-2), [[0.5, 0.5]], rtol=1e-5)


def test_sum_of_losses_adds_and_passes_arguments_on():
    loss = distill.sum_of_losses(distill.kl, TEACHERS)
    found = quick(lambda loss, *arguments: loss(*arguments))(loss, STUDENT, INPUTS, 2.0)
    expected = sum(oracles.kl(STUDENT, z, 2.0) for z in MEMBERS)
    np.testing.assert_allclose(found, np.float64(expected), rtol=CLOSE)


def test_the_three_ensembles_differ():
    logits = distill.mean_of_logits(TEACHERS)
    probabilities = distill.mean_of_probabilities(TEACHERS, 2.0)
    summed = distill.sum_of_losses(distill.kl, TEACHERS)

    def losses(student):
        return [
            distill.kl(student, logits(INPUTS), 2.0).sum(),
            distill.kl(student, probabilities(INPUTS), 2.0).sum(),
            summed(student, INPUTS, 2.0).sum(),
        ]

    gradients = quick(jax.jacrev(losses))(STUDENT)
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-2
    # Cross-entropy is linear in the targets: M times that of the mean prediction.
    np.testing.assert_allclose(gradients[2], 3 * gradients[1], atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda members: members[0],
        distill.mean_of_logits,
        distill.mean_of_probabilities,
        lambda members: (
            lambda x: distill.sum_of_losses(distill.kl, members)(
                jnp.asarray(STUDENT), x
            )
        ),
    ],
)
def test_no_gradient_reaches_variables_or_inputs(make):
    def value(members, inputs):
        return make(members)(inputs).sum()

    gradients = jax.grad(value, argnums=(0, 1))(TEACHERS, INPUTS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


@jax.custom_jvp
def underivable(x):
    return x + 1


@underivable.defjvp
def _(primals, tangents):
    raise AssertionError("the teacher was differentiated")


def test_a_teacher_is_not_even_differentiated():
    teacher = distill.Teacher(lambda w, x: underivable(w * x), jnp.float32(2))
    gradient = jax.grad(lambda t, x: x * t(x), argnums=1)
    assert quick(gradient)(teacher, INPUTS) == 3


def test_other_values_of_a_teacher_reuse_the_program():
    traces = []

    def apply(variables, inputs):
        traces.append(1)
        return variables * inputs

    call = quick(lambda teacher, inputs: teacher(inputs))
    assert float(call(distill.Teacher(apply, jnp.float32(2)), INPUTS)) == 2
    assert float(call(distill.Teacher(apply, jnp.float32(3)), INPUTS)) == 3
    assert len(traces) == 1


def test_training_a_student_never_updates_its_teacher():
    network = vgg(use_batch_norm=True)
    images = np.random.RandomState(0).randint(0, 256, (8, 8, 8, 3), np.uint8)
    dataset = data.Dataset(images, np.zeros(8, np.int32), 4)
    variables = network.init(jax.random.key(0), IMAGES)
    before = jax.tree.map(np.array, variables)
    teacher = distill.Teacher(
        lambda v, batch: network.apply(v, batch["images"].astype(jnp.float32)),
        variables,
    )

    def student(params, batch_stats, batch, key):
        pixels = batch["images"].reshape(len(batch["images"]), -1) / 255
        return pixels @ params, batch_stats

    state = training.fit(
        distill.matching_stage(student, teacher, distill.kl),
        jnp.zeros((8 * 8 * 3, 4)),
        {},
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
        data.train_batches(dataset, 4),
        num_steps=2,
    )
    assert np.any(state.params)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    jax.tree.map(np.testing.assert_array_equal, teacher.variables, before)


def test_stored_outputs_are_those_of_each_example():
    inputs = np.random.default_rng(0).normal(size=(7, 4, 4, 3)).astype(np.float32)
    batches = np.concatenate([inputs, np.full((2, 4, 4, 3), 9, np.float32)])
    teacher = distill.Teacher(
        lambda scale, x: distill.fsp_matrices([(scale * x, x)]), jnp.float32(2)
    )
    stored = distill.store(teacher, batches.reshape(3, 3, 4, 4, 3), 7)
    (kept,) = stored.variables
    assert kept.shape == (7, 3, 3)
    index = np.array([6, 0, 3])
    (found,) = quick(lambda t, batch: t(batch))(stored, {"index": index})
    np.testing.assert_allclose(found, teacher(inputs[index])[0], rtol=1e-6)


# Places outside a set of seven, in every type that holds them.
OUTSIDE = [
    *(np.array([place], np.int32) for place in (-1, -7, -8, 7, 2**31 - 1, -(2**31))),
    *(np.array([place], np.int64) for place in (-1, 2**32, 2**32 + 3, -(2**32) + 3)),
    np.array([-1], np.int8),
    np.array([255], np.uint8),
    np.array([2**32 - 1], np.uint32),
    np.array([2**63 + 2], np.uint64),
    np.array([data.UNLABELLED]),
]


@pytest.mark.parametrize("index", OUTSIDE, ids=lambda a: f"{a.dtype} {a[0]}")
@pytest.mark.parametrize("traced", [False, True])
def test_places_outside_the_set_are_nan(index, traced):
    outputs = np.arange(14, dtype=np.float32).reshape(7, 2)
    call = quick(lambda t, batch: t(batch)) if traced else lambda t, batch: t(batch)
    # A compiled call makes arrays of its arguments before this package sees them.
    if traced and index.dtype.itemsize == 8 and abs(int(index[0])) > 2**31:
        pytest.skip("jax.jit itself turns this number into another one")
    batches = outputs[:6].reshape(3, 2, 2)
    for teacher in (distill.stored(outputs), distill.store(lambda x: x, batches)):
        assert np.isnan(call(teacher, {"index": index})).all()
        inside = call(teacher, {"index": np.array([5], index.dtype)})
        np.testing.assert_array_equal(inside, outputs[5:6])


def test_stored_outputs_are_looked_up_by_integers():
    teacher = distill.stored(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r'"index".*index=True'):
        teacher({"images": np.zeros(1)})
    for index in (np.array([1.0]), np.array([True]), jnp.array([False])):
        with pytest.raises(ValueError, match=r"\"index\" holds .*wanted integers"):
            teacher({"index": index})
    with pytest.raises(ValueError, match="stored outputs are int32"):
        distill.stored(np.zeros((3, 2), np.int32))


def test_what_is_wrong_is_said():
    for make in (distill.mean_of_logits, distill.mean_of_probabilities):
        with pytest.raises(ValueError, match=r"at least one member, got none"):
            make([])
    with pytest.raises(ValueError, match=r"at least one member"):
        distill.sum_of_losses(distill.kl, [])
    with pytest.raises(ValueError, match=r"temperature must be above 0.*got -2"):
        distill.mean_of_probabilities(TEACHERS, -2.0)
    odd = distill.mean_of_logits([TEACHERS[0], lambda x: jnp.zeros((5, 3))])
    with pytest.raises(ValueError, match=r"members 0 and 1 .*\(5, 7\) and \(5, 3\)"):
        odd(INPUTS)
    with pytest.raises(ValueError, match=r"logits of member 0 have shape \(\)"):
        distill.mean_of_logits([lambda x: x])(INPUTS)
    with pytest.raises(ValueError, match=r"hold 4 examples, fewer than .*=5"):
        distill.store(lambda x: x, jnp.zeros((2, 2)), 5)
    with pytest.raises(ValueError, match=r"stored outputs are int32.*NaN"):
        distill.store(lambda x: (x, x.argmax(-1)), jnp.zeros((2, 2, 3)))


class Normed(nn.Module):
    """Batch norm of a dense layer's output, and dropout if asked for."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(3)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train, epsilon=0.1)(x)
        return nn.Dropout(self.rate, deterministic=not train)(x), {}


def normed(rate=0.0):
    network = models.from_linen("normed", Normed(rate))
    images = jnp.float32(np.random.default_rng(0).normal(size=(4, 2, 2, 1)))
    variables = network.init(jax.random.key(0), images)
    stats = {"BatchNorm_0": {"mean": jnp.arange(3.0), "var": jnp.arange(1.0, 4.0)}}
    return network, {**variables, "batch_stats": stats}, images


def test_a_network_teaches_by_running_or_by_batch_statistics():
    network, variables, images = normed()
    dense = variables["params"]["Dense_0"]
    x = np.float64(images).reshape(4, -1) @ np.float64(dense["kernel"])

    def teach(batch_norm):
        teacher = distill.from_network(
            network, variables, inputs=operator.itemgetter("x"), batch_norm=batch_norm
        )
        return quick(lambda t, b: t(b))(teacher, {"x": images})

    running = (x - np.arange(3)) / np.sqrt(np.arange(1, 4) + 0.1)
    np.testing.assert_allclose(teach("running"), running, rtol=1e-5, atol=1e-6)
    of_batch = (x - x.mean(0)) / np.sqrt(x.var(0) + 0.1)
    np.testing.assert_allclose(teach("batch"), of_batch, rtol=1e-5, atol=1e-6)
    assert variables["batch_stats"]["BatchNorm_0"]["mean"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"batch_norm 'train'.*Valid: running, batch"):
        teach("train")


def test_batch_statistics_draw_dropout_by_the_key():
    network, variables, images = normed(0.5)
    keys = jax.random.key(1), jax.random.key(1), jax.random.key(2)
    one, same, other = (
        distill.from_network(network, variables, batch_norm="batch", key=key)(images)
        for key in keys
    )
    np.testing.assert_array_equal(one, same)
    assert (one == 0).any()
    assert ((one == 0) != (other == 0)).any()


def test_an_average_of_parameters_teaches():
    """Against the recursion in NumPy: w falls by the rate times its gradient, x."""

    def objective(params, batch_stats, batch, key):
        return params["w"] * batch, (batch_stats, {})

    state = training.fit(
        objective,
        {"w": jnp.float32(1.0)},
        {},
        training.ema(optax.sgd(0.1), decay=0.75),
        lambda seed, step: jnp.float32(step),
        num_steps=4,
    )
    w = average = 1.0
    for step in range(4):
        w -= 0.1 * step
        average = 0.75 * average + 0.25 * w
    network = types.SimpleNamespace(apply=lambda v, x: v["params"]["w"] * x, train=None)
    params = training.ema_params(state.opt_state)
    variables = training.with_stats(params, state.batch_stats)
    found = distill.from_network(network, variables)(jnp.float32(2.0))
    np.testing.assert_allclose(found, 2 * average, rtol=1e-6)
    assert abs(average - w) > 0.1
