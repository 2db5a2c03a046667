"""The same command again, at once or later: what is used again, and what is not."""

import json
import textwrap

import numpy as np
import pytest

from kd_heuristics import cli
from kd_heuristics.cli import checkpoint
from kd_heuristics.points import surfaces
from kd_heuristics.runtime import locks

OWN = ("--data", "data.npz", "--batch-size", "8")
TOOLS = {
    "connect": ("a.npz", "b.npz", "--epochs", "1", "--num-points", "3"),
    "surface": ("a.npz", "b.npz", "--grid", "2", "2"),
    "similarity": ("a.npz", "b.npz", "--measure", "cka", "--conv", "mean"),
}

SLOPED = """
    import flax.linen as nn
    import jax
    from kd_heuristics import models

    class Net(nn.Module):
        num_classes: int
        slope: float
        power: int

        @nn.compact
        def __call__(self, images, train):
            x = images.reshape(len(images), -1)
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))
            x = jax.nn.leaky_relu(x, self.slope) ** POWER
            logits = nn.Dense(self.num_classes)(x)
            return logits, {"00_hidden": x, "01_logits": logits}

    def make(num_classes, slope=0.1, power=1):
        return models.from_linen("net", Net(num_classes, slope, power))
"""


@pytest.fixture
def sloped(inside):
    """Two modules whose code alone differs."""
    for name, power in (("sloped", "1"), ("squared", "2")):
        text = textwrap.dedent(SLOPED).replace("POWER", power)
        (inside / f"{name}.py").write_text(text)
    return inside


def surface(out, *more):
    words = ("surface", *TOOLS["surface"], *OWN, "--model", "sloped:make")
    cli.main([*words, *more, "--out", out])


@pytest.mark.parametrize(
    "other",
    [
        ("--pixels", "unit"),
        ("--model-options", "slope=0.2"),
        ("--model", "squared:make"),
        ("--model", "nets:make"),
        ("--examples", "5"),
        ("--seed", "1"),
    ],
    ids=str,
)
def test_another_surface_is_computed_anew(other, sloped, undrawn, tmp_path):
    out, fresh = str(tmp_path / "out"), str(tmp_path / "fresh")
    surface(out)
    surface(out)  # without a warning: it is used again
    surface(fresh, *other)
    with pytest.warns(UserWarning, match=r"surface.npz holds .* recomputed"):
        surface(out, *other)
    found, expected = (surfaces.load(f"{path}/surface.npz") for path in (out, fresh))
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found.values[name], values)


def test_swapped_networks_are_another_surface(inside, own, undrawn, tmp_path):
    out = str(tmp_path)
    networks = ("a.npz", "b.npz", "third.npz")
    third = {name: x + 1 for name, x in np.load("params.npz").items()}
    np.savez("third.npz", **third)
    cli.main(["surface", *networks, *own, "--grid", "2", "2", "--out", out])
    turned = networks[0], networks[2], networks[1]
    with pytest.warns(UserWarning, match="recomputed"):
        cli.main(["surface", *turned, *own, "--grid", "2", "2", "--out", out])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_folder_in_use_is_refused(tool, inside, own, tmp_path, capsys):
    words = (tool, *TOOLS[tool], *own, "--out", str(tmp_path))
    with locks.lock(tmp_path), pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert f"error: --out {tmp_path} is in use by process" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    cli.main(words)
    assert not (tmp_path / locks.FILE).exists()


def test_bends_of_an_earlier_curve_go(inside, own, tmp_path):
    words = ("connect", *TOOLS["connect"], *own, "--out", str(tmp_path), "--bends")
    bends = []
    for count in ("2", "1", "0"):
        (tmp_path / "bender.npz").write_bytes(b"a user's")
        cli.main([*words, count])
        bends.append(sorted(path.name for path in tmp_path.glob("bend*.npz")))
    assert bends[0] == ["bend1.npz", "bend2.npz", "bender.npz"]
    assert bends[1:] == [["bend.npz", "bender.npz"], ["bender.npz"]]


def test_a_bend_that_is_an_end_stays(inside, own, tmp_path):
    bend = tmp_path / "bend1.npz"
    bend.write_bytes((inside / "a.npz").read_bytes())
    more = (*TOOLS["connect"][2:], *own, "--out", str(tmp_path), "--bends", "0")
    cli.main(["connect", str(bend), "b.npz", *more])
    assert bend.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_diverged_network_is_named(tool, value, inside, own, tmp_path, capsys):
    arrays = dict(np.load("b.npz"))
    arrays["params/Dense_1/kernel"][0, 0] = value
    np.savez(tmp_path / "bad.npz", **arrays)
    words = (tool, "a.npz", str(tmp_path / "bad.npz"), *TOOLS[tool][2:], *own)
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: the network {tmp_path}/bad.npz is not finite: 1 of"
    )
    assert not (tmp_path / "out").exists()


def test_a_path_that_overflows_is_not_called_free_of_barriers(
    inside, own, tmp_path, capsys
):
    for name, sign in (("low", -1), ("high", 1)):
        arrays = {key: np.zeros_like(x) for key, x in np.load("a.npz").items()}
        arrays["params/Dense_1/bias"][:] = [sign * 3e38, -sign * 3e38]
        np.savez(tmp_path / f"{name}.npz", **arrays)
    ends = [str(tmp_path / name) for name in ("low.npz", "high.npz")]
    words = ("--bends", "0", "--num-points", "3", *own, "--out", str(tmp_path / "out"))
    cli.main(["connect", *ends, *words])
    said = capsys.readouterr().out
    assert "the segment is not finite at 2 of 3 points in train loss" in said
    assert "barrier in" not in said


def test_homes_are_expanded(inside, own, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(inside))
    words = ("--model", "nets:make", "--data=~/data.npz", "--out=~/home/out")
    cli.main(["surface", "~/a.npz", "~/steps@5#1", "--grid", "2", "2", *words])
    assert json.loads((inside / "home" / "out" / "results.json").read_text())
    assert (inside / "home" / "out" / "figures" / "surface.png").exists()
    assert not (inside / "~").exists()


def test_stray_files_are_no_steps(inside, own):
    for name in (".DS_Store", "²", "7", "٣"):
        (inside / "steps" / name).write_text("no step")
    try:
        found = checkpoint.read(checkpoint.parse("steps"))
        assert "params/Dense_0/kernel" in found
    finally:
        for name in (".DS_Store", "²", "7", "٣"):
            (inside / "steps" / name).unlink()


def raise_by_hand(*_, **__):
    raise ValueError("of a test, or of a user's model")


BUGS = {
    "a key": (KeyError, lambda *_, **__: {}["missing"]),
    "an index": (IndexError, lambda *_, **__: [][0]),
    "a conversion": (ValueError, lambda *_, **__: int("x")),
    "building": (ValueError, lambda *_, **__: dict([(1, 2, 3)])),
    "numpy": (ValueError, lambda *_, **__: np.zeros(2) + np.zeros(3)),
    "by hand": (ValueError, raise_by_hand),
}


@pytest.mark.parametrize("name", BUGS)
@pytest.mark.parametrize("where", ["make", "points.evaluate_sets"])
def test_a_bug_shows_its_traceback(name, where, inside, own, monkeypatch):
    kind, bug = BUGS[name]
    monkeypatch.setattr(f"kd_heuristics.cli.connect.{where}", bug)
    with pytest.raises(kind):
        cli.main(["connect", *TOOLS["connect"], *own, "--bends", "0"])
