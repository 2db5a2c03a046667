"""Small networks with nothing at its initial value, and what they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import models
from kd_heuristics.models.vgg import VGG

# Programs that run once take longer to compile than to run.
quick = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)

# A VGG of two sections halves these twice: its classifier reads 2x2 positions.
IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(6, 8, 8, 3)), jnp.float32)


def vgg(stages=((3,), (4, 5)), classifier_width=6, **options):
    sizes = {"classifier_width": classifier_width, "dropout_rate": 0.0}
    return models.from_linen("vgg", VGG(stages, 4, **sizes, **options))


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

    @quick
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
