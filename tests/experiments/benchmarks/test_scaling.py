"""The figure of growing costs, in miniature."""

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.benchmarks import scaling

LONG = pytest.mark.long  # a network with batch norm to compile
# The fields that the panels' x axes are.
X = {
    "batch": "batches",
    "points": "points",
    "layers": "layers",
    "units": "units",
    "devices": "devices",
}
TINY = scaling.Config(
    model="shallow",
    curve_model="vgg11_bn",
    width=0.05,
    classifier_width=8,
    batches=(2,),
    points=(1, 2),
    layers=(1, 2),
    units=(2, 3),
    fixed_layers=1,
    fixed_units=2,
    activations=20,
    devices=(2,),
    batch=4,
    steps=1,
    repeats=1,
)


@pytest.mark.parametrize(
    "panels",
    [("batch", "layers", "units", "devices"), pytest.param(("points",), marks=LONG)],
    ids="-".join,
)
def test_panels_have_their_numbers(panels):
    found = scaling.measure(TINY, panels)
    assert tuple(found) == panels
    for panel, columns in found.items():
        assert columns["x"] == list(getattr(TINY, X[panel]))
        assert {len(values) for values in columns.values()} == {len(columns["x"])}
        assert np.isfinite(list(columns.values())).all()
        assert len(columns) > 1
    if "devices" in found and jax.default_backend() == "cpu":
        assert list(found["devices"]) == ["x", scaling.VIRTUAL]


def test_the_figure_is_drawn(tmp_path):
    columns = {"x": [1.0, 2.0], "seconds": [0.5, 1.5]}
    found = dict.fromkeys(X, columns)
    found |= dict.fromkeys(("layers", "units"), columns | {"memory, MB": [1.0, 3.0]})
    scaling.draw(found, tmp_path / "deep" / "scaling.png")
    with Image.open(tmp_path / "deep" / "scaling.png") as image:
        assert min(image.size) > 500
