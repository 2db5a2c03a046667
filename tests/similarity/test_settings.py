"""The same values whatever jax is set to, and for what else holds numbers."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from tests.modes import enable_x64
from tests.similarity import oracles
from tests.similarity.table import MEASURES, related

SETTINGS = {
    "strict promotion": [
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
    ],
    "strict promotion, x64": [
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: enable_x64(True),
    ],
    "no jit": [lambda: jax.disable_jit()],
    "debug NaN": [lambda: jax.debug_nans(True), lambda: jax.debug_infs(True)],
    "bfloat16 products": [lambda: jax.default_matmul_precision("BF16_BF16_F32")],
}
X, Y = (layer.astype(np.float32) for layer in related(1, 40, 6, 5))
MAPS = np.random.default_rng(2).normal(size=(40, 2, 3, 2)).astype(np.float32)


def all_values(x, y, maps):
    """Every measure of units, maps and moments, a dead unit among them."""
    out = {name: jnp.mean(ours(x, y)) for name, (ours, _) in MEASURES.items()}
    layers = {"00_maps": maps, "01_units": x.at[:, 2].set(0)}
    half = {name: layer[::2] for name, layer in layers.items()}
    rest = {name: layer[1::2] for name, layer in layers.items()}
    acc = similarity.Accumulator.init(layers).update(half)
    acc = acc.merge(similarity.Accumulator.init(layers).update(rest))
    for name in ("pwcca", "google_cca"):
        out[f"map {name}"] = similarity.matrix(layers, None, name)
        out[f"moments {name}"] = acc.result(name)
    out["debiased map"] = similarity.matrix(layers, None, "cka", debiased=True)
    out["floor"] = similarity.above_floor(out["debiased map"], 0.2)
    out["slope"] = jax.grad(similarity.svcca)(x, y)
    return out


@pytest.fixture(scope="module")
def expected():
    return jax.device_get(jax.jit(all_values)(*map(jnp.asarray, (X, Y, MAPS))))


@pytest.mark.filterwarnings("ignore::kd_heuristics.similarity.SaturationWarning")
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_values_under_every_setting(setting, expected):
    with contextlib.ExitStack() as stack:
        for enter in SETTINGS[setting]:
            stack.enter_context(enter())
        call = all_values if setting == "no jit" else jax.jit(all_values)
        found = jax.device_get(call(*(jnp.asarray(v) for v in (X, Y, MAPS))))
    for name, value in expected.items():
        # float32 sums in another order.
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_a_layer_that_is_not_finite_is_named_while_jax_looks_for_nan():
    with jax.debug_nans(True), pytest.raises(ValueError, match=r"^x: NaN or infinite"):
        similarity.cka(np.where(X > 1, np.nan, X), Y)


def test_layers_of_two_precisions_under_strict_promotion():
    expected = oracles.cka(X.astype(np.float64), Y)
    with enable_x64(True), jax.numpy_dtype_promotion("strict"):
        both = {"x": X}, {"y": Y.astype(np.float64)}
        value = similarity.matrix(*both, "cka")[0, 0]
        streamed = similarity.Accumulator.init(*both).update(*both).result("cka")[0, 0]
    np.testing.assert_allclose([value, streamed], expected, atol=1e-6)


class Tensor:
    """As a tensor of PyTorch: a dtype that is not NumPy's, read by `__array__`."""

    dtype = "torch.float32"

    def __init__(self, values, error=None):
        self.values, self.error = values, error
        self.ndim, self.shape = values.ndim, values.shape

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return np.asarray(self.values, dtype)


def test_tensors_of_other_libraries():
    x, y = Tensor(X), Tensor(Y)
    value = similarity.cka(X, Y)
    assert similarity.cka(x, y) == value
    assert similarity.matrix({"h": x}, {"h": y}, "cka")[0, 0] == value
    moments = similarity.Accumulator.init(x, y).update(x, y).result("cka")
    np.testing.assert_allclose(moments, value, atol=1e-6)
    apart = Tensor(X, RuntimeError("Can't call numpy() on Tensor that requires grad."))
    for call in (
        lambda: similarity.cka(apart, Y),
        lambda: similarity.matrix({"x": apart}),
        lambda: similarity.Accumulator.init({"x": apart}),
        lambda: similarity.Accumulator.init({"x": X}).update({"x": apart}),
    ):
        with pytest.raises(TypeError, match=r"x.* is a tests\.Tensor .*\.detach\(\)"):
            call()


@pytest.mark.parametrize(
    "pair", [(X, X), [X, X], ((X, X), X), [Tensor(X)]], ids=range(4)
)
def test_a_layer_of_several_arrays_is_refused(pair):
    calls = {
        r"acts_a\['h'\]": [
            lambda: similarity.matrix({"h": pair}),
            lambda: similarity.Accumulator.init({"h": pair}),
            lambda: similarity.Accumulator.init({"h": X}).update({"h": pair}),
        ],
        "x": [lambda: similarity.cka(pair, X), lambda: similarity.dft_cca(pair, X)],
    }
    for name, own in calls.items():
        for call in own:
            with pytest.raises(TypeError, match=rf"^{name} is a \w+ of \d arrays"):
                call()
    with pytest.raises(TypeError, match=r"^x is a dict, not an array"):
        similarity.cka({"h": X}, X)


def test_moments_of_numpy_arrays():
    x, y = X.astype(np.float64), Y.astype(np.float64)
    moments = similarity.Accumulator.init(x, y).update(x, y)
    assert moments.result("cka").dtype == jnp.float32
    np.testing.assert_allclose(moments.result("cka"), oracles.cka(x, y), atol=1e-6)


def test_nested_numbers_are_an_array():
    value = similarity.cka(X.tolist(), Y.tolist())
    np.testing.assert_allclose(value, oracles.cka(X, Y), atol=1e-6)
