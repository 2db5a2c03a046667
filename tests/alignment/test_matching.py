"""Planted permutations come back; the best of few permutations is found."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from kd_heuristics import alignment
from kd_heuristics.alignment import finding
from tests.alignment import nets
from tests.alignment.test_spec import found
from tests.selection import some_long

KEY = jax.random.key(7)


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def agreement(a, b):
    leaves = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return sum(float(np.vdot(np.float64(x), np.float64(y))) for x, y in leaves)


@pytest.mark.parametrize("name", ["mlp", "of_equinox", "stacked", "resnet8"])
def test_planted_permutations_are_recovered(name):
    net, spec = found(name)
    for seed in range(100 if name == "mlp" else 3):
        planted = spec.permute(net.variables, spec.random(jax.random.key(seed)))
        assert_equal(
            alignment.align(net.variables, planted, spec, key=KEY), net.variables
        )


def test_it_agrees_best_of_all_permutations():
    """Blocks of a group norm: 2! orders of blocks times 3! twice within."""
    net, spec = found("normed")
    name, within = "first:1.0", "first:1.1"
    other = {"first": nets.normal(4, 6, seed=11), "last": nets.normal(6, 2, seed=12)}
    orders = [*map(np.array, itertools.permutations(range(3)))]
    values = [
        agreement(
            net.variables,
            spec.permute(
                other, {name: np.array(blocks), within: np.stack([first, second])}
            ),
        )
        for blocks in ((0, 1), (1, 0))
        for first in orders
        for second in orders
    ]
    aligned = alignment.align(net.variables, other, spec, key=KEY)
    assert agreement(net.variables, aligned) == pytest.approx(max(values), rel=1e-6)
    assert max(values) > agreement(net.variables, other) + 0.1


def test_activations_correlate_best_of_all_permutations():
    a, b = nets.mlp(0, (3, 4, 2)), nets.mlp(20, (3, 4, 2))
    spec = finding.untried(*a)
    images = np.asarray(nets.normal(2, 30, 3, seed=4))
    found = alignment.match(
        a.variables, b.variables, spec, key=KEY, method="activations", batches=images
    )
    units = [
        np.tanh(
            images.reshape(-1, 3) @ np.asarray(net[0]["kernel"]) + net[0]["bias"][None]
        )
        for net in (a.variables, b.variables)
    ]
    table = np.corrcoef(*units, rowvar=False)[:4, 4:]
    best = max(
        itertools.permutations(range(4)), key=lambda p: table[np.arange(4), p].sum()
    )
    assert found["0/kernel:1"].tolist() == [*best]


@pytest.mark.parametrize(
    "name",
    some_long(["normed", "resnet8", "of_nnx"], lambda n: n != "normed"),
)
def test_activations_recover_planted_permutations(name):
    net, spec = found(name)
    planted = spec.permute(net.variables, spec.random(KEY))
    shape = (2, 16, *net.images.shape[1:])
    batches = jax.random.normal(jax.random.key(3), shape)
    back = alignment.align(
        net.variables, planted, spec, key=KEY, method="activations", batches=batches
    )
    assert_equal(back, net.variables)


def test_a_dead_unit_does_not_spoil_the_others():
    net = nets.mlp(0, (3, 4, 2))
    spec = finding.untried(*net)
    dead = jax.tree.map(jnp.copy, net.variables)
    dead[0]["kernel"] = dead[0]["kernel"].at[:, 1].set(0)
    batches = nets.normal(2, 30, 3, seed=4)
    options = {"key": KEY, "method": "activations", "batches": batches}
    found = alignment.match(dead, dead, spec, **options)
    assert found["0/kernel:1"].tolist() == [0, 1, 2, 3]


def test_the_midpoint_of_two_trained_networks():
    """Wide perceptrons on the digits: the barrier falls by 80 % at least."""
    from tests.sharpness.nets import ALL

    x = jnp.asarray(ALL.data / 16, jnp.float32)
    y = jnp.asarray(ALL.target, jnp.int32)

    def loss(apply, params):
        return -jax.nn.log_softmax(apply(params, x))[jnp.arange(len(y)), y].mean()

    @jax.jit
    def trained(params):
        def step(carry, _):
            params, speed = carry
            gradient = jax.grad(lambda p: loss(net.apply, p))(params)
            speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, gradient)
            params = jax.tree.map(lambda p, v: p - 0.1 * v, params, speed)
            return (params, speed), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(step, (params, zeros), length=60)[0][0]

    widths = (64, 256, 10)
    net = nets.mlp(0, widths)
    a, b = (trained(nets.mlp(seed, widths).variables) for seed in (0, 50))
    spec = finding.untried(net.apply, a, x[:2])
    aligned = alignment.align(a, b, spec, key=KEY)

    def rise(b):
        middle = jax.tree.map(lambda p, q: (p + q) / 2, a, b)
        ends = max(float(loss(net.apply, a)), float(loss(net.apply, b)))
        return float(loss(net.apply, middle)) - ends

    before, after = rise(b), max(0.0, rise(aligned))
    assert before > 0.05
    assert after <= 0.2 * before, (before, after)


def test_bad_input_is_named_before_the_work():
    net = nets.mlp()
    spec = finding.untried(*net)
    a = net.variables
    wide = nets.mlp(0, (4, 7, 5, 3)).variables
    batches = jnp.ones((1, 2, 4))

    def refused(words, a=a, b=a, spec=spec, **options):
        with pytest.raises(ValueError, match=words):
            alignment.align(a, b, spec, key=KEY, **options)

    refused(
        r"b \(tree 1\) .*'0/bias'.*shape \(6,\) and \(7,\).*different width", b=wide
    )
    refused(r"^a \(tree 1\) must be alike", a=wide)
    refused("one structure: leaf '2/bias' is missing", b=a[:2])
    refused(r"type float32 and float16", b=jax.tree.map(jnp.float16, a))
    refused(
        "'1/bias' of b is not finite", b=[a[0], a[1] | {"bias": a[1]["bias"] / 0}, a[2]]
    )
    refused("'0' of b is a str, not an array", b=["tanh", *a[1:]])
    refused("method must be one of .* got 'both'", method="both")
    refused("'activations' got none of the batches", method="activations")
    refused("'weights' got some of the batches", batches=batches)
    refused(
        "activations are not finite", method="activations", batches=jnp.inf * batches
    )
    linear = finding.untried(lambda w, x: x @ w, jnp.ones((3, 2)), jnp.ones((1, 3)))
    refused("no group of units to permute", jnp.ones((3, 2)), jnp.ones((3, 2)), linear)
    with pytest.raises(ValueError, match=r"variables \(tree 1\) must be alike"):
        spec.permute(wide, spec.identity())


def test_activations_in_loops_are_refused_in_words():
    net, spec = found("stacked")
    with pytest.raises(
        ValueError, match=r'no activations of down:0 .* method="weights"'
    ):
        alignment.align(
            net.variables,
            net.variables,
            spec,
            key=KEY,
            method="activations",
            batches=net.images[None],
        )


def test_random_permutations_are_uniform():
    _, spec = found("mlp")
    drawn = [spec.random(jax.random.key(seed))["1/kernel:1"] for seed in range(200)]
    counts = np.stack([np.bincount(row, minlength=5) for row in np.transpose(drawn)])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3
