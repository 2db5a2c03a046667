"""Contours of a loss over a plane."""

import numpy as np

from kd_heuristics.plots import style, surface


def test_the_scale_of_a_flat_surface_tells_its_numbers_apart():
    losses = np.linspace(1.681, 1.686, 12).reshape(3, 4)
    with style.context():
        figure, axes = style.panels(1, 1, width=4.0, height=3.0)
        surface.contours(axes[0, 0], np.arange(4.0), np.arange(3.0), losses)
        words = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert len({*words}) == len(words) == 5
    np.testing.assert_allclose(
        [*map(float, words)], np.geomspace(1.681, 1.686, 5), rtol=1e-3
    )
