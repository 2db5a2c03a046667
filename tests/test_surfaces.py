"""Surfaces: right side up, killed and resumed, told from others, overflow marked."""

import dataclasses
import functools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import landscape, points, runs
from kd_heuristics.points import surfaces

NETWORKS = [{"w": jnp.array(w)} for w in ([0.0, 0.0], [2.0, 0.0], [0.5, 1.5])]
PLANE = landscape.plane(*NETWORKS, axes="gram_schmidt")  # x and y are w itself
BATCHES = {"x": jnp.array([[[1.0, 10.0]], [[3.0, 30.0]]])}
XS, YS = np.linspace(-1, 2, 4), np.linspace(0, 2, 3)


def metric(params, _, batch):
    return {"loss": batch["x"] @ params["w"]}


def make(path=None, plane=PLANE, sets=None, metric=metric, **options):
    sets = {"train": BATCHES} if sets is None else sets
    options = {"chunk": 5} | options
    return surfaces.evaluate(plane.at, XS, YS, sets, metric, path, **options)


def test_rows_are_ys_and_columns_xs():
    surface = make()
    expected = 2 * XS[None, :] + 20 * YS[:, None]
    # float32 products and sums of about 40
    np.testing.assert_allclose(surface.values["train_loss"], expected, atol=2e-5)
    assert surface.done.all()
    assert not surface.overflowed.any()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_after", [5, 10])
def test_a_killed_surface_goes_on_and_equals_an_uninterrupted_one(tmp_path, kill_after):
    sets = {"train": BATCHES, "test": {"x": BATCHES["x"] + 1}}
    whole = make(tmp_path / "whole.npz", sets=sets)
    seen = []

    def kill(count):
        seen.append(count)
        if sum(seen) >= kill_after:
            raise KilledError

    path = tmp_path / "cut.npz"
    with pytest.raises(KilledError):
        make(path, sets=sets, progress=kill)
    partial = surfaces.load(path)
    assert partial.done.sum() == kill_after
    assert np.isnan(partial.values["test_loss"][~partial.done]).all()
    again = []
    make(path, sets=sets, progress=again.append)
    assert again[0] == kill_after
    assert sum(again) == 12
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    found = surfaces.load(path)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(found.values[name], whole.values[name])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_finished_surface_is_read_not_computed(tmp_path):
    make(tmp_path / "a.npz")
    progress = []
    make(tmp_path / "a.npz", progress=progress.append)
    assert progress == [12]


def test_points_that_overflow_are_marked_and_kept(tmp_path):
    huge = landscape.span(
        {"w": jnp.array([0.0, 0.0])},
        {"w": jnp.array([3e38, 0.0])},
        {"w": jnp.array([0.0, 1.0])},
    )
    surface = make(tmp_path / "a.npz", plane=huge)
    np.testing.assert_array_equal(
        surface.overflowed, np.abs(XS)[None] > 0.5 + 0 * YS[:, None]
    )
    assert surface.done.all()
    np.testing.assert_array_equal(
        surfaces.load(tmp_path / "a.npz").overflowed, surface.overflowed
    )


def scaled(scale, params, stats, batch):
    values = {"loss": scale * batch["x"] @ params["w"]}
    if stats:
        values["centred"] = values["loss"] - sum(jax.tree.leaves(stats))
    return values


def closing_over(array):
    return lambda params, _, batch: {"loss": batch["x"] @ (params["w"] + array).T}


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Weighted:
    """A metric whose arrays are arguments of its program."""

    weights: Any

    def __call__(self, params, _, batch):
        return {"loss": batch["x"] @ (self.weights * params["w"])}


LARGE = np.arange(8000.0, dtype=np.float32).reshape(4000, 2)
METRICS = {
    "scale": (lambda x: functools.partial(scaled, x), 1.0, 2.0),
    "closed over": (closing_over, np.zeros(2, np.float32), np.ones(2, np.float32)),
    "closed over, large": (
        lambda x: lambda p, s, b: {"loss": b["x"] @ p["w"] + jnp.asarray(x).sum()},
        LARGE,
        LARGE + np.eye(4000, 2, -3990, dtype=np.float32),
    ),
    "on the device": (closing_over, jnp.zeros(2), jnp.ones(2)),
    "bound": (lambda x: jax.tree_util.Partial(scaled, x), 1.0, 2.0),
    "of a pytree": (lambda x: Weighted(x).__call__, jnp.ones(2), jnp.zeros(2)),
    "code": (
        lambda power: lambda p, s, b: {"loss": (b["x"] @ p["w"]) ** power},
        *(2, 3),
    ),
    "name": (lambda name: lambda p, s, b: {name: b["x"] @ p["w"]}, "loss", "error"),
    "type": (
        lambda dtype: lambda p, s, b: {"loss": (b["x"] @ p["w"]).astype(dtype)},
        *("float32", "bfloat16"),
    ),
}


@pytest.mark.parametrize("kind", METRICS)
def test_a_surface_knows_its_metric(tmp_path, kind):
    """Made anew it is the same one; with another value in it another one."""
    metric_of, one, other = METRICS[kind]
    path = tmp_path / "a.npz"
    make(path, metric=metric_of(one))
    progress = []
    make(path, metric=metric_of(one), progress=progress.append)
    assert progress == [12]
    expected = make(metric=metric_of(other)).values
    with pytest.warns(UserWarning, match=r"a.npz holds a surface of another grid, or"):
        found = make(path, metric=metric_of(other))
    assert found.values.keys() == expected.keys()
    for name, values in surfaces.load(path).values.items():
        np.testing.assert_array_equal(values, expected[name])


TURNED = landscape.span(NETWORKS[0], NETWORKS[2], NETWORKS[1])
SPAN = landscape.span(*NETWORKS)


@pytest.mark.parametrize(
    "other",
    [
        {"plane": landscape.plane(*NETWORKS[::-1])},
        {"plane": TURNED},
        {"plane": landscape.span(*NETWORKS[:2], {"w": jnp.array([0.5, 1.0])})},
        {"sets": {"train": {"x": BATCHES["x"] + 1}}},
        {"sets": {"test": BATCHES}},
        {"batch_stats": {"mean": jnp.ones(2)}},
    ],
)
def test_a_file_of_another_surface_is_computed_anew(tmp_path, other):
    path = tmp_path / "a.npz"
    make(path, plane=SPAN)
    other = {"plane": SPAN} | other
    with pytest.warns(UserWarning, match=r"a.npz holds .* recomputed and replaced"):
        found = make(path, **other)
    for values in (found.values, surfaces.load(path).values):
        for name, expected in make(**other).values.items():
            np.testing.assert_array_equal(values[name], expected)


def test_swapped_directions_transpose_the_surface(tmp_path):
    """On a grid of equal axes, where two opposite corners are the same networks."""
    axis = np.linspace(-1, 2, 4)
    path = tmp_path / "a.npz"
    arguments = (axis, axis, {"train": BATCHES}, metric, path)
    found = surfaces.evaluate(SPAN.at, *arguments)
    with pytest.warns(UserWarning, match="recomputed"):
        turned = surfaces.evaluate(TURNED.at, *arguments)
    np.testing.assert_allclose(
        turned.values["train_loss"], found.values["train_loss"].T, atol=2e-5
    )
    assert not np.allclose(turned.values["train_loss"], found.values["train_loss"])


PROGRAM = """
import sys, jax, jax.numpy as jnp, numpy as np
from kd_heuristics import landscape
from kd_heuristics.points import surfaces
jax.nn.softmax(jnp.ones(int(sys.argv[2])))  # what was traced before does not matter
plane = landscape.span(*({"w": jnp.array(w)} for w in ([0.0, 0], [2.0, 0], [0.5, 1.5])))
def metric(params, _, batch):
    return {"loss": jax.nn.softmax(jax.nn.relu(batch["x"] @ params["w"]))}
batches = {"x": jnp.ones((2, 1, 2)), "key": jax.random.split(jax.random.key(0), 2)}
done = []
surfaces.evaluate(plane.at, [0, 1], [0, 1], {"a": batches}, metric, sys.argv[1],
                  progress=done.append)
print(done)
"""


def test_another_process_knows_the_surface(tmp_path):
    said = []
    for count in ("1", "2"):
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.npz"), count]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert said == ["[4]\n", "[4]\n"]
    assert "anew" not in done.stderr


def test_a_metric_that_calls_python_is_known_too(tmp_path):
    """Though each function has an address of its own."""

    def called(params, _, batch):
        shape = jax.ShapeDtypeStruct((1,), "float32")
        values = jax.pure_callback(
            lambda x: x, shape, batch["x"] @ params["w"], vmap_method="sequential"
        )
        return {"loss": values}

    found = make(tmp_path / "a.npz", metric=called)
    np.testing.assert_array_equal(
        found.values["train_loss"], make().values["train_loss"]
    )


def test_statistics_that_a_model_lacks_are_named(tmp_path):
    import flax.linen as nn

    def normalised(params, stats, batch):
        norm = nn.BatchNorm(use_running_average=True, use_bias=False, use_scale=False)
        return {"loss": norm.apply(stats, batch["x"]) @ params["w"]}

    with pytest.raises(ValueError, match="give refresh_stats"):
        make(tmp_path / "a.npz", metric=normalised)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    for call in (make, surfaces.load):
        with pytest.raises(runs.RunError, match=r"a.npz cannot be read"):
            call(tmp_path / "a.npz")


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", xs=XS, ys=YS)
    for call in (make, surfaces.load):
        with pytest.raises(
            runs.RunError, match=r"a.npz is not a surface file: it lacks done"
        ):
            call(tmp_path / "a.npz")


def test_statistics_may_be_refreshed_at_every_point():
    def moments(params, _, batch):
        inputs = batch["x"] @ params["w"]
        return {"mean": inputs.mean(), "var": inputs.var()}

    def centred(params, stats, batch):
        return {"square": jnp.square(batch["x"] @ params["w"] - stats["mean"])}

    stats = {"mean": jnp.float32(0), "var": jnp.float32(1)}
    refresh = points.refit_exact(moments, stats, BATCHES)
    surface = surfaces.evaluate(
        PLANE.at, XS, YS, {"train": BATCHES}, centred, refresh_stats=refresh
    )
    x = np.asarray(BATCHES["x"], float).reshape(2, 2)
    expected = [[(x @ [a, b]).var() for a in XS] for b in YS]
    np.testing.assert_allclose(
        surface.values["train_square"], expected, rtol=1e-5, atol=1e-5
    )


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A step of a training pass that is told from others by its type alone."""

    scale: float

    def __call__(self, params, stats, batch):
        return {"mean": jnp.mean(self.scale * batch["x"] @ params["w"])} | stats


def shifted(params, stats, batch):
    return {"mean": 2 + jnp.mean(batch["x"] @ params["w"])} | stats


def refresh_of(step=None, value=0.0):
    """Made anew at each call, as in another process."""

    def refresh(step, stats, key, params):
        return step(params, stats, BATCHES)

    step = jax.tree_util.Partial(step or Scaled(1.0))
    inner = jax.tree_util.Partial(jax.jit(refresh), step, {"var": jnp.float32(value)})
    return jax.tree_util.Partial(inner, jax.random.key(1))


def test_a_surface_knows_how_its_statistics_are_refreshed(tmp_path):
    path = tmp_path / "a.npz"
    options = {"metric": functools.partial(scaled, 1.0)}
    make(path, refresh_stats=refresh_of(), **options)
    progress = []
    make(path, refresh_stats=refresh_of(), progress=progress.append, **options)
    assert progress == [12]
    others = (
        refresh_of(value=1.0),
        refresh_of(shifted),
        refresh_of(Scaled(2.0)),
        lambda params: {"mean": params["w"].sum()},
        None,
    )
    for other in others:
        with pytest.warns(UserWarning, match=r"or statistics; it is recomputed"):
            make(path, refresh_stats=other, **options)


@pytest.mark.parametrize("axis", [[1.0, 0.0], [], [[0.0]], [0.0, np.nan]])
def test_an_axis_must_ascend(axis):
    with pytest.raises(ValueError, match="xs must be a list of ascending numbers"):
        surfaces.evaluate(PLANE.at, axis, YS, {"train": BATCHES}, metric)
