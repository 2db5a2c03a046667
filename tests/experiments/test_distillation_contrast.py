"""CRD in the distillation study: a memory bank that a training carries as its state."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import teaching
from experiments.distillation import contrast, networks, plan, table
from experiments.distillation.config import PRESETS
from kd_heuristics import checkpoints, distill, training

CONFIG = dataclasses.replace(
    PRESETS["smoke"],
    train_examples=48,
    map_examples=48,
    batch_size=8,
    kinds=(),
    temperatures=(5.0,),
    losses=("crd",),
)
STEPS = 3


@functools.cache
def nets():
    return networks.choose(CONFIG)


@functools.cache
def teacher():
    return training.with_stats(*nets().teacher.start(1))


def member(seed, steps=STEPS):
    start = nets().student.start(seed)
    objective, start = table.prepare("crd", nets(), teacher(), start, seed)
    optimizer = training.bind(training.sgd, jnp.float32(0.05), jnp.float32(0.9))
    return teaching.member(f"crd-seed{seed}", seed, objective, start, optimizer)


def train(steps, folder=None, metrics=None, keep_steps=()):
    return training.population(
        [member(0), member(1)],
        nets().student.indexed().batches,
        num_steps=steps,
        logging=training.Logging(metrics, log_every_steps=1),
        checkpoints=training.Checkpoints(folder, keep_steps=keep_steps),
    )


def test_the_plan_counts_the_bank():
    bank = distill.init_bank(jax.random.key(0), 48, contrast.SIZE)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(bank))
    trainings = plan.plan(CONFIG.resolved).trainings
    for its in trainings:
        weights = 4 * its.network.parameters * 2
        own = size if its.stages == (table.stage("crd"),) else 0
        assert its.state_bytes == its.members * (weights + own)
    assert sum(its.extra_bytes for its in trainings) == size


def test_a_set_of_one_class_has_no_negatives():
    with pytest.raises(ValueError, match="got 5 images, all of class 1: give other"):
        contrast.Others.of(np.ones(5, int), 3)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(seed, step, params, stats, bank, normalizers):
    """Loss and new bank of a step in float64, from the network's layers."""
    batch = nets().student.indexed().batches(seed, jnp.int32(step))
    key = jax.random.fold_in(jax.random.key(seed), step)
    inputs = nets().student.classifier.inputs(batch["images"])
    learner, taught = (
        its.classifier.network for its in (nets().student, nets().teacher)
    )
    variables = training.with_stats(params["student"], stats)
    mine, _ = learner.train_features(variables, inputs, key)
    theirs = taught.features(teacher(), inputs)
    logits = np.float64(mine[nets().layers[-1]])
    embeddings = [
        unit(
            np.float64(x).reshape(len(x), -1) @ np.float64(layer["kernel"])
            + np.float64(layer["bias"])
        )
        for x, layer in zip(
            (mine[nets().layers[-2]], theirs[nets().teacher_layers[-2]]),
            params["projections"],
            strict=True,
        )
    ]
    labels, index = np.array(batch["labels"]), np.array(batch["index"])
    own = nets().student.train
    np.testing.assert_array_equal(own.labels[index], labels)
    others = contrast.Others.of(own.labels, own.num_classes)
    drawn = np.array(others.draw(labels, 16, jax.random.fold_in(key, 1)))  # 48 * .328
    assert (own.labels[drawn] != labels[:, None]).all()
    share, total = 16 / 48, 0.0
    for b in range(len(labels)):
        row = logits[b] - logits[b].max()
        total += np.log(np.exp(row).sum()) - row[labels[b]]
        for mode in (0, 1):  # anchors of the student, then of the teacher
            for place in (index[b], *drawn[b]):
                score = embeddings[mode][b] @ bank[1 - mode][place] / 0.07
                e = np.exp(score) / normalizers[mode]
                h = e / (e + share)
                total -= 0.8 * np.log(h if place == index[b] else 1 - h)
    new = [rows.copy() for rows in bank]
    for rows, moved in zip(new, embeddings, strict=True):
        rows[index] = unit(0.5 * rows[index] + 0.5 * moved)
    return total / len(labels), new


def test_three_steps_are_those_by_hand(tmp_path):
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    last = train(STEPS, tmp_path / "crd", metrics, keep_steps=range(STEPS))
    _, (_, start) = table.prepare("crd", nets(), teacher(), nets().student.start(1), 1)
    bank = [np.float64(start["bank"].student), np.float64(start["bank"].teacher)]
    # The mean over the axes' unit vectors, for each network's anchors.
    normalizers = [48 * np.exp(rows / 0.07).mean() for rows in bank[::-1]]
    for step in range(STEPS):
        state = checkpoints.restore(tmp_path / "crd", last, step)
        own = training.member(state, 1)
        kept = own.batch_stats
        rows = kept["bank"].student, kept["bank"].teacher
        for found, expected in zip(rows, bank, strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-6)  # float32
        loss, bank = by_hand(1, step, own.params, kept["student"], bank, normalizers)
        (line,) = (row for row in metrics.read("crd-seed1") if row["step"] == step + 1)
        np.testing.assert_allclose(line["loss"], loss, rtol=2e-5)


def test_a_resumed_training_has_the_bank_of_one_that_never_stopped(tmp_path):
    train(2, tmp_path / "crd")
    resumed = train(STEPS, tmp_path / "crd")
    whole = train(STEPS)
    for found, expected in zip(*map(jax.tree.leaves, (resumed, whole)), strict=True):
        np.testing.assert_array_equal(found, expected)
    start = table.prepare("crd", nets(), teacher(), nets().student.start(0), 0)[1][1]
    moved = np.asarray(whole.batch_stats["bank"].student[0] != start["bank"].student)
    assert 8 <= moved.any(1).sum() <= 8 * STEPS  # of 48 examples, in batches of 8


def test_a_populations_test_is_that_of_its_students():
    state = train(1)
    found = contrast.tested(nets().student, state)
    own = training.member(state, 1)
    alone = training.evaluate(
        nets().student.classifier.metric,
        own.params["student"],
        own.batch_stats["student"],
        nets().student.test,
    )
    np.testing.assert_allclose(found["test_accuracy"][1], alone["accuracy"], rtol=1e-6)


def test_a_bank_smaller_than_the_batch_is_refused_before_training():
    small = member(0)
    bank = distill.init_bank(jax.random.key(0), 4, contrast.SIZE)
    state = {**small.batch_stats, "bank": bank}
    with pytest.raises(ValueError, match=r"4 rows for a batch of 8; .*init_bank"):
        training.population(
            [dataclasses.replace(small, batch_stats=state)],
            nets().student.indexed().batches,
            num_steps=1,
        )


def test_the_normaliser_is_the_mean_over_random_pairs():
    """As the authors' code estimates it on its first batch."""
    bank = distill.init_bank(jax.random.key(0), 4000, contrast.SIZE)
    anchors = unit(np.random.default_rng(0).normal(size=(64, contrast.SIZE)))
    first = 4000 * np.exp(anchors @ np.float64(bank.teacher).T / 0.07).mean()
    np.testing.assert_allclose(contrast.normalizer(bank.teacher), first, rtol=0.01)


def test_a_bank_for_each_device_is_refused():
    with pytest.raises(
        ValueError, match="batch_norm must be 'global' with the loss crd"
    ):
        dataclasses.replace(CONFIG, batch_norm="device")
