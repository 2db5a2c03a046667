"""Small networks whose Hessians are known by dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

ALL = load_digits()
DIGITS = {"x": ALL.data[:128] / 16 - 0.3, "y": ALL.target[:128]}


def mlp(seed, units=16, dtype=float):
    """64 inputs, 10 classes: 1,210 parameters with 16 hidden units."""
    first, second = jax.random.split(jax.random.key(seed))
    return {
        "hidden": {
            "kernel": jax.random.normal(first, (64, units), dtype) / 8,
            "bias": jnp.zeros(units, dtype),
        },
        "out": {
            "kernel": jax.random.normal(second, (units, 10), dtype) / 4,
            "bias": jnp.zeros(10, dtype),
        },
    }


def loss(params, batch, act=jnp.tanh):
    hidden = batch["x"] @ params["hidden"]["kernel"] + params["hidden"]["bias"][None]
    logits = act(hidden) @ params["out"]["kernel"] + params["out"]["bias"][None]
    of_label = jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch["y"]]
    return -of_label.mean()


def batches(number, size=None):
    """The digits as `number` batches of equal size."""
    return {
        name: jnp.asarray(column[:size], None if name == "x" else jnp.int32).reshape(
            number, -1, *column.shape[1:]
        )
        for name, column in DIGITS.items()
    }


def trained(params, num_steps=300):
    (whole,) = (jax.tree.map(lambda leaf: leaf[0], batches(1)),)

    def step(params, _):
        moved = jax.grad(loss)(params, whole)
        return jax.tree.map(lambda w, g: w - 0.5 * g, params, moved), None

    return jax.jit(lambda p: jax.lax.scan(step, p, length=num_steps)[0])(params)


def dense(loss, params, batch):
    """The Hessian as a matrix, and the function from a vector to a tree."""
    vector, unravel = ravel_pytree(params)
    hessian = jax.jit(jax.hessian(lambda v: loss(unravel(v), batch)))(vector)
    return np.asarray(hessian, np.float64), unravel


def quadratic(params, batch):
    """Half of each batch's mean of w^T A w: its Hessian is the mean of the A."""
    vector = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    return (
        jnp.einsum("bij,i,j->b", batch, vector, vector, precision="highest").mean() / 2
    )


def symmetric(dimension, number, seed=0):
    """`number` random symmetric matrices, float64."""
    drawn = np.random.default_rng(seed).normal(size=(number, dimension, dimension))
    return drawn + drawn.transpose(0, 2, 1)
