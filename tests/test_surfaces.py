"""Surfaces: right side up, killed and resumed, refused for others, overflow marked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import landscape, points, runs, surfaces

NETWORKS = [{"w": jnp.array(w)} for w in ([0.0, 0.0], [2.0, 0.0], [0.5, 1.5])]
PLANE = landscape.plane(*NETWORKS, axes="gram_schmidt")  # x and y are w itself
BATCHES = {"x": jnp.array([[[1.0, 10.0]], [[3.0, 30.0]]])}
XS, YS = np.linspace(-1, 2, 4), np.linspace(0, 2, 3)
CALLS = []


def metric(params, _, batch):
    CALLS.append(1)
    return {"loss": batch["x"] @ params["w"]}


def make(path=None, plane=PLANE, sets=None, **options):
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
    before = len(CALLS)
    progress = []
    make(tmp_path / "a.npz", progress=progress.append)
    assert (len(CALLS), progress) == (before, [12])


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


@pytest.mark.parametrize(
    "other",
    [
        {"plane": landscape.plane(*NETWORKS[::-1])},
        {"sets": {"train": {"x": BATCHES["x"] + 1}}},
        {"sets": {"test": BATCHES}},
        {"batch_stats": {"mean": jnp.ones(2)}},
    ],
)
def test_a_file_of_another_surface_is_refused(tmp_path, other):
    path = tmp_path / "a.npz"
    make(path)
    before = path.read_bytes()
    with pytest.raises(runs.RunError, match=r"a.npz holds a surface of another grid"):
        make(path, **other)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    for call in (make, surfaces.load):
        with pytest.raises(runs.RunError, match=r"a.npz cannot be read"):
            call(tmp_path / "a.npz")


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", xs=XS, ys=YS)
    for call in (make, surfaces.load):
        with pytest.raises(runs.RunError, match=r"a.npz is no surface: .* no done"):
            call(tmp_path / "a.npz")


def test_statistics_may_be_refreshed_at_every_point():
    def moments(params, _, batch):
        inputs = batch["x"] @ params["w"]
        return {"mean": inputs.mean(), "var": inputs.var()}

    def centred(params, stats, batch):
        return {"square": jnp.square(batch["x"] @ params["w"] - stats["mean"])}

    stats = {"mean": jnp.float32(0), "var": jnp.float32(1)}
    refresh = points.exact(moments, stats, BATCHES)
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
    return {"mean": jnp.mean(batch["x"] @ params["w"])} | stats


def refresh_of(step=None, value=0.0):
    """Made anew at each call, as in another process."""

    def refresh(step, stats, key, params):
        return step(params, stats, BATCHES)

    step = jax.tree_util.Partial(step or Scaled(1.0))
    inner = jax.tree_util.Partial(jax.jit(refresh), step, {"var": jnp.float32(value)})
    return jax.tree_util.Partial(inner, jax.random.key(1))


def test_a_surface_knows_how_its_statistics_are_refreshed(tmp_path):
    path = tmp_path / "a.npz"
    make(path, refresh_stats=refresh_of())
    before = len(CALLS)
    make(path, refresh_stats=refresh_of())
    assert len(CALLS) == before
    others = (refresh_of(value=1.0), refresh_of(shifted), lambda params: {}, None)
    for other in others:
        with pytest.raises(runs.RunError, match=r"or other statistics"):
            make(path, refresh_stats=other)


@pytest.mark.parametrize("axis", [[1.0, 0.0], [], [[0.0]], [0.0, np.nan]])
def test_an_axis_must_ascend(axis):
    with pytest.raises(ValueError, match="xs must be a list of ascending numbers"):
        surfaces.evaluate(PLANE.at, axis, YS, {"train": BATCHES}, metric)
