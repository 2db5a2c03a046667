"""Networks with nothing at its initial value, and what they compute."""

import jax
import numpy as np


def randomised(variables, seed=0):
    """Scales, biases and statistics that matter, all of them positive if they were."""
    rng = np.random.default_rng(seed)

    def moved(leaf):
        shift = np.abs(rng.normal(size=leaf.shape)) * (leaf.ndim == 1) * 0.1
        factor = rng.uniform(0.5, 1.5, leaf.shape)
        return (np.asarray(leaf) * factor + shift).astype(np.float32)

    return jax.tree.map(moved, variables)


def outputs(network, variables, images):
    """Logits in evaluation and in training mode."""

    @jax.jit
    def run(variables):
        trained, _ = network.train(variables, images, jax.random.key(0))
        return {"evaluation": network.apply(variables, images), "training": trained}

    return jax.device_get(run(variables))


def assert_same_function(found, expected, modes=("evaluation", "training")):
    for mode in modes:
        scale = np.abs(expected[mode]).max()
        assert expected[mode].std() > 0.01
        # 1e-5 of the logits: sums are taken in another order.
        np.testing.assert_allclose(found[mode], expected[mode], atol=1e-5 * scale)
