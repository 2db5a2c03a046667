"""Sensitivity and specificity in the sense of Ding et al. 2021, on networks of ours.

Sensitive: where directions that a linear probe needs are taken from a layer, its
similarity to the whole layer falls with the probe's accuracy. Specific: layers of one
depth in networks of two seeds are more alike than the first and the last.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from sklearn.datasets import load_digits

from kd_heuristics import similarity

PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16).astype(np.float32)
TRAIN, TEST = slice(0, 1000), slice(1000, 1600)
MEASURES = ("cka", "debiased_cka", "procrustes", "cca", "svcca", "knn", "rsa")


def features(params, x):
    """Three hidden layers, and the logits."""
    out = {}
    for index, (weights, bias) in enumerate(params):
        x = x @ weights + bias[None, :]
        if index < len(params) - 1:
            x = jax.nn.relu(x)
        out[f"{index:02d}"] = x
    return out


@jax.jit
def trained(key):
    """Adam on the whole training set."""
    sizes = [(64, 48), (48, 48), (48, 48), (48, 10)]
    keys = jax.random.split(key, len(sizes))
    params = [
        (jax.random.normal(k, s) * (2 / s[0]) ** 0.5, jnp.zeros(s[1]))
        for k, s in zip(keys, sizes, strict=True)
    ]
    optimizer = optax.adam(3e-3)

    def loss(params):
        logits = features(params, PIXELS[TRAIN])["03"]
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, LABELS[TRAIN]
        ).mean()

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    return jax.lax.scan(step, carry, length=200)[0][0]


@functools.cache
def layers(seed):
    """Activations of the test images of a trained network, without the logits."""
    found = features(trained(jax.random.key(seed)), PIXELS)
    return {name: np.asarray(found[name]) for name in ("00", "01", "02")}


def probe(x):
    """Test accuracy of a ridge regression on the labels."""
    x = np.hstack([x - x[TRAIN].mean(0), np.ones((len(x), 1))])
    targets = np.eye(10)[LABELS]
    gram = x[TRAIN].T @ x[TRAIN] + 1e-2 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[TRAIN].T @ targets[TRAIN])
    return np.mean((x[TEST] @ weights).argmax(1) == LABELS[TEST])


@functools.cache
def deleted(seed):
    """Layers with their leading principal components taken away, and accuracies."""
    whole = layers(seed)["01"].astype(np.float64)
    mean = whole.mean(0)
    _, _, directions = np.linalg.svd(whole - mean, full_matrices=False)
    out = []
    for count in (0, 1, 2, 4, 6, 8, 12, 16, 24, 32):
        rest = directions[count:]
        part = (whole - mean) @ rest.T @ rest + mean
        out.append((np.float32(part[TEST]), probe(part)))
    return out


@pytest.mark.filterwarnings("ignore::kd_heuristics.similarity.SaturationWarning")
@pytest.mark.parametrize("measure", MEASURES)
def test_sensitive_to_what_a_probe_needs(measure):
    parts, accuracies = zip(*deleted(0), strict=True)
    whole = parts[0]
    values = [
        similarity.matrix({"x": whole}, {"y": part}, measure)[0, 0] for part in parts
    ]
    assert accuracies[0] > 0.85 > 0.5 > accuracies[-1]
    found = scipy.stats.spearmanr(values, accuracies).statistic
    assert found > 0.9, found


@pytest.mark.parametrize("measure", MEASURES)
def test_specific_to_the_depth_not_to_the_seed(measure):
    a, b = (
        {name: layer[TEST] for name, layer in layers(seed).items()} for seed in (0, 1)
    )
    found = similarity.permutation_test(a, b, measure, 19, key=jax.random.key(0))
    assert (found.p_value <= 0.05).all()
    values = np.asarray(found.calibrated)
    same, far = np.diagonal(values).mean(), (values[0, 2] + values[2, 0]) / 2
    # How many directions hold 99 % differs by depth: svcca compares other things.
    assert (same > far + 0.02) == (measure != "svcca"), values
