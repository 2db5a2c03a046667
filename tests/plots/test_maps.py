"""Similarity maps: what is drawn, with the paper's own."""

import numpy as np
import pytest

from experiments.common import paper
from kd_heuristics.plots import maps, style

LAYERS = ["00_conv", "01_relu", "02_conv"]


@pytest.fixture
def axes():
    figure, axes = style.panels(1, 1)
    yield axes[0, 0]
    figure.canvas.draw()  # nothing of it may warn


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_heat_map_names_its_layers_and_dots_what_is_noise(axes):
    values = np.array([[1.0, 0.5, 0.2], [0.1, np.nan, 0.3]])
    image = maps.heat_map(axes, values, LAYERS[:2], LAYERS, floor=0.2)
    assert labels(axes.xaxis) == ["conv1", "relu", "conv2"]
    assert labels(axes.yaxis) == ["conv", "relu"]
    assert image.get_clim() == (0, 1)
    (dots,) = axes.lines
    # Column, row: 0.2 in the first row, 0.1 in the second.
    assert set(zip(*dots.get_data(), strict=True)) == {(2, 0), (0, 1)}
    np.testing.assert_array_equal(image.get_array().mask, np.isnan(values))


def test_differences_have_white_at_zero(axes):
    values = np.array([[0.1, -0.3], [0.0, 0.2]])
    signed = maps.heat_map(axes, values, LAYERS[:2], scale="signed")
    assert signed.get_clim() == (-0.3, 0.3)
    white = np.array(signed.cmap(signed.norm(0.0))[:3])
    assert (white > 0.95).all()
    sizes = maps.heat_map(axes, values, LAYERS[:2], scale="size", limit=0.5)
    assert sizes.get_clim() == (0, 0.5)
    np.testing.assert_array_equal(sizes.get_array(), abs(values))
    for limit in (None, 0.0):
        none = maps.heat_map(axes, 0 * values, LAYERS[:2], scale="signed", limit=limit)
        assert none.get_clim() == (-1, 1)


FIGURES = {
    "fig5a_SB_nowarm_0_200": "SB no warmup",
    "fig5b_LB_nowarm_0_200": "LB no warmup",
    "fig5c_LB_warm_0_200": "LB+warmup",
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_papers_maps_hold_the_diagonals_of_figure_4c(name):
    found = paper.similarity_map(f"warmup/{name}")
    assert found.mirrored
    assert found.rows == found.columns
    diagonal = paper.table("warmup/fig4c_cca")[FIGURES[name]]
    # The colours of the map are steps of 0.004, with some beside the cell's.
    np.testing.assert_allclose(np.diagonal(found.values), diagonal, atol=0.02)


def test_the_papers_differences_of_figure_6():
    a, b, size = (
        paper.similarity_map(f"distillation/fig6{name}")
        for name in ("a_distilled_T", "b_indep_T", "c_absdiff")
    )
    assert not a.mirrored
    assert (len(a.rows), len(a.columns)) == a.values.shape == (38, 10)
    # Two colours' steps of 0.003 and 0.004, and half a step of the difference's.
    np.testing.assert_allclose(abs(a.values - b.values), size.values, atol=0.01)


def test_the_papers_maps_are_drawn(tmp_path):
    with style.context():
        figure, axes = style.panels(2, 2, height=4.2)
        before, after = (
            paper.similarity_map(f"sgdr/fig14{name}")
            for name in ("a_sgdr_150_155", "b_sgdr_10_150")
        )
        change = before.values - after.values
        maps.heat_map(axes[0, 0], before.values, before.rows, floor=0.1)
        maps.heat_map(axes[0, 1], change, before.rows, scale="signed")
        maps.heat_map(axes[1, 0], change, before.rows, scale="size")
        style.save(figure, tmp_path, "figure14")
    assert (tmp_path / "figures" / "figure14.png").stat().st_size > 20_000
