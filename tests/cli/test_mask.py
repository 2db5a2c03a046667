"""Padded tokens: `similarity --mask` compares what the sequences hold without them."""

import json
import pathlib
import textwrap

import numpy as np
import pytest

from kd_heuristics import cli, similarity

LM = """
    import jax
    import jax.numpy as jnp
    from kd_heuristics import models

    def init(key, tokens):
        keys = jax.random.split(key)
        embed = jax.random.normal(keys[0], (9, 3))
        return {"params": {"embed": embed, "w": jax.random.normal(keys[1], (3, 4))}}

    def features(variables, tokens):
        params = variables["params"]
        first = params["embed"][tokens]
        so_far = jnp.cumsum(first, axis=1)  # a token sees those before it
        hidden = jnp.tanh(so_far @ params["w"])
        return {"0_embed": first, "1_hidden": hidden, "2_first": hidden[:, 0]}

    def apply(variables, tokens):
        return features(variables, tokens)["1_hidden"]

    def make():
        return models.from_functions(
            "lm", init, apply, features=features, inputs="any"
        )
"""
LENGTHS = 2 + np.arange(40) % 4
MASK = np.arange(6) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
TOKENS = np.where(MASK, RNG.integers(1, 9, (40, 6)), 0)


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """lm.py, text.npz with padded sequences, and the weights of two networks."""
    (tmp_path / "lm.py").write_text(textwrap.dedent(LM))
    monkeypatch.chdir(tmp_path)
    weights = {}
    for name in "ab":
        shapes = {"embed": (9, 3), "w": (3, 4)}
        weights[name] = {
            key: RNG.normal(size=shape).astype(np.float32)
            for key, shape in shapes.items()
        }
        np.savez(f"{name}.npz", **weights[name])
    write()
    return weights


def write(**changes):
    arrays = {"tokens": TOKENS, "attention": MASK.astype(int), "half": MASK / 2}
    arrays |= {"labels": np.arange(40) % 2, "wide": np.ones((40, 7), bool)} | changes
    both = {f"{part}_{k}": v for k, v in arrays.items() for part in ("train", "test")}
    np.savez("text.npz", **both)


OWN = ("similarity", "a.npz", "b.npz", "--model", "lm.py:make", "--data", "text.npz")


def unpadded(weights):
    """Means over the tokens of each sequence by itself, without padding."""
    found = {"0_embed": [], "1_hidden": [], "2_first": []}
    for row, length in zip(TOKENS, LENGTHS, strict=True):
        first = weights["embed"][row[:length]].astype(float)
        hidden = np.tanh(np.cumsum(first, axis=0) @ weights["w"])
        for name, value in zip(
            found, (first.mean(0), hidden.mean(0), hidden[0]), strict=True
        ):
            found[name].append(value)
    return {name: np.stack(rows).astype(np.float32) for name, rows in found.items()}


@pytest.mark.parametrize("extra", [(), ("--test", "--permutations", "19")])
def test_padding_does_not_count(extra, texts, undrawn):
    layers = [unpadded(texts[name]) for name in "ab"]
    expected = np.asarray(similarity.matrix(*layers, "cka"))
    how = ("--measure", "cka", "--batch-size", "16", *extra)
    cli.main([*OWN, *how])
    with_padding = np.load("similarity/arrays.npz")["map"]
    assert abs(with_padding - expected).max() > 0.02
    cli.main([*OWN, *how, "--mask", "attention"])
    found = np.load("similarity/arrays.npz")
    np.testing.assert_allclose(found["map"], expected, atol=2e-5)
    assert found["floor"].max() < 0.5
    results = json.loads(pathlib.Path("similarity/results.json").read_text())
    assert results["mask"] == "attention"
    assert [*results["treatments_a"].values()] == ["mean", "mean", "none"]


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (("attention", "--conv", "dft"), {}, "--conv auto or mean, got --conv dft"),
        (("atention",), {}, "unknown array of --mask 'atention'; did you mean 'att"),
        (("labels",), {}, "--mask labels must be [examples, tokens] of true and false"),
        (("half",), {}, "of 1 and 0, got float64 [40, 6] from 0.0 to 0.5"),
        (("wide",), {}, "--mask wide has 7 tokens for each example, and layer 0_embed"),
        (
            ("attention",),
            {"attention": MASK & (np.arange(40) != 3)[:, None]},
            "mask leaves no token of example 3 (and 0 more)",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(words, changes, message, texts, capsys):
    write(**changes)
    with pytest.raises(SystemExit, match="2"):
        cli.main([*OWN, "--mask", *words])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not pathlib.Path("similarity").exists()
