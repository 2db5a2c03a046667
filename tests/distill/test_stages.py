"""Stages: what each trains, what it leaves alone, and the value it minimises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import distill, training
from tests.distill.nets import quick
from tests.distill.oracles import fsp_loss, hard_labels, soft_cross_entropy, square

UNITS = 6


def layer(rng, size=UNITS):
    return {"kernel": jnp.asarray(rng.normal(size=(UNITS, size)) / 2, jnp.float32)}


def variables(seed):
    """Three layers, each with a running mean of its outputs."""
    rng = np.random.default_rng(seed)
    params = {name: layer(rng) for name in ("a", "b", "c")}
    return {"params": params, "batch_stats": dict.fromkeys(params, jnp.zeros(UNITS))}


def _forward(v, x, train):
    """Outputs of all layers, and the running means after the batch."""
    outputs, stats = {}, {}
    for name, weights in v["params"].items():
        x = jnp.tanh(x @ weights["kernel"])
        mean = x.mean(0) if train else v["batch_stats"][name]
        stats[name] = 0.9 * v["batch_stats"][name] + 0.1 * mean
        x = outputs[name] = x - mean[None]
    return outputs, stats


forward = jax.jit(_forward, static_argnums=2)


def student(read, params, batch_stats, batch, key):
    whole = {"params": params, "batch_stats": batch_stats}
    outputs, moved = forward(whole, batch["x"], True)
    return read(outputs), moved


def teach(read, v, batch):
    return read(forward(v, batch["x"], False)[0])


def both(read):
    """A student and a teacher that return the same of their layers."""
    teacher = distill.Teacher(functools.partial(teach, read), variables(1))
    return functools.partial(student, read), teacher


def guided(outputs):
    return outputs["b"]


def logits(outputs):
    return outputs["c"]


def guided_and_logits(outputs):
    return outputs["b"], outputs["c"]


def maps(outputs):
    return [(outputs["a"].reshape(-1, 1, 2, 3), outputs["c"].reshape(-1, 2, 1, 3))]


X = jnp.asarray(np.random.default_rng(5).normal(size=(8, UNITS)), jnp.float32)
BATCH = {"x": X, "labels": jnp.arange(8) % UNITS, "step": jnp.int32(3)}
STUDENT = variables(0)
OPTIMIZER = optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.2, momentum=0.9))


def batches(seed, step):
    return {"x": X + 0.01 * step, "labels": BATCH["labels"]}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def hint_setting():
    mask = distill.depends_on(lambda v: guided(forward(v, X, False)[0]), STUDENT)
    below, rest = distill.split(STUDENT, mask)
    regressor = distill.regressor(jnp.zeros((1, UNITS)), jnp.zeros((1, UNITS)))
    params = {
        "student": below["params"],
        "regressor": regressor.init(jax.random.key(0)),
    }
    return regressor, params, rest


def test_hints_train_the_student_below_its_guided_layer_alone(tmp_path):
    regressor, params, rest = hint_setting()
    assert params["student"]["c"] == {"kernel": None}
    objective = distill.hint_stage(*both(guided), regressor, rest)
    start, _ = quick(objective)(params, STUDENT["batch_stats"], BATCH, None)
    run = functools.partial(
        training.fit,
        objective,
        params,
        STUDENT["batch_stats"],
        OPTIMIZER,
        batches,
        checkpoints=training.Checkpoints(directory=tmp_path),
    )
    run(num_steps=5)
    state = run(num_steps=30)  # resumed: the checkpoint holds the part alone
    end, _ = quick(objective)(state.params, state.batch_stats, BATCH, None)
    assert end < 0.5 * start
    whole = distill.merge(state.params["student"], rest["params"])
    assert bits(whole["c"]) == bits(STUDENT["params"]["c"])
    assert bits(state.batch_stats["c"]) == bits(STUDENT["batch_stats"]["c"])
    for name in ("a", "b"):
        assert bits(whole[name]) != bits(STUDENT["params"][name])
        assert bits(state.batch_stats[name]) != bits(STUDENT["batch_stats"][name])


def test_the_hint_stages_value():
    regressor, params, rest = hint_setting()
    objective = distill.hint_stage(*both(guided), regressor, rest)
    value, (_, metrics) = quick(objective)(params, STUDENT["batch_stats"], BATCH, None)
    here = forward(STUDENT, X, True)[0]["b"]
    there = forward(variables(1), X, False)[0]["b"]
    kernel = np.asarray(params["regressor"]["kernel"])
    expected = square(np.asarray(here) @ kernel, np.asarray(there)).mean() / 2
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert metrics["loss"] == value


def test_several_hints_add_up():
    regressor, params, rest = hint_setting()

    def twice(outputs):
        return guided(outputs), 2 * guided(outputs)

    objective = distill.hint_stage(*both(twice), (regressor, regressor), rest)
    own = params | {"regressor": (params["regressor"], params["regressor"])}
    value, _ = quick(objective)(own, STUDENT["batch_stats"], BATCH, None)
    single = distill.hint_stage(*both(guided), regressor, rest)
    once, _ = quick(single)(params, STUDENT["batch_stats"], BATCH, None)
    # No bias at the start, so that twice the layers are at four times the distance.
    np.testing.assert_allclose(value, 5 * once, rtol=1e-5)
    short = own | {"regressor": (params["regressor"],)}
    with pytest.raises(ValueError, match="shorter"):
        objective(short, STUDENT["batch_stats"], BATCH, None)


def test_a_student_without_running_statistics():
    regressor, params, rest = hint_setting()

    def plain(params, batch_stats, batch, key):
        return batch["x"] @ params["a"]["kernel"] @ params["b"]["kernel"], {}

    objective = distill.hint_stage(
        plain, both(guided)[1], regressor, {"params": rest["params"]}
    )
    assert objective(params, {}, BATCH, None)[1][0] == {}


def fitnet_value(weight):
    here = np.asarray(forward(STUDENT, X, True)[0]["c"])
    there = np.asarray(forward(variables(1), X, False)[0]["c"])
    hard = hard_labels(here, np.asarray(BATCH["labels"]))
    return float((hard + weight * soft_cross_entropy(here, there, 3.0)).mean())


def test_the_second_stage_anneals_by_the_batchs_step():
    numbered = distill.numbered(batches)
    assert numbered(0, 3)["step"] == 3
    objective = distill.fitnet_stage(*both(logits), distill.annealed_weight(7))
    # Not compiled as a whole: the pass is the program of `forward`, and has its bits.
    value, (moved, metrics) = objective(
        STUDENT["params"], STUDENT["batch_stats"], BATCH, None
    )
    assert metrics["weight"] == 2.5
    np.testing.assert_allclose(value, fitnet_value(2.5), rtol=1e-5)
    assert bits(moved) == bits(forward(STUDENT, X, True)[1])
    state = training.fit(
        objective,
        STUDENT["params"],
        STUDENT["batch_stats"],
        OPTIMIZER,
        numbered,
        num_steps=7,
    )
    assert bits(state.params["c"]) != bits(STUDENT["params"]["c"])


def test_the_joint_form_adds_both_stages():
    regressor, params, rest = hint_setting()
    hint_value = quick(distill.hint_stage(*both(guided), regressor, rest))(
        params, STUDENT["batch_stats"], BATCH, None
    )[0]
    objective = distill.joint_stage(
        *both(guided_and_logits),
        regressor,
        distill.annealed_weight(7),
        hint_weight=0.5,
    )
    whole = {"student": STUDENT["params"], "regressor": params["regressor"]}
    value, (_, metrics) = quick(objective)(whole, STUDENT["batch_stats"], BATCH, None)
    np.testing.assert_allclose(value, fitnet_value(2.5) + 0.5 * hint_value, rtol=1e-5)
    np.testing.assert_allclose(metrics["hint_loss"], hint_value, rtol=1e-6)


def test_fsp_stage_one_and_its_stored_form():
    student, teacher = both(maps)
    whole = STUDENT["params"], STUDENT["batch_stats"]
    objective = distill.matching_stage(student, teacher, distill.fsp_loss)
    value, _ = quick(objective)(*whole, BATCH, None)
    pairs = [
        [tuple(map(np.asarray, pair)) for pair in maps(forward(v, X, train)[0])]
        for v, train in ((STUDENT, True), (variables(1), False))
    ]
    np.testing.assert_allclose(value, fsp_loss(*pairs).mean(), rtol=1e-5)

    def matrices(outputs):
        return distill.fsp_matrices(maps(outputs))

    student, teacher = both(matrices)
    stored = distill.store(teacher, {"x": X.reshape(4, 2, UNITS)})
    objective = distill.matching_stage(student, stored, distill.fsp_distance)
    again, _ = quick(objective)(*whole, BATCH | {"index": jnp.arange(8)}, None)
    np.testing.assert_allclose(again, value, rtol=1e-6)


def test_other_teachers_and_weights_share_a_program():
    objectives = [
        distill.fitnet_stage(
            both(logits)[0],
            distill.Teacher(TEACH_LOGITS, variables(seed)),
            distill.annealed_weight(seed + 5),
        )
        for seed in (1, 2)
    ]
    structures = {jax.tree.structure(objective) for objective in objectives}
    assert len(structures) == 2  # two partials of the student: two functions
    shared = both(logits)[0]
    again = [
        distill.fitnet_stage(shared, o.args[1], o.args[2], 2.0) for o in objectives
    ]
    assert len({jax.tree.structure(objective) for objective in again}) == 1


TEACH_LOGITS = functools.partial(teach, logits)


def test_what_is_wrong_is_said():
    weight = distill.annealed_weight(5)
    with pytest.raises(ValueError, match=r"temperature must be above 0.*got 0"):
        distill.fitnet_stage(*both(logits), weight, 0.0)
    regressor, _, _ = hint_setting()
    with pytest.raises(ValueError, match=r"hint_weight must be at least 0.*-1"):
        distill.joint_stage(
            *both(guided_and_logits), regressor, weight, hint_weight=-1.0
        )
