"""Planes of the SGDR study: the surface, the projections, the grid."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.sgdr import planes
from kd_heuristics import data

RANDOM = np.random.RandomState(0)
ITERATES = {epoch: RANDOM.randn(5) for epoch in (2, 4, 6, 8)}
BEND = RANDOM.randn(5)
BATCHES = {"x": jnp.asarray(RANDOM.randn(2, 3, 5), jnp.float32)}


def metric(params, batch_stats, batch):
    return {"loss": jnp.square(batch["x"] @ params["w"] - 1)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    trees = {epoch: {"w": jnp.asarray(w, jnp.float32)} for epoch, w in ITERATES.items()}
    config = types.SimpleNamespace(
        plane_iterates=(2, 4, 6),
        plane_grid=(3, 2),
        plane_margin=0.5,
        stats_examples=None,
        first_seed=7,
        eval_batch_size=2,
    )
    run = types.SimpleNamespace(
        config=config,
        seeds=[7],
        progress=types.SimpleNamespace(
            stage=lambda words: None, advance=lambda steps: None
        ),
        folder=types.SimpleNamespace(path=tmp_path_factory.mktemp("run")),
    )
    its = types.SimpleNamespace(
        sets={"train": BATCHES},
        start=lambda seed: ({}, {}),  # without batch norm
        train=data.Dataset(np.zeros((2, 1, 1, 1), np.uint8), np.zeros(2, int), 1),
        classifier=types.SimpleNamespace(metric=metric),
        point_steps=1.0,
    )
    nets = types.SimpleNamespace(
        ends=lambda arm, seed, pair: tuple(trees[epoch] for epoch in pair),
        at=lambda arm, seed, epoch: trees[epoch],
    )
    bend = {"w": jnp.asarray(BEND, jnp.float32)}
    return planes.evaluate(run, its, nets, (2, 8), bend)


def axes(found):
    """Origin and unit vectors of the plane, by the anchors' coordinates."""
    networks = np.stack([ITERATES[2], ITERATES[8], BEND])
    sides = found["anchors"][1:] - found["anchors"][0]
    u_and_v = np.linalg.solve(sides, networks[1:] - networks[0])
    return networks[0] - found["anchors"][0] @ u_and_v, u_and_v


def test_the_plane_holds_the_two_iterates_and_the_bend(found):
    origin, units = axes(found)
    np.testing.assert_allclose(units @ units.T, np.eye(2), atol=1e-6)
    networks = np.stack([ITERATES[2], ITERATES[8], BEND])
    np.testing.assert_allclose(origin, networks.mean(0), atol=1e-6)
    assert found["anchors"][0, 0] > 0  # the first network to the right, as the paper
    assert found["anchors"][2, 1] > 0  # and the bend above


def test_iterates_between_lie_where_least_squares_puts_them(found):
    origin, units = axes(found)
    assert found["epochs"].tolist() == [4, 6]  # 2 is an end
    for place, span, off, epoch in zip(
        found["affine"], found["span"], found["off"], (4, 6), strict=True
    ):
        w = ITERATES[epoch]
        expected = units @ (w - origin)
        np.testing.assert_allclose(place, expected, atol=1e-5)
        np.testing.assert_allclose(
            off, np.linalg.norm(w - origin - expected @ units), rtol=1e-5
        )
        networks = np.stack([ITERATES[2], ITERATES[8], BEND])
        weights = np.linalg.lstsq(networks.T, w, rcond=None)[0]
        np.testing.assert_allclose(span, weights @ found["anchors"], atol=1e-4)


def test_the_surface_is_the_loss_on_the_plane(found):
    origin, units = axes(found)
    x = np.asarray(BATCHES["x"], float).reshape(-1, 5)
    assert found["train_loss"].shape == (2, 3)  # rows, columns
    for row, y in enumerate(found["ys"]):
        for column, across in enumerate(found["xs"]):
            w = origin + np.array([across, y]) @ units
            loss = np.square(x @ w - 1).mean()
            # float32 sums of squares
            np.testing.assert_allclose(
                found["train_loss"][row, column], loss, rtol=1e-4
            )


def test_the_grid_holds_all_networks_with_its_margin(found):
    shown = np.concatenate([found["anchors"], found["affine"]])
    for axis, values in enumerate((found["xs"], found["ys"])):
        low, high = shown[:, axis].min(), shown[:, axis].max()
        np.testing.assert_allclose(
            values[[0, -1]], [1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low]
        )
