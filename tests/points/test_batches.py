"""Batches one by one: the same means and statistics, or one sentence."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import points

X = np.random.RandomState(3).normal(size=(3, 4, 2)).astype(np.float32)
TREE = {"x": X, "mask": np.ones((3, 4), bool)}


def one_by_one():
    return [{name: array[i] for name, array in TREE.items()} for i in range(3)]


class Loader:
    """An iterable that is no list, as a PyTorch DataLoader."""

    def __iter__(self):
        return iter(one_by_one())


def metric(w, stats, batch):
    return {"value": (w * batch["x"]).sum(-1), "mask": batch["mask"]}


def train(w, stats, batch):
    inputs = w * batch["x"]
    own = {"bn": {"mean": inputs.mean((0, 1)), "var": inputs.var((0, 1))}}
    return {"bn": {k: 0.9 * stats["bn"][k] + 0.1 * own["bn"][k] for k in own["bn"]}}


STATS = {"bn": {"mean": np.float32(0), "var": np.float32(1)}}
FORMS = {
    "list": one_by_one,
    "generator": lambda: (batch for batch in one_by_one()),
    "loader": Loader,
    "of JAX arrays": lambda: [
        {k: jnp.asarray(v) for k, v in b.items()} for b in one_by_one()
    ],
}
forms = pytest.mark.parametrize("form", FORMS)


@forms
def test_they_are_evaluated_as_one_tree(form):
    found = points.evaluate(lambda t: t, [0.5, 2.0], FORMS[form](), metric)
    expected = [t * np.float64(X).sum(-1).mean() for t in (0.5, 2.0)]
    np.testing.assert_allclose(found["value"], expected, rtol=1e-6)


@forms
@pytest.mark.parametrize("method", ["pooled", "cumulative", "exact"])
def test_statistics_take_them_as_one_tree(form, method):
    step = train
    if method == "exact":

        def step(w, stats, batch):
            inputs = w * batch["x"]
            return {"bn": {"mean": inputs.mean((0, 1)), "var": inputs.var((0, 1))}}

    make = getattr(points, f"refit_{method}")
    found = make(step, STATS, FORMS[form]())(2.0)
    expected = make(step, STATS, TREE)(2.0)
    for name in ("mean", "var"):
        assert float(found["bn"][name]) == float(expected["bn"][name])
    np.testing.assert_allclose(found["bn"]["mean"], 2 * np.float64(X).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (
            [{"x": X[0]}, {"x": X[1][:3]}],
            r"batches 0 and 1 differ: .*data\.eval_batches",
        ),
        ([{"x": X[0]}, {"y": X[1]}], "batches 0 and 1 differ"),
        ([], "holds no array"),
        (iter([]), "there is no batch"),
        ({}, "holds no array"),
        ({"x": X, "y": X[:2]}, r"equal numbers of batches, .* got leading axes"),
        ({"x": X, "y": np.float32(3)}, "equal numbers of batches"),
    ],
)
def test_what_is_no_set_is_refused_in_words(batches, words):
    with pytest.raises(ValueError, match=words):
        points.evaluate(lambda t: t, [0.5], batches, metric)
