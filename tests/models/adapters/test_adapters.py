"""What an adapted network is to the trainer, curves and checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import checkpoints, curves, models, points, training
from tests.models.adapters import cases
from tests.models.adapters.cases import IMAGES, KEY


@pytest.fixture(scope="module", params=list(cases.CASES))
def trained(request, tmp_path_factory):
    """A case, its variables, its state after two steps, and where that lies."""
    case = cases.CASES[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    variables = case.network.init(KEY, IMAGES)
    classifier = training.Classifier(case.network, cases.MEAN, cases.STD)
    state = training.fit(
        classifier.supervised,
        variables["params"],
        variables["batch_stats"],
        cases.OPTIMIZER,
        cases.batches,
        num_steps=cases.STEPS,
        seed=cases.SEED,
        checkpoints=training.Checkpoints(directory=directory),
    )
    return case, classifier, variables, state, directory


def test_training_equals_the_librarys_own(trained):
    case, _, variables, state, _ = trained
    params, batch_stats = case.by_hand()
    # float32, the same operations compiled in another program
    close = {"rtol": 2e-5, "atol": 2e-6}
    jax.tree.map(
        lambda *ab: np.testing.assert_allclose(*ab, **close), state.params, params
    )
    jax.tree.map(
        lambda *ab: np.testing.assert_allclose(*ab, **close),
        state.batch_stats,
        batch_stats,
    )
    for before, after in zip(
        jax.tree.leaves((variables["params"]["fc"], variables["batch_stats"])),
        jax.tree.leaves((state.params["fc"], state.batch_stats)),
        strict=True,
    ):
        assert np.abs(np.asarray(before) - np.asarray(after)).max() > 1e-4


def test_evaluation_is_deterministic_and_training_draws_by_key(trained):
    case, _, variables, _, _ = trained
    apply, train = jax.jit(case.network.apply), jax.jit(case.network.train)
    np.testing.assert_array_equal(apply(variables, IMAGES), apply(variables, IMAGES))
    keys = jax.random.split(KEY)
    first, again, other = (
        train(variables, IMAGES, key)[0] for key in (keys[0], keys[0], keys[1])
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert first.dtype == jnp.float32
    assert first.shape == (8, 3)


def test_an_example_is_evaluated_alone(trained):
    # batch norm by running statistics, and no layout mixed up
    case, _, variables, _, _ = trained
    whole = case.network.apply(variables, IMAGES)
    # another batch size: other sums in float32
    part = case.network.apply(variables, IMAGES[2:3])
    np.testing.assert_allclose(whole[2:3], part, rtol=1e-5, atol=1e-6)


def test_a_curve_between_two_networks(trained):
    case, classifier, variables, state, _ = trained
    line = curves.line(variables["params"], state.params)
    batches = {
        "images": cases.PIXELS[None],
        "labels": cases.LABELS[None],
        "mask": jnp.ones((1, 8), bool),
    }
    found = points.evaluate(
        line.at,
        [0.0, 0.5, 1.0],
        batches,
        classifier.metric,
        batch_stats=state.batch_stats,
    )
    for t, loss in zip([0.0, 0.5, 1.0], found["loss"], strict=True):
        params = jax.tree.map(
            lambda a, b, t=t: (1 - t) * a + t * b, variables["params"], state.params
        )
        logits = case.network.apply(
            {"params": params, "batch_stats": state.batch_stats}, IMAGES
        )
        logits = np.asarray(logits, np.float64)
        picked = logits[np.arange(8), cases.LABELS]
        expected = (np.log(np.exp(logits).sum(1)) - picked).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_checkpoint_reads_back_without_the_network(trained):
    case, _, _, state, directory = trained
    read = checkpoints.restore(directory)
    jax.tree.map(np.testing.assert_array_equal, read["params"], state.params)
    variables = {"params": read["params"], "batch_stats": read["batch_stats"]}
    kept = {"params": state.params, "batch_stats": state.batch_stats}
    np.testing.assert_array_equal(
        case.network.apply(variables, IMAGES), case.network.apply(kept, IMAGES)
    )


def test_features(trained):
    case, _, variables, _, _ = trained
    names = {
        "nnx_net": "00_conv 01_norm 02_dropouts/0 03_dropouts/1 04_fc 05_output",
        "equinox_net": "00_conv 01_bn",
        "linear": "00_logits",
    }
    found = jax.jit(case.network.features)(variables, IMAGES)
    assert list(found) == names[case.network.name].split()
    logits = case.network.apply(variables, IMAGES)
    if case.network.name == "equinox_net":
        # running mean 0 and variance 1: the norm is the identity but for its epsilon
        np.testing.assert_allclose(found["01_bn"], found["00_conv"], rtol=2e-5)
        assert found["00_conv"].shape == (8, 4, 4, 4)
    else:
        last = list(found)[-1]
        np.testing.assert_allclose(found[last], logits, rtol=1e-5, atol=1e-6)


def test_layers_in_training_mode(trained):
    """With the statistics that training moves; of the batch, not the running ones."""
    case, _, variables, _, _ = trained
    key = jax.random.key(7)
    if case.network.name == "linear":
        with pytest.raises(ValueError, match="has no train_features"):
            case.network.train_features(variables, IMAGES, key)
        return
    found, moved = jax.jit(case.network.train_features)(variables, IMAGES, key)
    logits, expected = jax.jit(case.network.train)(variables, IMAGES, key)
    jax.tree.map(np.testing.assert_array_equal, moved, expected)
    assert found.keys() == case.network.features(variables, IMAGES).keys()
    # Scale 1, offset 0: mean 0 over the batch and both axes, to float32 rounding.
    if "01_norm" in found:
        np.testing.assert_allclose(found["01_norm"].mean((0, 1, 2)), 0, atol=1e-5)
    else:  # channels first
        np.testing.assert_allclose(found["01_bn"].mean((0, 2, 3)), 0, atol=1e-5)
    if "05_output" in found:  # dropout drew the same
        np.testing.assert_allclose(found["05_output"], logits, rtol=1e-5, atol=1e-6)


def test_functions_of_one_mode_have_their_layers_in_training():
    def layers(variables, images):
        return {"00_map": 2 * images, "01_logits": apply(variables, images)}

    def apply(variables, images):
        return images.mean((1, 2)) @ variables["params"]

    variables = {"params": jnp.ones((3, 2))}
    plain = models.from_functions("plain", lambda *_: variables, apply, features=layers)
    found, moved = plain.train_features(variables, IMAGES, jax.random.key(0))
    assert moved == {}
    jax.tree.map(np.testing.assert_array_equal, found, layers(variables, IMAGES))

    def other(variables, images, key):
        return {"00_map": 3 * images}, {"seen": 1}

    own = models.from_functions(
        "own",
        lambda *_: variables,
        apply,
        train=lambda variables, images, key: (apply(variables, images), {}),
        train_features=other,
    )
    found, moved = own.train_features(variables, IMAGES, jax.random.key(0))
    assert moved == {"seen": 1}
    np.testing.assert_array_equal(found["00_map"], 3 * IMAGES)
