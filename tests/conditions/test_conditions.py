"""Each public tool under JAX's flags and every kind of number, key and container."""

import pathlib

import jax
import numpy as np
import pytest

from kd_heuristics import (
    alignment,
    averaging,
    curves,
    freezing,
    schedules,
    sharpness,
    similarity,
)
from tests.conditions import tools, worlds

# What is refused in place of computed: (tool, world) -> part of the sentence.
REFUSED = {
    # optax's Adam: b1 ** count.
    ("freeze_around_adam", "strict_promotion"): "no available implicit dtype promotion",
    ("decayed_adam_and_shampoo", "strict_promotion"): "no available implicit dtype",
}

# Seconds each, and others of their kind are short: every measure and a map under both
# settings in `tests/similarity/test_settings.py`, two containers of the sharpness.
LONG = {
    ("every_similarity", "x64"),
    ("every_similarity", "disable_jit"),
    ("similarity_maps", "disable_jit"),
    *(("every_sharpness", name) for name in worlds.PARAMS),
} - {("every_sharpness", "none_leaves"), ("every_sharpness", "equinox")}

CASES = [
    pytest.param(name, world, marks=[pytest.mark.long] * ((name, world) in LONG))
    for name, tool in tools.TOOLS.items()
    for world in worlds.WORLDS
    if worlds.group_of(world) in ("", *tool.takes)
]


@pytest.mark.parametrize(("name", "world"), CASES)
def test_same_numbers_or_a_refusal_in_words(name, world):
    expected = tools.expected(name)
    call = tools.TOOLS[name].call
    own = worlds.WORLDS[world]
    with own.entered():
        if (name, world) in REFUSED:
            with pytest.raises((ValueError, TypeError), match=REFUSED[name, world]):
                call(own)
            return
        found = tools.as_numpy(call(own))
    _same(found, expected)


def _same(found, expected):
    assert len(found) == len(expected) > 0
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        # Float32 sums in another order, or in float64 under x64.
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


# Public names that are not tools of numbers: types, errors, or called through others.
COVERED_ELSEWHERE = {
    "similarity.capture",  # of models, not arrays
    "similarity.stream",  # by stream_matrix
}


TOOLS = [alignment, averaging, curves, freezing, schedules, sharpness, similarity]


@pytest.mark.parametrize("module", TOOLS)
def test_no_function_is_left_out(module):
    text = pathlib.Path(tools.__file__).read_text(encoding="utf-8")
    short = module.__name__.rpartition(".")[2]
    names = {f"{short}.{name}" for name in module.__all__ if name[0].islower()}
    assert {name for name in names if name not in text} <= COVERED_ELSEWHERE


def test_rounded_products_are_noticed():
    """The emulation acts where no precision is asked for, and only there."""
    x = np.float32([[1.0, 1.0 + 2**-12]])
    with worlds.WORLDS["bfloat16_products"].entered():
        assert jax.jit(lambda x: x @ x.T)(x)[0, 0] == 2.0
        exact = jax.jit(lambda x: jax.numpy.dot(x, x.T, precision="highest"))(x)
    assert exact[0, 0] > 2.0
