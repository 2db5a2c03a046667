"""Studies on a network of the user's, by name and from Python."""

import dataclasses
import itertools
import json
import pathlib
import re
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments.mode_connectivity
import experiments.sgdr
import experiments.warmup
from experiments.common import classifier, launch, own, running
from experiments.mode_connectivity import study as mode_connectivity
from experiments.sgdr import study as sgdr
from experiments.warmup import study as warmup
from kd_heuristics import data, models, plots, report, runs

NNX = """
    from flax import nnx
    from kd_heuristics import models

    class Net(nnx.Module):
        def __init__(self, num_classes, units, rngs):
            self.first = nnx.Conv(3, 4, (3, 3), strides=4, rngs=rngs)
            self.second = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
            self.middle = nnx.Linear(96, units, rngs=rngs)
            self.last = nnx.Linear(units, num_classes, rngs=rngs)

        def __call__(self, images):
            x = nnx.relu(self.second(nnx.relu(self.first(images))))
            return self.last(nnx.relu(self.middle(x.reshape(len(x), -1))))

    def make(num_classes, width=1.0, classifier_width=8):
        units = int(classifier_width * width)
        return models.from_nnx("net", lambda rngs: Net(num_classes, units, rngs))

    def needs(num_classes, depth):
        return None

    def keywords(num_classes, **options):
        return options

    def word(num_classes):
        return "net"

    def wrong_type(num_classes):
        raise TypeError("a bug of the user's")
"""
SMALL = {"model": "nets.py:make", "width": 1.0, "classifier_width": 8}
ARMS = ("large", "warmup", "freeze_fc", "freeze_random")


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A folder with nets.py, as the working directory."""
    forget()  # of other tests too
    (tmp_path / "nets.py").write_text(textwrap.dedent(NNX))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def forget():
    """Forgets the user's modules, as another process would."""
    for name in [n for n in sys.modules if n.startswith("own_nets") or n == "nets"]:
        del sys.modules[name]
    sys.path[:] = [place for place in sys.path if "pytest-of-" not in place]


def test_names_of_files_and_modules_make_one_network(nets):
    for name in ("nets.py:make", f"{nets}/nets.py:make", "nets:make"):
        made = models.create(name, 10, width=0.5)
        assert made is models.create(name, 10, width=0.5)
        assert made != models.create(name, 10, width=1.0)
        images = jnp.ones((1, 32, 32, 3))
        variables = made.init(jax.random.key(0), images)
        assert variables["params"]["middle"]["kernel"].shape == (96, 4)
    assert models.accepted("nets.py:make", {"width": 1.0, "dtype": "float32"}) == {
        "width": 1.0
    }
    assert models.accepted("nets.py:keywords", {"dtype": 1}) == {"dtype": 1}


def test_files_of_one_name_are_two_modules(nets):
    (nets / "other").mkdir()
    (nets / "other" / "nets.py").write_text("def make(num_classes): return 7")
    assert models.function("nets.py:make") is models.function("nets.py:make")
    assert models.function("other/nets.py:make")(2) == 7


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nots.py:make", {}, "there is no file .*nots.py; give MODULE:FUNCTION"),
        ("nots:make", {}, "No module named 'nots'"),
        ("broken.py:make", {}, "model broken.py:make: .*line 1"),
        ("raises.py:make", {}, "too old, in .*raises.py, line 2; give MODULE"),
        ("nets.py:mak", {}, "has no function 'mak'; did you mean 'make'"),
        ("nets.py:", {}, "has no function ''"),
        ("nets.py:needs", {}, "missing a required argument: 'depth'; define make"),
        ("nets.py:make", {"depth": 2}, "unexpected keyword argument 'depth'"),
        ("nets.py:word", {}, "returned a str, not a models.Network; .*from_nnx"),
    ],
)
def test_what_is_no_model_is_refused_in_words(nets, name, options, words):
    (nets / "broken.py").write_text("def make(:")
    (nets / "raises.py").write_text("\nraise ImportError('torch is too old')")
    with pytest.raises(ValueError, match=words):
        models.create(name, 10, **options)
    if "returned" not in words:  # building is not needed
        with pytest.raises(ValueError, match=words):
            models.check(name, 10, **options)


def test_a_bug_of_the_users_keeps_its_traceback(nets):
    with pytest.raises(TypeError, match="a bug of the user's"):
        models.create("nets.py:wrong_type", 10)


@pytest.mark.parametrize("name", ["shallow", "vgg11_bn", "resnet8", "resnet18"])
def test_the_classifier_of_our_models_is_what_they_call_fc(name):
    made = models.create(name, 10, width=0.125)
    names = classifier.order(made, (32, 32, 3))
    assert classifier.paths(made, (32, 32, 3)) == {n for n in names if n[:2] == "fc"}
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(made.init, jax.random.key(0), image)
    assert len(names) == len(jax.tree.leaves(shapes["params"]))


def dense(*units):
    """A multilayer perceptron with keys out of the order of its layers."""

    def init(key, images):
        sizes = itertools.pairwise((images[0].size, *units))
        names = [f"{chr(122 - i)}/w" for i in range(len(units))]
        pairs = zip(names, sizes, strict=True)
        return {"params": {name: jnp.zeros(size) for name, size in pairs}}

    def apply(variables, images):
        x = images.reshape(len(images), -1)
        for name in sorted(variables["params"], reverse=True):
            x = jnp.tanh(x @ variables["params"][name])
        return x

    return models.from_functions("dense", init, apply)


def test_the_classifier_follows_the_traced_order(nets):
    made = models.create("nets.py:make", 10)
    layers = {path.split("/")[0] for path in classifier.paths(made, (32, 32, 3))}
    assert layers == {"middle", "last"}
    assert classifier.paths(dense(5, 4, 3), (4, 4, 1)) == {"x/w"}
    with pytest.raises(ValueError, match="dense has no classifier"):
        classifier.paths(dense(3), (4, 4, 1))


def smallest(study, **changes):
    preset = study.PRESETS["smoke"]
    if hasattr(preset, "map_examples"):
        changes = {"map_examples": 40} | changes
    return dataclasses.replace(preset, **SMALL, train_examples=80, **changes)


def test_warmup_runs_on_a_file_to_the_end(nets):
    config = smallest(warmup, arms=ARMS)
    folder = running.run(warmup.STUDY, config, nets / "smoke" / "warmup")
    described = json.loads((folder / "config.json").read_text())
    assert described["own"] == {"model": {"name": "nets.py:make"}}
    results = json.loads((folder / "results.json").read_text())
    for claims in (described["claims"], results["claims"]):
        assert {claim["paper"] for claim in claims} == {None}
    assert results["frozen_at_random"]["parameters"]["fc"] == 96 * 8 + 8 * 10
    arrays = np.load(folder / "arrays.npz")
    assert [n for n in arrays["layers"] if n.endswith("_fc")] == [
        "02_middle_fc",
        "03_last_fc",
        "04_output_fc",
    ]
    kernels = list(arrays["kernels"])
    still = arrays["freeze_fc/change"][0] == 0
    assert {kernels[i] for i in np.flatnonzero(still)} == {"middle", "last"}
    page = report.write(nets / "smoke").read_text()
    assert "asked of your own: nets.py:make on digits_photo" in page
    assert ">paper: " not in page
    assert "own_nets" in json.loads((folder / "code.json").read_text())

    # Another process, after an edit of the user's file.
    forget()
    (nets / "nets.py").write_text(textwrap.dedent(NNX).replace("nnx.relu", "nnx.gelu"))
    with pytest.raises(runs.CodeChangedError, match="own_nets"):
        running.run(warmup.STUDY, config, folder)


def images(count, seed=0, classes=10, side=32):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, side, side, 3), np.uint8)
    return data.Dataset(pixels, np.arange(count) % classes, classes, "mine")


def test_from_python_a_folder_knows_its_network_and_images(nets):
    network = models.create("nets.py:make", 10)
    sets = {"train": images(80), "test": images(20, 1)}
    config = smallest(warmup, arms=("large", "warmup"), epochs=2)
    config = dataclasses.replace(config, warmup_epochs=1, drops_epochs=(1,))
    folder = experiments.warmup.run(config, nets / "run", network, sets)
    described = json.loads((folder / "config.json").read_text())
    assert described["config"]["model"] == "own network net"
    assert described["config"]["dataset"] == "own dataset mine"
    assert described["own"]["dataset"]["test"]["images"] == 20
    # 3*3*3*4 + 4, 3*3*4*6 + 6, 96*8 + 8, 8*10 + 10
    assert described["own"]["model"]["parameters"] == 112 + 222 + 776 + 90
    with pytest.raises(runs.RunError, match=r"own\.dataset\.train\.sha256"):
        experiments.warmup.run(
            config, folder, network, sets | {"train": images(80, seed=2)}
        )
    other = models.create("nets.py:make", 10, width=2.0)
    with pytest.raises(runs.RunError, match=r"own\.model\.sha256"):
        experiments.warmup.run(config, folder, other, sets)
    with pytest.raises(runs.RunError, match=r"config\.model"):
        experiments.warmup.run(config, folder)


@pytest.mark.parametrize("study", [sgdr, mode_connectivity, warmup])
def test_plans_of_a_users_network(nets, study):
    found = study.STUDY.plan(smallest(study).resolved)
    assert {its.network.parameters for its in found.trainings} == {1200}


@pytest.mark.long
@pytest.mark.parametrize("study", [sgdr, mode_connectivity])
def test_other_studies_run_to_the_end(nets, study):
    folder = running.run(study.STUDY, smallest(study), nets / study.STUDY.name)
    claims = json.loads((folder / "results.json").read_text())["claims"]
    assert {claim["paper"] for claim in claims} == {None}


def test_bad_input_is_refused_before_any_work(nets):
    config = smallest(warmup)
    network = models.create("nets.py:make", 10)
    run = experiments.warmup.run
    two = {"train": images(80), "test": images(8, side=16)}
    for words, arguments in (
        ("network must be a models.Network, got a str", ("nets.py:make",)),
        ("dataset is a ndarray; give a data.Dataset", (None, np.zeros(3))),
        ("dataset has 'trian': Dataset; give", (None, {"trian": images(80)})),
        ("dataset has the splits train only", (None, {"train": images(80)})),
        (r"split 'test' .* \(16, 16, 3\) of 10 classes, but train", (None, two)),
        ("the set 'mine' has 5 images, too few", (None, images(5))),
        ("net has 10 logits, but the set 'mine' has 4", (network, images(200, 0, 4))),
        ("the set 'mine' has 16 examples, so 1..16", (None, images(20))),
        ("has no classifier", (dense(10), images(200))),
    ):
        with pytest.raises(ValueError, match=words):
            run(config, nets / "refused", *arguments)
    validation = dataclasses.replace(config, test_split="validation")
    both = {"train": images(80), "test": images(8)}
    with pytest.raises(ValueError, match="no split 'validation', which this config"):
        run(validation, nets / "refused", network, both)
    with pytest.raises(ValueError, match="warmup has no teacher"):
        run(config, nets / "refused", network, teacher=network)
    assert not (nets / "refused").exists()


def command(monkeypatch, study, *words):
    monkeypatch.setattr(sys, "argv", ["study", *words])
    launch.main(study)


def test_the_command_line_names_folders_of_variants(nets, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(launch, "run", lambda _, __, where, *rest: seen.append(where))
    monkeypatch.setattr(launch.hosts, "is_first", lambda: False)
    for words in ((), ("--name", "wide"), ("--name=wide", "--workdir", "here")):
        command(monkeypatch, sgdr.STUDY, "--preset", "smoke", *words)
    assert [str(path) for path in seen] == [
        "runs/smoke/sgdr",
        "runs/smoke/sgdr-wide",
        "here",
    ]
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, sgdr.STUDY, "--name", "../up")
    assert stop.value.code == 2
    assert "--name must hold letters" in capsys.readouterr().err


@pytest.mark.long
def test_the_guides_blocks_run(nets, monkeypatch):
    guide = pathlib.Path(warmup.__file__).parents[2] / "docs" / "own_studies.md"
    scope: dict = {"__name__": "own_studies"}
    monkeypatch.setitem(sys.modules, "own_studies", types.ModuleType("own_studies"))
    for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL):
        code = block.replace('["demo"]', '["smoke"]')
        exec(compile(code, "own_studies.md", "exec"), scope)
    page = report.write(nets / "runs" / "mine").read_text()
    assert page.count("own network my_net on own dataset mine") >= 3
    assert "own network my_teacher teaches own network my_student on own" in page
    assert "asked of your own: own network my_teacher on own dataset mine" in page


def test_no_figure_shows_the_papers_numbers(nets):
    """Those of a run on cifar10, where they stand by default."""
    grid = np.linspace(0, 1, 3)
    ours = plots.Series(grid, grid, "ours")
    papers = plots.Series(grid, grid, "theirs", paper=True)
    chart = plots.Chart("both", plots.Axis(), plots.Axis(), [ours, papers])
    table = plots.HeatMap("a map", np.eye(2), "ab", "ab", paper=True)
    figures = {
        "mixed": plots.Figure("Mixed", "", [chart, table]),
        "papers": plots.Figure("Only the paper's", "", [table]),
    }
    found = own.without_papers(figures)
    assert [*found] == ["mixed"]
    (panel,) = found["mixed"].panels
    assert [series.name for series in panel.series] == ["ours"]
