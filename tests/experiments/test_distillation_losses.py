"""The table of losses in the distillation study."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from experiments.common import launch
from experiments.distillation import networks, table
from experiments.distillation import study as distillation
from experiments.distillation.claims import claims
from experiments.distillation.config import LOSSES, PRESETS
from kd_heuristics import distill, training
from tests.experiments import planned

SMOKE = dataclasses.replace(
    PRESETS["smoke"], kinds=(), temperatures=(5.0,), losses=("kl", "attention", "crd")
)


def test_every_loss_has_a_function_and_words():
    assert (*table.LOSSES, "crd") == tuple(table.WORDS) == LOSSES
    assert PRESETS["losses"].losses == LOSSES
    assert (PRESETS["losses"].seeds, PRESETS["losses"].first_seed) == (8, 1000)
    for name in ("smoke", "demo", "digits", "cifar10"):
        assert PRESETS[name].losses == ()


def test_each_objective_is_its_loss_beside_the_labels():
    """Layers in training mode, and the losses of the library."""
    nets = networks.choose(SMOKE)
    params, stats = nets.student.start(0)
    taught = training.with_stats(*nets.teacher.start(1))
    batch = jax.tree.map(lambda x: x[:8], nets.student.batches(0, 0))
    inputs = nets.student.classifier.inputs(batch["images"])
    key = jax.random.key(0)
    features, _ = nets.student.classifier.network.train_features(
        training.with_stats(params, stats), inputs, key
    )
    theirs = nets.teacher.classifier.network.features(taught, inputs)
    logits = nets.teacher.classifier.network.apply(taught, inputs)
    np.testing.assert_allclose(theirs[nets.teacher_layers[-1]], logits, rtol=1e-6)
    own = features[nets.layers[-1]]
    maps = features[nets.guided], theirs[nets.hint]
    flat = [
        x.reshape(8, -1)
        for x in (features[nets.layers[-2]], theirs[nets.teacher_layers[-2]])
    ]
    expected = {
        "kl": distill.kl(own, logits, 4.0),
        "dkd": distill.dkd(own, logits, batch["labels"]),
        "dist": distill.dist(own, logits, beta=2.0, gamma=2.0),
        "standardized_kl": 9
        * distill.kl(distill.standardize(own), distill.standardize(logits), 2.0),
        "reverse_kl": distill.kl(logits, own, 4.0),
        "js": distill.js(own, logits),
        "attention": 1000 * distill.attention(*maps, reduction="mean"),
        "rkd": distill.rkd(*flat, distance=25.0, angle=50.0),
    }
    hard = distill.hard_labels(own, batch["labels"])
    for name in table.LOSSES:
        objective, start = table.prepare(name, nets, taught, (params, stats), 0)
        assert start == (params, stats)
        found, (_, metrics) = objective(params, stats, batch, key)
        wanted = (hard + expected[name]).mean()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)
        assert 0 <= metrics["accuracy"] <= 1


def test_claims_and_numbers_follow_from_the_curves():
    found = {its.key: its for its in claims(SMOKE)}
    assert [key for key in found if key.startswith("losses")] == [
        "losses/kl",
        "losses/attention",
        "losses/crd",
    ]
    assert not found["losses/kl"].main
    assert found["losses/kl"].trainings == ("teacher", "loss-kl", "independent")
    curves = {
        "independent": [[0.1, 0.5], [0.6, 0.4]],
        "loss-kl": [[0.7, 0.6], [0.2, 0.3]],
        "loss-attention": [[0.1, 0.2], [0.1, 0.2]],
        "loss-crd": [[0.3, 0.4], [0.4, 0.5]],
    }
    arrays = {f"{arm}/test_accuracy": np.array(x) for arm, x in curves.items()}
    values = table.statistics(SMOKE, arrays)
    np.testing.assert_allclose(values["losses/kl"], [10, -10])
    np.testing.assert_allclose(values["losses/attention"], [-30, -20])
    rows = table.results(SMOKE, arrays)["losses"]
    np.testing.assert_allclose(rows["kl"]["last"]["values"], [60, 30])
    np.testing.assert_allclose(rows["kl"]["best"]["values"], [70, 30])
    np.testing.assert_allclose(rows["labels"]["best"]["values"], [50, 60])
    figure = table.figure({"losses": rows})
    (chart,) = figure.panels
    last, mean, best, _ = chart.series
    assert (last.name, best.name) == ("last epoch, one seed", "best epoch, one seed")
    np.testing.assert_allclose(mean.x, [45, 45, 20, 45])  # labels, kl, ...


def test_layers_that_end_in_no_logits_are_refused():
    shapes = {"a": types.SimpleNamespace(shape=(1, 4)), "b": np.zeros((1, 3))}
    with pytest.raises(ValueError, match=r"b of shape \(3,\) for 10 classes"):
        networks._check_logits(10, shapes)


@pytest.mark.long
def test_losses_end_to_end(tmp_path):
    folder = launch.run(distillation.STUDY, SMOKE, tmp_path / "distillation")
    planned.check(distillation.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert set(results["losses"]) == {"labels", "kl", "attention", "crd"}
    assert (folder / "figures/losses.png").exists()
    own = results["final_test_accuracy"]["independent"]["values"]
    np.testing.assert_allclose(
        results["losses"]["labels"]["last"]["values"], 100 * np.array(own)
    )
