"""The examples of docs/landscape.md run, and give what the model itself gives."""

import pathlib
import re

import jax
import numpy as np
import pytest

from kd_heuristics import points

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "landscape.md").read_text()
(COMMON,), *SECTIONS = [
    re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in TEXT.split("\n## ")
]
NAMES = ("plain", "linen", "nnx", "equinox", "equinox_norm")
EXAMPLES = {
    name: "\n".join(blocks) for name, blocks in zip(NAMES, SECTIONS, strict=True)
}


@pytest.fixture(scope="module", autouse=True)
def _as_users_have_it():
    with jax.numpy_rank_promotion("allow"):  # strict in our own code only
        yield


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    names: dict = {}
    exec(compile(COMMON, "docs/landscape.md", "exec"), names)
    code = EXAMPLES[request.param]
    exec(compile(code, f"docs/landscape.md, {request.param}", "exec"), names)
    return request.param, names


def test_examples_are_short():
    """Beside the module, which is the user's own."""
    for *_, tools in SECTIONS:
        assert len([line for line in tools.splitlines() if line.strip()]) <= 15


def own_params(name, names, end):
    params = names["ab"[end]]
    return params["params"] if name == "linen" else params


def test_the_ends_are_the_networks_with_their_own_statistics(example):
    name, names = example
    batches, metric = names["batches"], names["metric"]
    everything = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), batches)
    for end, found in ((0, names["values"][0]), (1, names["values"][-1])):
        params = own_params(name, names, end)
        stats = names["refresh"](params) if "refresh" in names else {}
        expected = np.asarray(metric(params, stats, everything)["loss"], float).mean()
        # One float32 forward pass against another, in batches of 25.
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(names["values"]) > 1e-3


def test_statistics_are_the_first_layers_over_the_whole_set(example):
    name, names = example
    if "refresh" not in names:
        return  # no batch norm
    params = own_params(name, names, 1)
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, float)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    layer = {"linen": "Dense_0", "nnx": "inner", "equinox_norm": "layers/0"}[name]
    kind = "weight" if name == "equinox_norm" else "kernel"
    kernel = next(v for k, v in leaves.items() if k.startswith(f"{layer}/{kind}"))
    bias = next(v for k, v in leaves.items() if k.startswith(f"{layer}/bias"))
    kernel = kernel.T if name == "equinox_norm" else kernel
    inputs = np.asarray(names["x"], float).reshape(100, 8) @ kernel + bias
    mean, var = (np.asarray(leaf) for leaf in jax.tree.leaves(names["refresh"](params)))
    # 1 - m of momentum .99 has six digits in float32.
    np.testing.assert_allclose(mean, inputs.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(var, inputs.var(0), rtol=2e-5)


def test_parameters_and_module_stay_as_they_were(example):
    name, names = example
    fresh: dict = {}
    exec(compile(COMMON, "docs/landscape.md", "exec"), fresh)
    made = EXAMPLES[name].split("curve = ")[0].split("refresh = ")[0]
    exec(compile(made, "docs/landscape.md", "exec"), fresh)
    for end in "ab":
        before, after = jax.tree.leaves(fresh[end]), jax.tree.leaves(names[end])
        assert len(before) == len(after) > 0
        for x, y in zip(before, after, strict=True):
            np.testing.assert_array_equal(x, y)


def test_functions_among_the_leaves_are_named():
    curve = jax.tree_util.Partial(lambda tree, t: tree, {"act": "relu"})
    with pytest.raises(
        ValueError, match=r"leaf '.*act' of the points is a str, not an array"
    ):
        points.evaluate(curve, [0.0], {"x": np.ones((1, 2))}, lambda *_: {})
