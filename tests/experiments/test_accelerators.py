"""Every training step of every study, lowered for GPU and TPU, in bfloat16.

Parameters, statistics and the sums of losses stay float32, convolutions are bfloat16.
A study runs in its smallest preset, but nothing is trained: each program that it would
have compiled for its training is exported instead, and leaves the networks as they are.
The strategies are the accelerators': a population trains at once.
"""

import dataclasses
import importlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from kd_heuristics import runs, similarity
from kd_heuristics.training.step import FINITE
from tests.experiments.silent import Silent
from tests.selection import some_long

PLATFORMS = ("cuda", "tpu")
# How many programs train the networks of each study's smallest preset.
STEPS = {
    "sgdr": 3,  # a population, chains, twins
    "mode_connectivity": 4,
    "warmup": 2,
    "distillation": 5,
    "fsp": 5,
    "funmatch": 3,
}


class Steps:
    """In place of `advance`: exports each program once, and trains nothing."""

    def __init__(self, advance):
        self._advance = advance
        self._random = np.random.default_rng(0)
        self.found = {}

    def _moved(self, leaf):
        """Not quite the same: some studies refuse equal networks."""
        noise = self._random.normal(scale=1e-3, size=leaf.shape)
        return jnp.asarray(np.asarray(leaf) + noise, leaf.dtype)

    def __call__(self, recipe, state, batches, last_step, form):
        assert form.batch_norm == "device"  # which every training is told
        if form.members == "map":
            form = dataclasses.replace(form, members="vmap", at_once=None)
        arrays = recipe, state, batches, jnp.int32(last_step)
        leaves, structure = jax.tree.flatten(arrays)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves[:-1])
        key = structure, shapes, form
        if key not in self.found:
            step = jax.jit(lambda *arrays: self._advance(*arrays, form))
            self.found[key] = export.export(step, platforms=PLATFORMS)(*arrays)
        program = self.found[key]
        outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
        new, sums, wrong = outputs
        for old, leaf in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
            assert (old.shape, old.dtype) == (leaf.shape, leaf.dtype)
        for leaf in jax.tree.leaves((new.params, new.batch_stats, sums)):
            assert leaf.dtype == jnp.float32
        moved = jax.tree.map(self._moved, state.params)
        return (
            dataclasses.replace(state, step=jnp.int32(last_step), params=moved),
            jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), sums),
            jnp.full(wrong.shape, FINITE, wrong.dtype),
        )


def ones(program):
    """In place of a program that evaluates: ones of its result's shapes."""

    def call(*arguments):
        *arrays, strategy, mesh = arguments
        shapes = jax.eval_shape(lambda *a: program(*a, strategy, mesh), *arrays)
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)

    return call


def halves(features_a, features_b, images, measure, *, batch_size, **options):
    """In place of a map of similarities: halves of its shape."""
    one = jax.tree.map(lambda x: x[:1], images)
    layers = [len(jax.eval_shape(of, one)) for of in (features_a, features_b)]
    return np.full(layers, 0.5, np.float32)


# It has hints, flow matrices and soft targets; the others take a minute together.
@pytest.mark.parametrize("name", some_long(STEPS, "distillation".__ne__))
def test_steps_of_a_study(name, monkeypatch, tmp_path):
    module = sys.modules["kd_heuristics.training.loop"]
    steps = Steps(module.advance)
    monkeypatch.setattr(module, "advance", steps)
    module = sys.modules["kd_heuristics.points.evaluate"]
    for program in ("chunk_sums", "refreshed"):
        monkeypatch.setattr(module, program, ones(getattr(module, program)))
    monkeypatch.setattr(similarity, "stream_matrix", halves)
    study = importlib.import_module(f"experiments.{name}.study").STUDY
    changed = {"dtype": "bfloat16", "batch_norm": "device"}
    config = dataclasses.replace(study.presets["smoke"], **changed).resolved
    folder = runs.RunFolder(tmp_path)
    folder.open({"config": config})
    study.compute(config, folder, Silent())
    for program in steps.found.values():
        text = program.mlir_module()
        convolutions = re.findall(r"stablehlo.convolution.*: (.*)", text)
        assert convolutions
        for types in convolutions:
            assert re.findall(r"x(b?f\d+)>", types) == ["bf16"] * 3
        assert "optimization_barrier" not in text  # marks the forms for CPU: patches
    assert len(steps.found) == STEPS[name]
