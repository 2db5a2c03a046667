"""Stored teachers that keep the largest logits, and batches that do not match them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import data, distill
from tests.distill import oracles
from tests.distill.nets import quick

CLASSES, UNITS, KEPT = 1000, 48, 32
PLACES = np.arange(256)


def examples(count, seed):
    """Points around 1,000 centres, in 50 groups of classes that are alike."""
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.normal(size=(50, UNITS)), CLASSES // 50, 0)
    centres = groups + 0.6 * rng.normal(size=(CLASSES, UNITS))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    return np.float32(centres[labels] + rng.normal(size=(count, UNITS)) / 2), labels


def network(params, inputs):
    return jax.nn.relu(inputs @ params["a"]) @ params["b"]


def start(seed, width):
    rng = np.random.default_rng(seed)
    shapes = {"a": (UNITS, width), "b": (width, CLASSES)}
    draw = {k: rng.normal(size=s) / np.sqrt(s[0]) for k, s in shapes.items()}
    return {"a": jnp.float32(draw["a"]), "b": jnp.float32(0.1 * draw["b"])}


@functools.cache
def trained():
    """Logits [256, 1000] of a teacher on other images than it learned, and images."""
    inputs, labels = examples(8000, 1)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def run(params, inputs, labels):
        def loss(params, rows):
            logits = network(params, inputs[rows])
            return distill.hard_labels(logits, labels[rows]).mean()

        def step(state, number):
            params, own = state
            key = jax.random.fold_in(jax.random.key(0), number)
            rows = jax.random.randint(key, (400,), 0, len(inputs))
            updates, own = optimizer.update(jax.grad(loss)(params, rows), own, params)
            return (optax.apply_updates(params, updates), own), None

        first = params, optimizer.init(params)
        return jax.lax.scan(step, first, jnp.arange(300))[0][0]

    params = run(start(1, 128), inputs, labels)
    unseen, their_labels = examples(len(PLACES), 2)
    logits = np.asarray(network(params, unseen))
    assert (logits.argmax(-1) == their_labels).mean() > 0.95
    return logits, unseen


def softmax(logits, temperature):
    return np.float64(np.exp(oracles.log_softmax(logits, temperature)))


def size(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def gradient_error(temperature):
    """Of a student's last layer, against T (q - p) of all logits in float64 NumPy."""
    logits, inputs = trained()
    student = start(5, 32)
    teacher = distill.stored(logits, largest=KEPT, temperature=temperature)

    @quick
    def gradient(teacher, last):
        def loss(last):
            targets = teacher({"index": PLACES})
            own = network({**student, "b": last}, inputs)
            return distill.kl(own, targets, temperature).mean()

        return jax.grad(loss)(last)

    hidden = np.maximum(np.float64(inputs) @ np.float64(student["a"]), 0)
    own = hidden @ np.float64(student["b"])
    q, p = softmax(own, temperature), softmax(logits, temperature)
    expected = temperature * hidden.T @ (q - p) / len(PLACES)
    return relative(gradient(teacher, student["b"]), expected)


def test_32_of_1000_classes_take_4_percent_and_give_the_gradient_to_1_percent():
    logits, _ = trained()
    teacher = distill.stored(logits, largest=KEPT)
    of_rows = size(teacher.variables) - CLASSES  # a mask of the classes, once
    assert of_rows / logits.nbytes <= 0.034
    assert size(distill.stored(np.tile(logits, (20, 1)), largest=KEPT).variables) <= (
        0.04 * 20 * logits.nbytes
    )
    assert gradient_error(1.0) <= 0.01  # 0.0006 was measured
    # As its docstring says, a softer prediction takes more of them.
    assert 0.01 < gradient_error(2.0) < 0.1 < gradient_error(4.0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_kept_and_the_joint_probability_of_the_rest_are_the_teachers(temperature):
    logits, _ = trained()
    teacher = distill.stored(logits, largest=KEPT, temperature=temperature)
    found = softmax(teacher({"index": PLACES}), temperature)
    full = softmax(logits, temperature)
    order = np.argsort(-logits, -1, kind="stable")
    kept, rest = order[:, :KEPT], order[:, KEPT:]
    # float16 rounds a difference of 30 by 0.008.
    np.testing.assert_allclose(
        np.take_along_axis(found, kept, -1),
        np.take_along_axis(full, kept, -1),
        rtol=0.01,
    )
    left, expected = (np.take_along_axis(x, rest, -1) for x in (found, full))
    np.testing.assert_allclose(left.sum(-1), expected.sum(-1), rtol=0.002)
    np.testing.assert_allclose(left, left[:, :1] * np.ones(rest.shape), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_all_classes_are_the_full_store_to_the_bit(dtype):
    logits = jnp.asarray(trained()[0], dtype)
    whole, every = (distill.stored(logits, largest=n) for n in (None, CLASSES))
    index = {"index": np.array([7, 0, -1])}
    found, expected = (np.asarray(t(index)).tobytes() for t in (every, whole))
    assert found == expected
    assert every(index).dtype == dtype
    assert size(whole.variables) == size(every.variables)


def test_a_store_computes_batch_by_batch_what_stored_outputs_are_cut_to():
    logits = oracles.logits(3)[:4].reshape(2, 2, 7)
    store = functools.partial(distill.store, lambda x: 2 * x, logits, 3)
    made = store(largest=3, temperature=2.0)
    given = distill.stored(2 * logits.reshape(4, 7)[:3], largest=3, temperature=2.0)
    jax.tree.map(np.testing.assert_array_equal, made.variables, given.variables)
    index = {"index": np.array([2, 0])}
    np.testing.assert_array_equal(quick(lambda t, b: t(b))(made, index), made(index))
    assert np.isnan(made({"index": np.array([3, -1])})).all()


def test_logits_of_positions_and_classes_that_all_rows_mask():
    logits = np.random.default_rng(0).normal(size=(3, 2, 6)).astype(np.float32)
    logits[..., 4] = -np.inf
    found = distill.stored(logits, largest=2)({"index": np.arange(3)})
    assert found.shape == logits.shape
    probabilities = softmax(found, 1.0)
    assert not probabilities[..., 4].any()
    np.testing.assert_allclose(
        np.sort(probabilities, -1)[..., -2:],
        np.sort(softmax(logits, 1.0), -1)[..., -2:],
        rtol=2e-3,
    )
    # As many as there are: nothing is left to spread.
    kept = distill.stored(logits, largest=5)({"index": np.arange(3)})
    np.testing.assert_allclose(kept, logits, rtol=2e-3, atol=2e-3)
    # Logits further apart than float16 reaches stay classes.
    far = distill.stored(np.float32([[0, -1e6, -2e6]]), largest=2)
    assert np.isfinite(far({"index": np.array([0])})).all()


def test_bad_numbers_of_logits_are_refused():
    logits = oracles.logits(0)
    for make in (
        distill.stored,
        lambda x, **n: distill.store(lambda y: y, x[None], **n),
    ):
        for largest, words in (
            (8, "at most 7.*there are 7 classes"),
            (0, "at least 1"),
        ):
            with pytest.raises(ValueError, match=f"largest must be {words}"):
                make(logits, largest=largest)
        with pytest.raises(ValueError, match="temperature must be above 0"):
            make(logits, largest=2, temperature=0.0)
        some = logits.copy()
        some[1, 3] = -np.inf
        with pytest.raises(ValueError, match=r"class 3 is -inf in some rows.*without"):
            make(some, largest=2)
        with pytest.raises(ValueError, match=r"keeps logits \(num.*\(\d.*leave out"):
            make(logits[:, 0], largest=1)
    with pytest.raises(ValueError, match=r"keeps logits .*got outputs of \(5, 7\), "):
        distill.stored((logits, logits), largest=2)


@pytest.fixture
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8)
    return data.Dataset(images, np.zeros(8, np.int32), 2)


@pytest.mark.parametrize("options", [{"padding": 1}, {"flip": True}])
def test_outputs_on_originals_refuse_augmented_batches(dataset, options):
    made = distill.store(
        lambda x: x / 2.0, np.float32(dataset.images).reshape(2, 4, 16)
    )
    batch = data.train_batches(dataset, 2, index=True, **options)(0, 0)
    with pytest.raises(ValueError, match=r"images are augmented.*ensemble_targets"):
        made(batch)
    plain = data.train_batches(dataset, 2, index=True)(0, 0)
    np.testing.assert_array_equal(
        made(plain), np.float32(plain["images"]).reshape(2, 16) / 2
    )
    # Targets for crops are given as they are.
    assert distill.stored(made.variables)(batch).shape == (2, 16)


@pytest.mark.parametrize("name", ["same/ic", "mix", "fix/cc"])
def test_outputs_on_originals_refuse_what_a_view_cropped(dataset, name):
    made = distill.store(lambda x: x, np.zeros((2, 4, 3), np.float32))
    batch = data.train_batches(dataset, 2, index=True)(0, 0)
    view = data.views.create(name, teacher_size=4)
    seen = {**batch, **view(batch["images"], jax.random.key(0))}
    with pytest.raises(ValueError, match="cropped by a view"):
        made(seen)
