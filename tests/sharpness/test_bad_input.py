"""What the tools of sharpness refuse, in one sentence and before any product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import sharpness

KEY = jax.random.key(0)
PARAMS = {"w": jnp.ones(3)}
BATCHES = np.ones((2, 3), np.float32)


def loss(params, batch):
    return (batch * params["w"] ** 2).sum()


def top(loss=loss, params=PARAMS, batches=BATCHES, k=1, **options):
    return sharpness.top(loss, params, batches, k, key=KEY, **options)


def trace(group=None, num_samples=2):
    return sharpness.trace(
        loss, PARAMS, BATCHES, key=KEY, group=group, num_samples=num_samples
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: top(lambda p, b: b * p["w"]), "one real number, .* got .*3,"),
        (lambda: top(lambda p, b: (loss(p, b), {})), "one real number"),
        (lambda: top(lambda p, b: jnp.int32(1)), "one real number"),
        (lambda: top(lambda p, b: jnp.log(-loss(p, b))), "must be finite, got nan"),
        (lambda: top(lambda p, b: loss(p, b) / 0), "must be finite, got inf"),
        (
            lambda: top(lambda p, b: jnp.sqrt(loss(p, b) - loss(p, b))),
            "the Hessian is not finite",
        ),
        (lambda: top(k=0), "k must be at least 1, got 0"),
        (lambda: top(k=4), "k must be at most 3, got 4; params has that many"),
        (lambda: top(k=3, num_products=2), "num_products must be at least 3, got 2"),
        (lambda: top(params={"w": jnp.arange(3)}), "no floating-point entry"),
        (lambda: top(params={}), "no floating-point entry"),
        (lambda: top(params={"w": jnp.zeros(0)}), "no floating-point entry"),
        (lambda: top(params={"w": 1j * jnp.ones(3)}), "'w' of params is complex"),
        (lambda: top(params=PARAMS | {"f": "tanh"}), "'f' of params is a str"),
        (
            lambda: top(batches=[{"x": np.ones(n)} for n in (3, 2)]),
            "batches 0 and 1 differ",
        ),
        (lambda: top(batches={"x": BATCHES, "y": np.ones(3)}), "equal numbers of"),
        (lambda: top(batches=BATCHES[:0]), "at least one batch, got none"),
        (lambda: top(batches=[]), "batch"),
        (lambda: trace(lambda name: 3), r"group\('w'\) must be a name, .* got 3"),
        (lambda: trace(lambda name: None), "got none in any; the leaves are"),
        (lambda: trace(num_samples=1), "num_samples must be at least 2, got 1"),
    ],
)
def test_is_named_with_its_value_and_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_group_without_entries_is_named():
    params = PARAMS | {"empty": jnp.zeros((0, 2))}
    with pytest.raises(ValueError, match=r"got none in \['empty'\]"):
        sharpness.trace(loss, params, BATCHES, key=KEY, group=lambda name: name)


def test_density_needs_products():
    with pytest.raises(ValueError, match="num_products must be at least 1, got 0"):
        sharpness.density(loss, PARAMS, BATCHES, key=KEY, num_products=0)


def test_a_traced_call_gives_nan_where_a_known_one_raises():
    def rooted(params, batch):
        return jnp.sqrt(loss(params, batch) - loss(params, batch))

    found = jax.jit(lambda params: top(rooted, params)[0])(PARAMS)
    assert jnp.isnan(found).all()
