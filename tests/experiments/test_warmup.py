"""The warmup study: the paper's rates, what each arm freezes, results and figures."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import figures, judging, launch, maps
from experiments.common.study import StudyRun
from experiments.warmup import layers
from experiments.warmup import study as warmup
from experiments.warmup.claims import claims
from experiments.warmup.config import ARMS, PRESETS
from kd_heuristics import runs
from tests.experiments import planned
from tests.experiments.silent import Silent

SMOKE = warmup.PRESETS["smoke"].resolved
STEPS = 10  # an epoch of CIFAR-10 at batch 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    jax.clear_caches()  # its compilations are counted
    return launch.run(warmup.STUDY, SMOKE, tmp_path_factory.mktemp("smoke") / "warmup")


@pytest.fixture(scope="module")
def tasks():
    return warmup.make_tasks(SMOKE)


@pytest.fixture(scope="module")
def variables(folder, tasks):
    """`(arm, step) -> variables` of the first seed."""
    run = StudyRun(SMOKE, runs.RunFolder(folder), Silent(), by=warmup.compute)
    nets = warmup.networks(run, tasks["large"])
    return lambda arm, step: nets[warmup.group_of(arm)].at((arm, 0), step)


def test_leaves_numbers_claims_and_figures(folder):
    planned.check(warmup.STUDY, folder, SMOKE)
    results = json.loads((folder / "results.json").read_text())
    assert set(results["arms"]) == set(ARMS)
    assert {claim["verdict"] for claim in results["claims"]} == {"inconclusive"}
    assert len(results["claims"]) == 9 + 5
    names = {path.name for path in (folder / "figures").glob("*.png")}
    drawn = {"figure4", "figure5", "controls", "layers", "measures", "sharpness"}
    assert names == {f"{name}.png" for name in drawn}


def test_claims_about_the_warmups_end_need_trainings_that_work_then(folder):
    results = json.loads((folder / "results.json").read_text())
    arrays = np.load(folder / "arrays.npz")
    first = results["trained"]["freeze_fc, end of warmup"]["0"]
    assert first == arrays["freeze_fc/accuracy"][0, SMOKE.warmup_epochs - 1]
    assert results["trained"]["freeze_fc"]["0"] == arrays["freeze_fc/accuracy"][0, -1]
    freezing = next(
        claim
        for claim in claims(SMOKE)
        if claim.key == "early-accuracy/freeze_fc/warmup"
    )
    assert {*freezing.trainings} <= {*results["trained"]}
    # Nets that work at the end of the freeze and fall back to chance after it.
    seeds = [
        {
            "seed": seed,
            "statistics": {freezing.key: 11.0 + seed / 10},
            "trained": {
                "warmup": 0.9,
                "freeze_fc": 0.1,
                "warmup, end of warmup": 0.8,
                "freeze_fc, end of warmup": 0.85,
            },
        }
        for seed in range(4)
    ]
    (found,) = judging.judge([freezing], (4,), seeds, 0.19)
    assert (found["verdict"], found["failed"]) == ("reproduced", [])
    seeds[1]["trained"]["freeze_fc, end of warmup"] = 0.1
    (found,) = judging.judge([freezing], (4,), seeds, 0.19)
    assert found["failed"] == [1]


def compilations(folder):
    (*_, last) = json.loads((folder / "environment.json").read_text())["invocations"]
    return last["compilation"]


def test_compiles_a_stated_number_of_programs(folder):
    """All arms of a batch size train in one program; all maps are of another."""
    found = compilations(folder)
    curvature = dict.fromkeys(("_mean_loss", "_top", "_value"), 1)
    expected = {"advance": 2, "chunk_sums": 1, "_streamed": 1, **curvature}
    assert found["networks"] == expected
    # The rest are single operations: 152 of them with jax 0.10.2.
    assert 4 < found["programs"] <= 200
    assert found["from_cache"] == 0


def test_a_second_seed_compiles_nothing_more(undrawn, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(maps, "BESIDE", ("cka",))  # a program each, whatever the seeds
    config = dataclasses.replace(
        SMOKE, seeds=2, arms=("large", "warmup"), measure="cka", sharpness_steps=()
    )
    jax.clear_caches()  # equal networks share the programs of runs before
    two = launch.run(warmup.STUDY, config, tmp_path)
    assert compilations(two)["networks"] == {
        "advance": 1,  # of large batches
        "chunk_sums": 1,
        "_streamed": 1,
    }
    assert "warmup: " in capsys.readouterr().out


@pytest.mark.long
def test_more_epochs_go_on_from_a_shorter_run(folder, tmp_path, capsys):
    longer = dataclasses.replace(SMOKE, epochs=SMOKE.epochs + 1)
    shutil.copytree(folder, tmp_path / "extended")
    launch.run(warmup.STUDY, longer, tmp_path / "extended")
    assert "config.epochs: 3 there, 4 asked for" in capsys.readouterr().err
    launch.run(warmup.STUDY, longer, tmp_path / "anew")
    for name in ("config.json", "results.json", "arrays.npz", "metrics.jsonl"):
        a, b = (tmp_path / where / name for where in ("extended", "anew"))
        if name == "metrics.jsonl":  # by population, the one after the other
            a, b = (sorted(path.read_text().splitlines()) for path in (a, b))
            assert a == b
        else:
            assert a.read_bytes() == b.read_bytes(), name


def test_fewer_epochs_and_other_changes_are_refused(folder):
    for changes in ({"epochs": 2}, {"epochs": 4, "rate": 0.5}):
        config = dataclasses.replace(SMOKE, **{"warmup_epochs": 1} | changes)
        with pytest.raises(
            runs.RunError, match=r"(?s)epochs: 3 there.*epochs may grow"
        ):
            runs.RunFolder(folder).open({"config": config}, ("epochs",))


def test_the_papers_figures_stand_beside_its_own_protocol(folder, tmp_path):
    copy = tmp_path / "cifar10" / "warmup"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checkpoints"))
    described = json.loads((copy / "config.json").read_text())
    described["config"] |= {"dataset": "cifar10", "model": "vgg11_bn"}
    (copy / "config.json").write_text(json.dumps(described))
    found = figures.described(warmup.STUDY, copy)
    assert len(found["figure5_paper"].panels) == 4
    papers = [series for series in found["figure4"].panels[2].series if series.paper]
    assert [series.hidden for series in papers] == [False] * 3
    described["config"]["model"] = "resnet18"
    (copy / "config.json").write_text(json.dumps(described))
    found = figures.described(warmup.STUDY, copy)
    assert "figure5_paper" not in found
    (panel,) = found["figure15"].panels
    assert sum(series.paper and not series.hidden for series in panel.series) == 3


def test_the_papers_rate_trace():
    """Figure 4b: .1255, .2505, ... 2.5, then divided by 10 at 60, 120 and 150."""
    rates = warmup.PRESETS["cifar10"].rates("warmup", STEPS)
    trace = rates["rest"][::STEPS]
    np.testing.assert_allclose(trace[:2], [0.125475, 0.25045], rtol=1e-5)
    np.testing.assert_allclose(trace[19:60], 2.5, rtol=1e-6)
    np.testing.assert_allclose(
        trace[[59, 60, 119, 120, 149, 150, 299]],
        [2.5, 0.25, 0.25, 0.025, 0.025, 0.0025, 0.0025],
        rtol=1e-6,
    )
    # Set once an epoch, and the same for all layers.
    assert (rates["rest"].reshape(-1, STEPS) == trace[:, None]).all()
    np.testing.assert_array_equal(rates["rest"], rates["fc"])


def test_rates_of_the_other_arms():
    config = warmup.PRESETS["cifar10"]
    assert config.rates("large", STEPS)["rest"][0] == np.float32(2.5)
    assert config.rates("low_rate", STEPS)["rest"][0] == np.float32(0.05)
    assert config.rates("small", 500)["rest"][0] == np.float32(0.05)
    alone = config.rates("warmup_fc", STEPS)
    assert alone["rest"][0] == np.float32(2.5)
    assert alone["fc"][0] == config.rates("warmup", STEPS)["fc"][0]


def frozen_layers(variables, tasks, arm):
    """Layers whose parameters are bit for bit those of the start after the warmup."""
    before, after = (
        variables(arm, step)["params"]
        for step in (0, warmup.warmup_steps(SMOKE, tasks))
    )
    return {
        name
        for name, leaves in before.items()
        if all(
            np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(leaves), jax.tree.leaves(after[name]), strict=True
            )
        )
    }


def test_each_arm_freezes_its_own_layers(folder, variables, tasks):
    params = tasks["large"].start(0)[0]
    names = set(params)
    fc = {name for name in names if name.startswith("fc")}
    chosen = layers.random_layers(
        params, SMOKE.first_seed, tasks["large"].classifier_paths
    )
    results = json.loads((folder / "results.json").read_text())
    assert results["frozen_at_random"]["layers"] == sorted(chosen)
    assert frozen_layers(variables, tasks, "freeze_fc") == fc
    assert frozen_layers(variables, tasks, "freeze_conv") == names - fc
    assert frozen_layers(variables, tasks, "freeze_random") == chosen
    for arm in ("small", "large", "warmup", "clip"):
        assert frozen_layers(variables, tasks, arm) == set()


def test_frozen_layers_move_after_the_warmup(variables, tasks):
    steps = SMOKE.epochs * tasks["large"].steps_per_epoch
    last = variables("freeze_fc", steps)["params"]
    middle = variables("freeze_fc", warmup.warmup_steps(SMOKE, tasks))["params"]
    for name in ("fc_0", "fc_2"):
        assert not np.array_equal(last[name]["kernel"], middle[name]["kernel"])


def test_random_layers_hold_about_as_much_as_the_stack():
    params = {
        "fc_0": {"kernel": jnp.zeros((10, 5)), "bias": jnp.zeros(5)},
        "conv_0": {"kernel": jnp.zeros((3, 10))},
        "conv_1": {"kernel": jnp.zeros((4, 5))},
        "conv_2": {"kernel": jnp.zeros((20, 20))},
        "bn_0": {"scale": jnp.zeros(5)},
    }
    # Of 55: 30 + 20 + 5, in whatever order they come.
    fc = {"fc_0/kernel", "fc_0/bias"}
    for seed in range(4):
        assert layers.random_layers(params, seed, fc) == {"conv_0", "conv_1", "bn_0"}
    big = {"fc": {"kernel": jnp.zeros(3)}, "a": jnp.zeros(9), "b": {"c": jnp.zeros(7)}}
    assert layers.random_layers({"fc": big["fc"], "b": big["b"]}, 0, {"fc/kernel"}) == {
        "b"
    }


def test_arms_of_a_seed_start_from_the_same_network(variables):
    first = variables("large", 0)["params"]
    for arm in ("warmup", "small"):
        other = variables(arm, 0)["params"]
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_a_diverging_arm_has_an_empty_map(variables, tasks):
    good = variables("large", 0)
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, good)
    its = tasks["large"]
    measured = functools.partial(maps.of_task, SMOKE, its, maps.images(SMOKE, its))
    found = measured(good, bad)
    assert len(found) == 5  # the study's measure, and four beside it
    assert all(np.isnan(values).all() for values in found.values())
    assert all(np.isfinite(values).all() for values in measured(good, good).values())


def test_claims_only_of_the_arms_that_run():
    config = dataclasses.replace(SMOKE, arms=("large", "warmup"), sharpness_steps=())
    assert len(claims(config)) == 6


def test_the_change_of_each_layer(folder):
    """One less the similarity of each convolution and FC layer; statistics from it."""
    with np.load(folder / "arrays.npz") as found:
        arrays = dict(found)
    names = [str(name) for name in arrays["layers"]]
    kept = [i for i, name in enumerate(names) if name.split("_")[1] in ("conv", "fc")]
    change = {
        arm: 1 - np.array([arrays[f"{arm}/similarity"][:, i, i] for i in kept]).T
        for arm in ("small", "large", "warmup")
    }
    figure = figures.described(warmup.STUDY, folder)["layers"]
    for series, values in zip(figure.panels[0].series, change.values(), strict=True):
        np.testing.assert_allclose(series.y, values)
    (less,) = figure.panels[1].series
    np.testing.assert_allclose(less.y, change["large"] - change["warmup"])
    assert list(figure.panels[1].x.names) == [
        "conv1",
        "conv2",
        "fc1",
        "fc2",
        "fc3",
    ]
    results = json.loads((folder / "results.json").read_text())
    values = {claim["key"]: claim["values"] for claim in results["claims"]}
    expected = change["large"][:, 2:].mean(1) - change["large"][:, :2].mean(1)
    np.testing.assert_allclose(values["fc-change/large"], expected, rtol=1e-6)


def test_the_papers_change_of_each_layer():
    """Figures 5b and 5d: 8 convolutions and 3 FC layers."""
    found = {claim.key: claim.paper for claim in claims(PRESETS["cifar10"])}
    conv = [0.728, 0.482, 0.346, 0.26, 0.166, 0.17, 0.146, 0.025]
    np.testing.assert_allclose(
        found["fc-change/large"],
        np.mean(conv) - np.mean([0.002, 0.002, 0.182]),
        atol=1e-3,
    )
    np.testing.assert_allclose(found["fc-change-later/warmup"], 0.2697)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ("large", "freez_fc")}, "did you mean 'freeze_fc'"),
        ({"arms": ()}, "arms must name at least one of small, large, "),
        ({"warmup_epochs": 3}, "warmup_epochs must be below epochs, got 3 of 3"),
        ({"small_batch_size": 0}, "small_batch_size must be at least 1, got 0"),
    ],
)
def test_bad_config(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMOKE, **changes)
