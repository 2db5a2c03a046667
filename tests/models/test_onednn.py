"""oneDNN's convolution against direct sums, where it serves, and what asks for it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from kd_heuristics import models
from kd_heuristics.runs import code_identity, other_code
from kd_heuristics.runtime import onednn
from kd_heuristics.runtime.errors import InputError
from tests.models.test_conv import (
    CASES,
    FLOAT32,
    arrays,
    assert_close,
    direct,
    mesh,
    of_case,
    ours,
)

CALL = "__onednn$convolution"
needs_onednn = pytest.mark.skipif(
    onednn.asked() == "off", reason="this jaxlib or machine has no known oneDNN"
)


@pytest.fixture
def use(monkeypatch):
    """`use("all")`: the setting of the programs that are compiled from here on."""

    def set_to(setting):
        monkeypatch.setattr(onednn, "setting", lambda: setting)
        jax.clear_caches()

    yield set_to
    jax.clear_caches()


def loss(convolve, x, kernel):
    return jnp.sum(jnp.sin(convolve(x, kernel)))


def calls(function, *operands):
    return jax.jit(function).lower(*operands).as_text().count(CALL)


@needs_onednn
@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_are_the_direct_sums(name, use):
    use("all")
    x, kernel, dy = arrays(name)
    *_, strides, padding = CASES[name]

    def run(x, kernel, dy):
        out, pullback = jax.vjp(of_case(ours, name), x, kernel)
        return (out, *pullback(dy))

    expected = direct(x, kernel, dy, strides, padding)
    assert_close(jax.jit(run)(x, kernel, dy), expected, FLOAT32)
    assert_close((jax.jit(of_case(ours, name))(x, kernel),), expected[:1], FLOAT32)


@needs_onednn
@pytest.mark.parametrize(
    ("setting", "inference", "gradient"),
    [("off", 0, 0), ("inference", 1, 0), ("all", 1, 2)],
)
def test_settings(setting, inference, gradient, use):
    """Where something is differentiated only "all" asks for it, also for the output."""
    use(setting)
    x, kernel, _ = arrays("forward")
    run = of_case(ours, "forward")
    assert calls(run, x, kernel) == inference
    slope = jax.grad(functools.partial(loss, run), (0, 1))
    assert calls(slope, x, kernel) == gradient
    # A part that nothing is differentiated by, such as a teacher, is inference.
    frozen = jax.grad(lambda x, k: jnp.sum(x) * jnp.sum(run(jnp.ones(x.shape), k)))
    assert calls(frozen, x, kernel) == inference


@needs_onednn
@pytest.mark.parametrize("setting", ["inference", "all"])
def test_vmap_scan_and_second_derivatives(setting, use):
    x, kernel, _ = arrays("forward")
    kernels = jnp.stack([jnp.asarray(kernel), -2 * jnp.asarray(kernel)])
    run = of_case(ours, "forward")

    def curve(x, kernels):
        outputs = jax.vmap(run, (None, 0))(x, kernels)
        pairs = jax.vmap(run)(jnp.stack([x, x]), kernels)
        _, scanned = jax.lax.scan(lambda _, k: (0, run(x, k)), 0, kernels)
        curvature = jax.jvp(
            jax.grad(functools.partial(loss, run)), (x, kernels[0]), (x, kernels[1])
        )
        return outputs, pairs, scanned, curvature

    found = {}
    for how in ("off", setting):
        use(how)
        found[how] = jax.tree.leaves(jax.jit(curve)(x, kernels))
    assert_close(found[setting], found["off"], FLOAT32)


@needs_onednn
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_other_types(dtype, use):
    """Narrower types are widened to float32; float64 stays XLA's."""
    use("inference")
    with jax.enable_x64(dtype == jnp.float64):
        x, kernel, _ = (jnp.asarray(a, dtype) for a in arrays("forward"))
        assert calls(of_case(ours, "forward"), x, kernel) == (dtype != jnp.float64)


@needs_onednn
@pytest.mark.parametrize("edge", [-1, 3])
def test_paddings_that_crop_or_pass_the_kernel_are_xla_s(edge, use):
    use("inference")
    x, kernel, _ = arrays("forward")
    padding = ((1, 1), (1, edge))
    run = functools.partial(ours, strides=(1, 1), padding=padding)
    assert calls(run, x, kernel) == 0
    assert calls(of_case(ours, "forward"), x, kernel) == 1


@needs_onednn
def test_exports_and_several_devices_are_xla_s(use):
    """What is exported runs elsewhere; a call would not be split over devices."""
    use("inference")
    x, kernel, _ = arrays("forward", images=8)
    run = jax.jit(of_case(ours, "forward"))
    exported = jax.export.export(run, platforms=["cpu"])(x, kernel)
    assert CALL not in exported.mlir_module()
    spread = jax.device_put(x, NamedSharding(mesh(), PartitionSpec("data")))
    assert calls(of_case(ours, "forward"), spread, kernel) == 0
    assert_close([run(spread, kernel)], [run(x, kernel)], FLOAT32)


def test_a_run_by_other_convolutions_is_another_run(use):
    found = {}
    for setting in onednn.SETTINGS:
        use(setting)
        found[setting] = code_identity.modules(models.create)
    for setting in ("inference", "all"):
        assert code_identity.changed(found["off"], found[setting]) == [onednn.VARIABLE]
    assert onednn.VARIABLE not in code_identity.modules(np.mean)


def test_a_run_of_another_setting_says_how_to_resume():
    rule = other_code.OtherCode("refuse")
    with pytest.raises(other_code.CodeChangedError, match="=all to resume"):
        rule.use("a stage", [{onednn.VARIABLE: "all", "a": "1"}], {"a": "1"})


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_that_are_kept_are_xla_s(cache):
    """XLA cannot serialise the call."""
    assert onednn.setting() == "off"
    x, kernel, _ = arrays("forward")
    assert calls(of_case(ours, "forward"), x, kernel) == 0


class TestWhatIsAskedFor:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        onednn.asked.cache_clear()
        yield
        onednn.asked.cache_clear()

    @needs_onednn
    def test_by_default_inference_with_tested_wheels_only(self, monkeypatch):
        monkeypatch.delenv(onednn.VARIABLE, raising=False)
        assert onednn.asked() == onednn.setting() == "inference"
        onednn.asked.cache_clear()
        monkeypatch.setattr(onednn, "TESTED", frozenset())
        assert onednn.asked() == "off"

    def test_another_word_is_refused(self, monkeypatch):
        monkeypatch.setenv(onednn.VARIABLE, "on")
        with pytest.raises(InputError, match=re.escape(f"{onednn.VARIABLE} must be")):
            onednn.setting()

    @needs_onednn
    def test_another_version_is_tried(self, monkeypatch):
        """In a child process, on the CPU."""
        monkeypatch.setattr(onednn, "TESTED", frozenset())
        monkeypatch.setenv(onednn.VARIABLE, "all")
        monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
        assert onednn.asked() == "all"

    @pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
    def test_a_child_that_fails_means_off(self, program, monkeypatch):
        monkeypatch.setattr(onednn, "TESTED", frozenset())
        monkeypatch.setattr(onednn.sys, "executable", program)
        monkeypatch.setenv(onednn.VARIABLE, "all")
        assert onednn.asked() == "off"
