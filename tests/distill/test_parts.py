"""The part of a network below a layer, through calls, loops and real models."""

import jax
import jax.numpy as jnp
import pytest

from kd_heuristics import distill, models

TREE = {"a": jnp.float32(1), "b": jnp.float32(2), "c": jnp.float32(3)}


@jax.jit
def both(x, y):
    return x * 2, y * 3


@jax.custom_jvp
def custom(x, y):
    return x + 1, y + 1


def twice(_, pair):
    return pair[0] * 2, pair[1] * 2


custom.defjvp(lambda primals, tangents: (custom(*primals), tangents))


@pytest.mark.parametrize(
    ("function", "used"),
    [
        (lambda v: v["a"] * v["b"], "ab"),
        (lambda v: both(v["a"], v["b"])[1], "b"),
        (lambda v: jax.checkpoint(both)(v["a"], v["b"])[0], "a"),
        (lambda v: custom(v["a"], v["c"])[1], "c"),
        (lambda v: v["c"], "c"),
        (lambda v: jnp.float32(4), ""),
        # Nothing flows from b, but a loop is not looked into.
        (lambda v: jax.lax.fori_loop(0, 3, twice, (v["a"], v["b"]))[0], "ab"),
    ],
)
def test_by_structure(function, used):
    found = distill.depends_on(function, TREE)
    assert found == {name: name in used for name in TREE}


def test_below_a_layer_of_a_network_with_batch_norm():
    network = models.create("vgg11_bn", 10, width=0.05, classifier_width=4)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    found = distill.depends_on(
        lambda v: network.features(v, images)["06_relu"], variables
    )
    below = {"conv_00", "bn_00", "conv_01", "bn_01"}
    for collection in ("params", "batch_stats"):
        for layer, leaves in found[collection].items():
            assert set(leaves.values()) == {layer in below}, layer


def test_split_and_merge_are_inverse():
    mask = {"a": True, "b": False, "c": True}
    chosen, rest = distill.split(TREE, mask)
    assert rest == {"a": None, "b": TREE["b"], "c": None}
    assert len(jax.tree.leaves(chosen)) == 2
    assert distill.merge(chosen, rest) == distill.merge(rest, chosen) == TREE


def test_trees_of_other_structure_are_refused():
    with pytest.raises(ValueError, match=r"[Kk]ey"):
        distill.merge({"a": None}, {"b": 1})
