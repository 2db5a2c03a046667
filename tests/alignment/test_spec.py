"""The symmetries found in networks of every kind, against a reading of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import alignment, models
from kd_heuristics.alignment import finding
from kd_heuristics.runtime import compiled
from tests.alignment import nets
from tests.selection import some_long

OURS = {
    "vgg11_bn": {"width": 1 / 16, "classifier_width": 5, "size": 32},
    "resnet8": {"width": 0.25},
    "shallow": {"width": 0.05, "classifier_width": 6},
    "bit_tiny": {"size": 16},
    "mobilenet_tiny": {"norm": "batch", "size": 16},
}
LONG = ("vgg11_bn", "shallow", "bit_tiny", "mobilenet_tiny")

# Units, and units within each, as a reading of the model gives them: residual streams,
# hidden layers, heads with the channels within, blocks of group norm.
EXPECTED = {
    "mlp": [(6,), (5,)],
    "normed": [(2, 3)],
    "of_nnx": [(8,), (2, 6, 6), (10,)],
    "of_equinox": [(3, 2, 4), (2, 6, 6)],
    "concatenated": [(5,), (6,)],
    "stacked": [(5,), (3, 6)],
    "fused": [(2, 5)],
    "tied": [(5,)],
    "vgg11_bn": [(4,), (8,), (16,), (16,), *[(32,)] * 4, (5,), (5,)],
    # The stream grows by channels of zeros: 4, 4 more, 8 more.
    "resnet8": [(4,), (4,), (8,), (4,), (16,), (8,)],
    "shallow": [(3,), (3,), (6,), (6,)],
    "bit_tiny": [(4, 4), *((4, w * n) for w in (4, 8, 16) for n in (1, 1, 4))],
    # Streams, expansions, squeezed means, last layers.
    "mobilenet_tiny": [(n,) for n in (16, 48, 16, 24, 72, 24, 32, 192, 128)],
}


@functools.cache
def found(name):
    """A network away from its start, and its spec."""
    made = getattr(nets, name, None)
    net = made() if made else nets.ours(name, **OURS[name])
    net = net._replace(variables=nets.moved(net.variables))
    return net, alignment.spec(*net)


def sizes(spec):
    return sorted((g.size, *g.within.values()) for g in spec.groups.values())


@pytest.mark.parametrize("name", some_long(EXPECTED, LONG.__contains__))
def test_groups_are_those_of_a_reading_and_keep_the_function(name):
    net, spec = found(name)
    assert sizes(spec) == sorted(EXPECTED[name]), str(spec)
    assert spec.left_alone == {}
    apply = compiled.once(net.apply)
    with jax.default_matmul_precision("highest"):
        expected = apply(net.variables, net.images)
        permuted = spec.permute(net.variables, spec.random(nets.KEY))
        outputs = apply(permuted, net.images)
    largest = float(jnp.abs(expected).max())
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * largest)
    pairs = zip(*map(jax.tree.leaves, (permuted, net.variables)), strict=True)
    changed = [float(jnp.abs(x - y).max()) for x, y in pairs]
    assert np.count_nonzero(changed) >= len(spec.pieces) / 2


def test_a_hand_written_spec_of_a_perceptron():
    _, spec = found("mlp")
    leaves = {name: {*group.leaves} for name, group in spec.groups.items()}
    assert leaves == {
        "0/kernel:1": {"0/kernel", "0/bias", "1/kernel"},
        "1/kernel:1": {"1/kernel", "1/bias", "2/kernel"},
    }
    assert str(spec).splitlines()[0] == "0/kernel:1: 6, 3 leaves"


# Hidden layers and streams, counted in the papers' figures.
COUNTS = {
    "vgg11": 8 + 2,
    "vgg16_bn": 13 + 2,
    "resnet18": 8 + 4,
    "resnet32": 15 + 3,
    "resnet20_imagenet": 9 + 4,
    "resnet34_imagenet": 16 + 4,
    "bit_r50x1": 2 * 16 + 4 + 1,
    "bit_r101x3": 2 * 33 + 4 + 1,
    "bit_r152x2": 2 * 50 + 4 + 1,
    # Expansions of 14 and 10 blocks, squeezes, streams (the first block of the large
    # net adds to the stem's), two last layers.
    "mobilenet_v3_large": 14 + 8 + 6 + 2,
    "mobilenet_v3_small": 10 + 9 + 6 + 2,
}


@pytest.mark.parametrize("name", some_long(COUNTS, lambda name: name != "vgg16_bn"))
def test_models_of_full_size_have_their_groups(name):
    network = models.create(name, 10)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(network.init, nets.KEY, images)
    spec = finding.untried(network.apply, variables, images)
    assert len(spec.groups) == COUNTS[name], str(spec)
    assert spec.left_alone == {}


def hidden(middle):
    """A network of two layers with `middle` between them."""
    weights = {"first": nets.normal(3, 6), "last": nets.normal(6, 2, seed=1)}

    def apply(w, x):
        return middle(x @ w["first"]) @ w["last"]

    return nets.Net(apply, weights, nets.normal(4, 3, seed=2))


def halved(x):
    return jax.lax.while_loop(lambda x: (x > 1).any(), lambda x: x / 2, x)


def chosen(x):
    return jax.lax.cond(x.sum() > 0, jnp.tanh, lambda x: x, x)


def blocks(x):
    return x.reshape(-1, 2, 3).max(-1).repeat(3, -1) + x.reshape(-1, 3, 2).sum(
        -1
    ).repeat(2, -1)


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (halved, "control flow that depends on data (while)"),
        (chosen, "control flow that depends on data (cond)"),
        (lambda x: jnp.fft.fft(x).real, "no rule for the primitive fft"),
        (blocks, "units in blocks of [2, 3] meet blocks of [3, 2]"),
    ],
)
def test_what_is_not_understood_is_named_and_left_alone(middle, words):
    spec = alignment.spec(*hidden(middle))
    assert spec.groups == {}
    assert spec.left_alone
    assert any(words in reason for reason in spec.left_alone.values())
    assert all(name.startswith(("first:1", "last:0")) for name in spec.left_alone)


@pytest.mark.parametrize(
    "middle",
    [
        lambda x: jnp.cumsum(x, 1),
        lambda x: x * jnp.arange(6.0)[None],
        lambda x: x[:, ::-1],
    ],
)
def test_positions_have_an_order(middle):
    spec = alignment.spec(*hidden(lambda x: jnp.tanh(middle(x))))
    assert spec.groups == {}
    assert spec.left_alone == {}


def test_a_loop_of_fixed_length_is_understood():
    def middle(x):
        return jax.lax.while_loop(
            lambda carry: carry[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1])), (0, x)
        )[1]

    assert sizes(alignment.spec(*hidden(middle))) == [(6,)]


def test_a_wrong_rule_is_caught_by_the_trial(monkeypatch):
    monkeypatch.setitem(finding.RULES, "cumsum", finding.RULES["tanh"])
    spec = alignment.spec(*hidden(lambda x: jnp.cumsum(x, 1)))
    assert spec.groups == {}
    assert "a random permutation changed the outputs" in spec.left_alone["first:1"]


def test_python_control_flow_is_refused_in_words():
    def apply(w, x):
        return x if x.sum() > 0 else w

    with pytest.raises(ValueError, match="apply cannot be traced, because Python's"):
        alignment.spec(apply, jnp.ones(2), jnp.ones(2))


def test_leaves_that_are_no_arrays_or_not_finite_are_named():
    def apply(w, x):
        return x

    with pytest.raises(ValueError, match="'f' of variables is a str, not an array"):
        alignment.spec(apply, {"f": "tanh"}, jnp.ones(2))
    with pytest.raises(ValueError, match="'w' of variables is a shape without values"):
        alignment.spec(apply, {"w": jax.ShapeDtypeStruct((2,), "float32")}, jnp.ones(2))
    with pytest.raises(ValueError, match="'w' of variables is not finite"):
        alignment.spec(apply, {"w": jnp.array([jnp.nan])}, jnp.ones(2))


def test_outputs_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="outputs that are not finite"):
        alignment.spec(*hidden(lambda x: x / 0.0))
