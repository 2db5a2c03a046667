"""Teachers and students of the user's in distillation and fsp, by name and from Python.

Also: no figure or result on the user's own shows the papers' numbers.
"""

import dataclasses
import json
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments.distillation
import experiments.fsp
from experiments.common import classifier, figures, running, teaching
from experiments.distillation import networks
from experiments.distillation import study as distillation
from experiments.fsp import nets as single
from experiments.fsp import study as fsp
from experiments.fsp import tasks as parts
from kd_heuristics import data, models, report, training
from tests.experiments import planned
from tests.report import folders

NNX = """
    from flax import nnx
    from kd_heuristics import models

    class Net(nnx.Module):
        def __init__(self, num_classes, depth, channels, rngs):
            sizes = [3, *[4] * (depth + 1), *[channels] * (depth + 1)]
            self.names = ()
            for place, (i, o) in enumerate(zip(sizes, sizes[1:])):
                strides = 2 if place == depth + 1 else 1
                self.names += (f"conv{place}",)
                layer = nnx.Conv(i, o, (3, 3), strides=strides, rngs=rngs)
                setattr(self, self.names[-1], layer)
            self.fc = nnx.Linear(16 * channels, num_classes, rngs=rngs)

        def __call__(self, images):  # [batch, 8, 8, 3]
            for name in self.names:
                images = nnx.relu(getattr(self, name)(images))
            return self.fc(images.reshape(len(images), -1))

    def student(num_classes):
        return models.from_nnx("student", lambda rngs: Net(num_classes, 1, 4, rngs))

    def teacher(num_classes):
        return models.from_nnx("teacher", lambda rngs: Net(num_classes, 2, 4, rngs))

    def wide(num_classes):
        return models.from_nnx("wide", lambda rngs: Net(num_classes, 2, 5, rngs))
"""
NAMED = {"model": "nets.py:student", "teacher": "nets.py:teacher"}


def forget():
    for name in [n for n in sys.modules if n.startswith("own_nets") or n == "nets"]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with nets.py and images.npz: the class is the mean colour."""
    forget()
    (tmp_path / "nets.py").write_text(textwrap.dedent(NNX))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = random.integers(0, 156, (160, 8, 8, 3)).astype(np.uint8)
    images[labels < 3, :, :, :] += (100 * np.eye(4, 3, dtype=np.uint8))[
        labels[labels < 3], None, None
    ]
    np.savez("images.npz", images=images, labels=labels)
    yield tmp_path
    forget()


def small(study, **changes):
    """The smoke preset on images.npz."""
    changes = {"dataset": "images.npz", "eval_batch_size": 16} | changes
    if study is distillation:
        changes |= {"train_examples": 64, "map_examples": 16}
    else:
        changes |= {"image_size": None}
    return dataclasses.replace(study.PRESETS["smoke"], **changes)


def check_nothing_of_the_papers(run):
    described, results = (
        json.loads((run / f"{name}.json").read_text()) for name in ("config", "results")
    )
    for claims in (described["claims"], results["claims"]):
        assert {claim["paper"] for claim in claims} == {None}
    assert "paper" not in results
    figures = [json.loads(p.read_text()) for p in (run / "figures").glob("*.json")]
    panels = [panel for figure in figures for panel in figure["panels"]]
    assert panels
    assert not any(panel["paper"] for panel in panels)
    series = [one for panel in panels for one in panel.get("series", ())]
    assert not any(one["paper"] for one in series)
    return described, results


def test_distillation_of_named_networks(folder):
    config = small(distillation, **NAMED)
    run = running.run(distillation.STUDY, config, folder / "runs" / "distillation")
    planned.check(distillation.STUDY, run, config)
    described, results = check_nothing_of_the_papers(run)
    assert described["own"] == {
        "model": {"name": "nets.py:student"},
        "teacher": {"name": "nets.py:teacher"},
        "dataset": {"name": "images.npz"},
    }
    # The last maps; the flow goes from the first to the last, 4 and 4 channels.
    (guided, hint), (mine, theirs) = results["pairs"]["hint"], results["pairs"]["fsp"]
    assert (guided, hint) == ("03_conv3_conv", "05_conv5_conv")
    assert mine == ["00_conv0_conv", guided]
    assert theirs == ["00_conv0_conv", hint]
    page = report.write(run.parent).read_text()
    words = "nets.py:teacher teaches nets.py:student on images.npz"
    assert f"asked of your own: {words}" in page


def test_fsp_of_networks_from_python(folder):
    student, teacher = (
        models.create(f"nets.py:{name}", 4) for name in ("student", "teacher")
    )
    with np.load("images.npz") as found:
        sets = data.split(data.from_arrays(**found))
    config = small(fsp, dataset="digits_photo")
    run = experiments.fsp.run(config, folder / "runs" / "fsp", student, sets, teacher)
    described, results = check_nothing_of_the_papers(run)
    assert described["own"]["teacher"]["parameters"] == sum(
        leaf.size for leaf in jax.tree.leaves(start(teacher))
    )
    assert tuple(results["fast"]) == tuple(fsp.FAST)
    assert json.loads((run / "timing.json").read_text())["ratios"]["wall"]


def start(network):
    return network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.mark.long
def test_the_transfer_of_named_networks(folder):
    config = small(fsp, fast=False, small=False, transfer=True, source_classes=2)
    config = dataclasses.replace(config, target_examples=32, **NAMED)
    run = running.run(fsp.STUDY, config, folder / "runs" / "fsp")
    planned.check(fsp.STUDY, run, config)
    check_nothing_of_the_papers(run)


def test_the_head_is_the_last_layer(folder):
    assert classifier.head(models.create("nets.py:teacher", 4), (8, 8, 3)) == {
        "fc/kernel",
        "fc/bias",
    }
    for name in ("resnet8", "vgg11", "shallow"):
        found = classifier.head(models.create(name, 4, width=0.1), (32, 32, 3))
        last = "fc" if name == "resnet8" else "fc_2"
        assert found == {f"{last}/kernel", f"{last}/bias"}


def test_fewer_sections_have_fewer_hints(folder):
    its = parts.make(small(fsp, **NAMED))
    shapes = parts.maps(small(fsp, **NAMED), "large", its["all", "large"])
    assert [name[3:] for name in single.guides(shapes, 3)] == [
        "conv2_conv",
        "conv5_conv",
    ]
    assert len(single.guides(shapes, 1)) == 1


@pytest.mark.parametrize("name", ["resnet8", "resnet14", "resnet34_imagenet"])
def test_hints_of_our_resnets_are_outputs_of_their_sections(name):
    """By `models.sections`, which counts runs of blocks."""
    side = 64 if name.endswith("imagenet") else 32
    its = training.Classifier(models.create(name, 4, width=0.1), (0.0,) * 3, (1.0,) * 3)
    shapes = teaching.shapes(its, np.zeros((1, side, side, 3)))
    outputs = tuple(section[-1] for section in models.sections(shapes))
    middle = outputs[(len(outputs) - 3) // 2 :][:3]
    assert single.guides(teaching.joinable(shapes), 3) == middle


def test_layers_by_structure_and_by_pattern():
    def maps(*names, side=4):
        shape = jax.ShapeDtypeStruct((1, side, side, 2), jnp.float32)
        return dict.fromkeys(names, shape)

    rest = {"08_fc": jax.ShapeDtypeStruct((1, 9), jnp.float32), **maps("09_x", side=1)}
    ours = maps("00_conv", "01_relu", "02_block") | rest
    assert [*teaching.joinable(ours)] == ["01_relu", "02_block"]
    assert [*teaching.joinable(ours, "*conv")] == ["00_conv"]
    assert [*teaching.joinable(maps("00_a", "01_b") | rest)] == ["00_a", "01_b"]
    with pytest.raises(ValueError, match=r"no map matches '\*pool'.*00_conv .*08_fc"):
        teaching.joinable(ours, "*pool")
    with pytest.raises(ValueError, match="no layer has a map"):
        teaching.joinable(rest)


def without_training_layers(folder):
    """A network whose layers in training mode are unknown."""
    its = models.create("nets.py:student", 4)
    return models.from_functions(
        "mine", its.init, its.apply, train=its.train, features=its.features
    )


BAD = [
    (distillation, {}, {"model": "nets.py:wide"}, None, "4 and 5 channels"),
    (
        distillation,
        {"model_layers": "*0_conv", "teacher_layers": "05*"},
        {},
        None,
        "no layer of the teacher",
    ),
    (
        distillation,
        {"model_layers": "00*", "teacher_layers": "0*", "kinds": ("fsp",)},
        {},
        None,
        "the student has one, 00_conv0_conv",
    ),
    (distillation, {"teacher_layers": "*x*"}, {}, None, r"no map matches '\*x\*'"),
    (distillation, {}, {}, {"network": 0}, "mine has no train_features|no train_feat"),
    (fsp, {}, {"teacher": "nets.py:wide"}, None, "FSP needs equal numbers"),
    (fsp, {"teacher_layers": "0[012]*"}, {}, None, "the student has sections of 8x8, "),
    (fsp, {}, {}, {"network": 0}, "no train_features"),
    (fsp, {"transfer": True, "source_classes": 2}, {}, {"teacher": 0}, "name yours"),
]


@pytest.mark.parametrize(("study", "changes", "names", "given", "words"), BAD)
def test_networks_that_do_not_fit_leave_no_folder(
    study, changes, names, given, words, folder
):
    config = small(study, **NAMED | names | changes)
    networks_ = {key: without_training_layers(folder) for key in given or {}}
    package = experiments.fsp if study is fsp else experiments.distillation
    with pytest.raises(ValueError, match=words):
        package.run(config, folder / "refused", **networks_)
    assert not (folder / "refused").exists()


@pytest.mark.parametrize("first", [1, 3, 5])
def test_a_transfer_needs_classes_on_both_sides(first, folder):
    with pytest.raises(ValueError, match=f"on each side of the {first}, but the set"):
        small(fsp, transfer=True, source_classes=first)


def test_weights_are_of_our_networks(folder):
    with pytest.raises(ValueError, match="of a ResNet of ours, got the teacher"):
        small(
            fsp,
            source_weights="images.npz",
            source_classes=None,
            input_batch_norm=False,
            **NAMED,
        )


def test_a_teacher_of_one_layer_is_refused(folder):
    its = models.create("nets.py:teacher", 4)
    plain = models.from_functions("plain", its.init, its.apply)
    own = running.Own(teacher=plain)
    with pytest.raises(ValueError, match="the teacher plain shows 1 layer"):
        networks.choose(small(distillation, **NAMED), own)


@pytest.mark.parametrize("study", [fsp, distillation])
def test_the_page_names_every_network_of_the_users(study):
    names = {"model": "nets.py:small", "teacher": "nets.py:big", "dataset": "own.npz"}
    users = {part: {"name": name} for part, name in names.items()}
    found = running.describe_run(study.STUDY, study.PRESETS["smoke"], users)
    for words in (found["subject"], found["paper"]):
        assert all(words.count(name) == 1 for name in names.values())


def test_titles_of_figures_name_every_network_of_the_users(tmp_path):
    folders.write(tmp_path, ["fsp"])
    file = tmp_path / "fsp" / "config.json"
    subject = "nets.py:big on own.npz, with nets.py:small"
    own = {"own": {"model": {"name": "nets.py:small"}}, "subject": subject}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    found = figures.described(fsp.STUDY, tmp_path / "fsp")
    assert found
    assert all(subject in figure.subtitle for figure in found.values())
