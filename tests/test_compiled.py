"""Compiled calls that choose their options: alone, nested, without the option."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics.cli.info import info
from kd_heuristics.runtime import compiled

TRACES = []


def scaled(x, factor):
    return factor * x


@dataclasses.dataclass(frozen=True)
class Line:
    slope: float

    def at(self, x):
        TRACES.append(self)
        return self.slope * x

    def above(self, height, x):
        return height + self.at(x)


WRAPPERS = [compiled.jit, compiled.once]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_works_alone_and_inside_other_transformations(wrap):
    call = wrap(lambda x: jnp.sin(x) ** 2)
    x = jnp.arange(4.0)
    expected = np.sin(np.arange(4.0)) ** 2
    slope = np.sin(2 * np.arange(4.0))
    np.testing.assert_allclose(call(x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(call)(x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(call)(x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(call))(x), slope, atol=1e-6)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_works_on_known_values_inside_other_transformations(wrap):
    x = jnp.arange(4.0)
    call = wrap(lambda x: 2 * x)
    np.testing.assert_array_equal(jax.jit(lambda: call(x))(), 2 * x)
    assert jax.eval_shape(lambda: call(x)).shape == (4,)
    y = jnp.arange(3.0)
    found = jax.vmap(lambda one: one * call(x))(y)
    np.testing.assert_array_equal(found, y[:, None] * 2 * x[None])
    slope = jax.grad(lambda one: (one * call(x)).sum())(1.0)
    assert slope == 12


def test_takes_the_settings_of_jit():
    call = compiled.jit(scaled, static_argnames="factor", donate_argnames="x")
    x = jnp.ones(3)
    np.testing.assert_array_equal(call(x, factor=3), [3.0, 3.0, 3.0])
    assert x.is_deleted()
    assert call.__name__ == "scaled"


def test_does_without_an_option_that_xla_does_not_know(monkeypatch):
    monkeypatch.setattr(compiled, "_NETWORKS", {"xla_no_such_option": "1"})
    compiled.knows_the_option.cache_clear()
    try:
        call = compiled.jit(scaled)
        assert not compiled.knows_the_option()
        np.testing.assert_array_equal(call(jnp.ones(2), 2.0), [2.0, 2.0])
    finally:
        compiled.knows_the_option.cache_clear()


def test_nothing_is_compiled_at_decoration(monkeypatch):
    def fail():
        raise AssertionError("a backend was asked for")

    monkeypatch.setattr(jax, "default_backend", fail)
    compiled.jit(scaled)
    compiled.once(scaled)


def above(line):
    return jax.tree_util.Partial(line.above, 1.0)


@pytest.mark.parametrize(
    ("bound", "values"), [(lambda line: line.at, [6, 15]), (above, [7, 16])]
)
def test_methods_of_equal_objects_share_a_program(bound, values):
    call = jax.jit(lambda function, x: function(x))
    TRACES.clear()
    for line in (Line(2.0), Line(2.0)):
        assert call(compiled.as_partial(bound(line)), 3.0) == values[0]
    assert len(TRACES) == 1
    assert call(compiled.as_partial(bound(Line(5.0))), 3.0) == values[1]
    assert len(TRACES) == 2


@pytest.mark.parametrize("bound", [lambda line: line.at, above])
def test_methods_of_objects_that_can_change_compare_by_identity(bound):
    class Open(Line):
        __hash__ = None

    one, other = Open(2.0), Open(2.0)
    assert one == other
    parts = [compiled.as_partial(bound(line)) for line in (one, one, other)]
    structures = [jax.tree.structure(part) for part in parts]
    assert structures[0] == structures[1] != structures[2]
    assert parts[0](3.0) == bound(one)(3.0)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_lowers_and_compiles_without_a_run(wrap):
    def cubed(x):
        return x**3

    call = wrap(cubed)
    shape = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert call.eval_shape(shape) == shape
    assert call.trace(shape).jaxpr.out_avals[0].shape == (2,)
    lowered = call.lower(shape)
    assert "stablehlo" in lowered.as_text()
    x = jnp.array([2.0, 3.0])
    np.testing.assert_array_equal(lowered.compile()(x), [8.0, 27.0])
    # Inside another program, too, where options are refused.
    inside = jax.jit(lambda x: call.lower(shape) and call(x))
    np.testing.assert_array_equal(inside(x), [8.0, 27.0])


def test_lowering_keeps_the_settings_of_jit():
    call = compiled.jit(scaled, static_argnames="factor", donate_argnames="x")
    text = call.lower(jnp.ones(3), factor=3).as_text()
    assert "tf.aliasing_output" in text
    assert call.eval_shape(jnp.ones(3), factor=3).shape == (3,)


def test_the_page_of_ones_own_programs(capsys):
    page = pathlib.Path(__file__).parents[1] / "docs" / "hardware.md"
    text = page.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, page.name, "exec"), {"__name__": page.stem})
    info()
    line = f"XLA_FLAGS={compiled.FLAG}"
    known = compiled.knows_the_option()
    assert (line in capsys.readouterr().out) == known
    assert f"`{line} python train.py`" in text


@pytest.mark.skipif(not compiled.knows_the_option(), reason="an XLA without the option")
def test_xla_knows_the_flag():
    """It stops a process whose flags it does not know."""
    script = "import jax; print(jax.jit(lambda x: x + 1)(1))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XLA_FLAGS": compiled.FLAG},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "2\n"
