"""What runs on accelerators is lowered for them on this machine, whatever it has.

Each test runs a public call and lowers the program that it would have compiled, so that
a lowering error shows without the hardware. The convolutions of `models.conv` are plain
ones there: patches and products are for CPU alone, which the export for CPU shows. Of
the studies' own programs, see tests/experiments/test_accelerators.py.
"""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from experiments.funmatch import lessons
from kd_heuristics import (
    alignment,
    curves,
    data,
    distill,
    models,
    points,
    sharpness,
    similarity,
    training,
)
from kd_heuristics.alignment import finding
from tests.grouped import grouped

PLATFORMS = [("cuda", "tpu"), ("cpu",)]
RANDOM = np.random.default_rng(0)
SET = data.Dataset(
    RANDOM.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8),
    (np.arange(8) % 4).astype(np.int32),
    4,
)
BATCHES = data.train_batches(SET, 4, padding=1, flip=True)
CLASSIFIER = training.Classifier.of(models.create("resnet8", 4, width=0.25), SET)
TEACHER = training.Classifier.of(models.create("shallow", 4, width=0.05), SET)


class Lowered(Exception):
    """Carries what was exported, in place of a run."""


@pytest.fixture(params=PLATFORMS, ids="+".join)
def lower(request, monkeypatch):
    """`lower(module, name, call)`: what `call` would have compiled as module.name."""
    platforms = request.param

    def instead(program, change):
        def stop(*arguments, **static):
            # Arrays are arguments of the exported function; the rest is bound.
            arguments = change(arguments)
            is_array = [_all_arrays(argument) for argument in arguments]
            arrays = [a for a, array in zip(arguments, is_array, strict=True) if array]

            def only_arrays(*arrays):
                rest = iter(arrays)
                return functools.partial(program, **static)(
                    *(
                        next(rest) if array else argument
                        for argument, array in zip(arguments, is_array, strict=True)
                    )
                )

            found = export.export(jax.jit(only_arrays), platforms=platforms)(*arrays)
            raise Lowered(found)

        return stop

    def lower(module, name, call, change=lambda arguments: arguments):
        module = sys.modules[f"kd_heuristics.{module}"]
        monkeypatch.setattr(module, name, instead(getattr(module, name), change))
        with pytest.raises(Lowered) as caught:
            call()
        (found,) = caught.value.args
        assert found.platforms == platforms
        return platforms, found.mlir_module()

    return lower


def _all_arrays(tree):
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(isinstance(x, jax.Array | np.ndarray) for x in leaves)


def start(classifier, seed=0):
    return classifier.network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))


VARIABLES = start(CLASSIFIER)


def distilled():
    def student(params, batch_stats, batch, key):
        variables = training.with_stats(params, batch_stats)
        inputs = CLASSIFIER.inputs(batch["images"])
        return CLASSIFIER.network.train(variables, inputs, key)

    def taught(variables, batch):
        return TEACHER.network.apply(variables, TEACHER.inputs(batch["images"]))

    teacher = distill.Teacher(taught, start(TEACHER))
    return distill.matching_stage(student, teacher, distill.kl)


def flow():
    def student(params, batch_stats, batch, key):
        variables = training.with_stats(params, batch_stats)
        inputs = CLASSIFIER.inputs(batch["images"])
        network = CLASSIFIER.network
        features, moved = network.train_features(variables, inputs, key)
        first, *_, last = models.sections(features)[1]
        return [(features[first], features[last])], moved

    def teacher(batch):
        return student(VARIABLES["params"], VARIABLES["batch_stats"], batch, KEY)[0]

    return distill.matching_stage(student, teacher, distill.fsp_loss)


def mixed():
    view = data.views.create("mix", teacher_size=8, student_size=6)
    objective = lessons.Matching(CLASSIFIER, view)
    teacher = distill.Teacher(lessons.Sees(TEACHER), start(TEACHER))
    return jax.tree_util.Partial(objective, jnp.float32(2.0), teacher)


KEY = jax.random.key(0)
OBJECTIVES = {
    "supervised": lambda: CLASSIFIER.supervised,
    "distilled": distilled,
    "flow matrices": flow,
    "mixed views": mixed,
}


def plain_convolutions(lowered, has_gradient=True):
    """That accelerators have convolutions where CPU has its own forms, patches too."""
    platforms, text = lowered
    assert "stablehlo.convolution" in text
    # It marks CPU's forms of the gradients.
    on_cpu = platforms == ("cpu",)
    assert ("optimization_barrier" in text) == (on_cpu and has_gradient)


def options():
    return {
        "params": VARIABLES["params"],
        "batch_stats": VARIABLES["batch_stats"],
        "optimizer": training.sgd(0.1, momentum=0.9, clip_norm=1.0),
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_step(name, lower):
    def call():
        objective = OBJECTIVES[name]()
        training.fit(objective, batches=BATCHES, num_steps=2, **grouped(options()))

    plain_convolutions(lower("training.loop", "advance", call))


def test_curve_fitting(lower):
    params = VARIABLES["params"]
    loss = curves.CurveLoss(kind="bezier", num_t=2, stratified=True)
    network = jax.tree_util.Partial(CLASSIFIER.supervised)
    objective = jax.tree_util.Partial(loss, (params, params), network)
    own = options() | {"params": (params,)}

    def call():
        training.fit(objective, batches=BATCHES, num_steps=2, **grouped(own))

    plain_convolutions(lower("training.loop", "advance", call))


def test_population_at_once(lower):
    own = options()
    members = [
        training.Member(objective=CLASSIFIER.supervised, seed=seed, **own)
        for seed in range(2)
    ]

    def at_once(arguments):
        *arrays, form = arguments
        return *arrays, dataclasses.replace(form, members="vmap", at_once=None)

    def call():
        training.population(members, BATCHES, num_steps=2)

    plain_convolutions(lower("training.loop", "advance", call, at_once))


def test_points_of_a_curve_at_once(lower):
    params, batch_stats = VARIABLES["params"], VARIABLES["batch_stats"]
    curve = curves.line(params, start(CLASSIFIER, 1)["params"])
    batches = data.eval_batches(SET, 4)

    def at_once(arguments):
        *arrays, _, mesh = arguments
        return *arrays, "vmap", mesh

    def call():
        points.evaluate(
            curve.at,
            [0.0, 0.5, 1.0],
            batches,
            CLASSIFIER.metric,
            batch_stats=batch_stats,
        )

    plain_convolutions(lower("points.evaluate", "chunk_sums", call, at_once), False)


SHARPNESS = {
    "top": ("spectrum", {"num_products": 3}),
    "density": ("spectrum", {"num_products": 3, "num_samples": 2}),
    "trace": ("traces", {"num_samples": 2}),
}


@pytest.mark.parametrize("name", SHARPNESS)
def test_sharpness(name, lower):
    module, options = SHARPNESS[name]

    def loss(params, batch):
        return jnp.square(jnp.tanh(batch @ params)).mean()

    def call():
        tool = getattr(sharpness, name)
        key = jax.random.PRNGKey(0)
        tool(loss, jnp.ones((4, 2)), jnp.ones((2, 3, 4)), key=key, **options)

    assert "stablehlo.while" in lower(f"sharpness.{module}", f"_{name}", call)[1]


def test_activation_matching(lower):
    spec = finding.untried(CLASSIFIER.network.apply, VARIABLES, SET.images[:2] / 255)
    batches = jnp.ones((2, 4, 8, 8, 3))

    def call():
        own = {"key": KEY, "method": "activations", "batches": batches}
        alignment.match(VARIABLES, VARIABLES, spec, **own)

    plain_convolutions(lower("alignment.activations", "_moments", call), False)


@pytest.mark.parametrize("measure", ["cca", "svcca", "pwcca", "cka", "google_cca"])
def test_similarity(measure, lower):
    acts = {name: jnp.ones((20, 3)) for name in "ab"}

    def call():
        similarity.matrix(acts, acts, measure)

    assert lower("similarity.layers", "_program", call)[1]
