"""One name for a leaf, whatever a library wraps around it, in every tool."""

import dataclasses
import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kd_heuristics import curves, freezing, landscape, training
from kd_heuristics.distill import transfer
from kd_heuristics.models.adapters.naming import Naming
from kd_heuristics.pytrees import leaf_names
from tests.trees import BIAS, NAMES, TREES, NnxNet, partitioned

KEY = jax.random.key(0)
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


@every_tree
def test_names_are_alike(tree):
    assert leaf_names.names(tree) == NAMES
    found = leaf_names.tree_map(lambda name, leaf: (name, leaf.shape), tree)
    sizes = [name for name in jax.tree.leaves(found) if isinstance(name, str)]
    assert sizes == NAMES
    flat = leaf_names.flat(tree)
    assert list(flat) == NAMES
    assert all(map(operator.is_, flat.values(), jax.tree.leaves(tree)))


class Value(NamedTuple):
    value: Any
    other: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class DataValue:
    value: Any


class EquinoxValue(eqx.Module):
    value: Any


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"value": {"value": 1.0}}, ["value/value"]),
        ({"a": Value(1.0, 2.0)}, ["a/value", "a/other"]),
        ([Value(nnx.Param(1.0), 2.0)], ["0/value", "0/other"]),
        ({"a": DataValue(1.0)}, ["a/value"]),
        (EquinoxValue(1.0), ["value"]),
        (EquinoxValue({"value": partitioned(BIAS)}), ["value/value"]),
        (nnx.State({"value": nnx.Param(1.0)}), ["value"]),
        (nnx.Param({"value": 1.0, "b": [2.0]}), ["b/0", "value"]),
        (1.0, [""]),
        (nnx.Param(1.0), [""]),
        ((), []),
    ],
)
def test_a_leaf_that_is_called_value_keeps_its_name(tree, names):
    assert leaf_names.names(tree) == names


def test_a_name_of_two_leaves_is_refused():
    with pytest.raises(ValueError, match="two leaves are called 'a/b'"):
        leaf_names.flat({"a/b": 1.0, "a": {"b": 2.0}})


@pytest.mark.parametrize("kind", ["nnx variables", "nnx state", "variable states"])
def test_names_in_a_file_of_flax(kind):
    # As orbax writes them: a dictionary in place of each box.
    stored = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(TREES[kind])
    ]
    assert stored == [f"{name}/value" for name in NAMES]
    assert leaf_names.without_stored_boxes(stored) == NAMES


def test_nnx_optimizer_shows_the_same_names_at_init_and_update():
    seen = []

    def init(params):
        seen.append(leaf_names.names(params))
        return ()

    def update(updates, state, params=None):
        seen.extend([leaf_names.names(updates), leaf_names.names(params)])
        return updates, state

    model = NnxNet()
    optimizer = nnx.Optimizer(
        model, optax.GradientTransformation(init, update), wrt=nnx.Param
    )
    optimizer.update(model, nnx.state(model, nnx.Param))
    assert seen == [NAMES] * 3


def in_fc(name):
    """True in "fc"; raises on a name of any other form."""
    assert name in NAMES
    return name.startswith("fc/")


@every_tree
def test_every_tool_uses_them(tree):
    frozen = freezing.stop_frozen(tree, in_fc)
    assert jax.tree.structure(frozen) == jax.tree.structure(tree)
    words = "no leaf of 'conv/kernel', 'fc/bias', 'fc/kernel'"
    with pytest.raises(ValueError, match=words):
        freezing.stop_frozen(tree, lambda name: "value" in name)
    assert jax.tree.leaves(training.kernels(tree)) == [True, False, True]
    longer = jax.tree.map(lambda x: jnp.ones((7, *x.shape)), tree)
    for compare in (curves.distance, landscape.normalize_direction, curves.line):
        with pytest.raises(ValueError, match="leaf 'conv/kernel' "):
            compare(longer, tree)
    with pytest.raises(ValueError, match="conv/kernel"):
        transfer.adapt(tree, longer)
    loss = curves.CurveLoss(weight_decay=2.0, decays=in_fc)
    decay, _ = loss(
        None, lambda *_: (0.0, (None, {})), curves.line(tree, tree), None, None, KEY
    )
    expected = [jnp.square(x).sum() for x in jax.tree.leaves(tree)[1:]]
    np.testing.assert_allclose(decay, sum(expected), rtol=1e-5)
    nested = Naming.of("the tree", tree).to_dict(tree)
    assert leaf_names.names(nested) == NAMES
