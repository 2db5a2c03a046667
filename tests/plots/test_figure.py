"""A figure as data: what it refuses, and that its file holds all of it, exactly."""

import copy
import dataclasses
import json

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import plots
from kd_heuristics.plots import stored
from kd_heuristics.report import live
from kd_heuristics.runs.descriptions import to_json

X = np.arange(3.0)
AXIS = plots.Axis(label="loss", unit="nats", scale="log")
SERIES = plots.Series(
    x=X,
    y=np.array([[0.1, np.nan, np.inf], [1 / 3, 2.0, 1e-300]]),
    name="a <b>",
    marker="o",
    labels=("p", "", "%{x}"),
)
CHART = plots.Chart(
    title="chart",
    x=plots.Axis(names=("u", "v", "w")),
    y=AXIS,
    series=(SERIES, plots.Series(x=X, y=X, name="paper's", paper=True, hidden=True)),
    references=(plots.Reference(value=1, name="one"),),
)
HEAT = plots.HeatMap(
    title="heat",
    values=np.array([[0.25, np.nan]]),
    rows=("r",),
    columns=("c", "d"),
    floor=np.array([[0.5, 0.5]]),
)
SURFACE = plots.LossSurface(
    title="plane",
    xs=X,
    ys=X[:2],
    losses={"train": np.ones((2, 3)), "test": np.full((2, 3), np.nan)},
    series=(SERIES,),
)
TABLE = plots.Table(title="table", head=("a", "b"), rows=(("1", "2"),))
FIGURE = plots.Figure(
    title="figure",
    caption="of all kinds",
    claims=("rise",),
    panels=(CHART, HEAT, SURFACE, TABLE),
)
STORED = json.loads(json.dumps(to_json(FIGURE)))


def write(folder, content):
    path = folder / "figure.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_its_file_holds_every_number_exactly(tmp_path):
    stored.save(FIGURE, tmp_path, "all")
    found = stored.load(tmp_path / "figures" / "all.json")
    assert to_json(found) == to_json(FIGURE)
    expected = np.where(np.isinf(SERIES.y), np.nan, SERIES.y)
    assert found.panels[0].series[0].y.tobytes() == expected.tobytes()
    assert "NaN" not in (tmp_path / "figures" / "all.json").read_text()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.one_of(
        st.lists(st.floats(width=width), min_size=1, max_size=5).map(dtype)
        for width, dtype in ((32, np.float32), (64, np.float64))
    )
)
def test_any_floats_come_back_as_they_were(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("figure")
    array = np.atleast_1d(array)
    series = plots.Series(x=np.arange(len(array)), y=array)
    chart = dataclasses.replace(CHART, series=(series,), x=AXIS)
    stored.save(dataclasses.replace(FIGURE, panels=(chart,)), folder, "one")
    found = stored.load(folder / "figures" / "one.json").panels[0].series[0].y
    expected = np.where(np.isfinite(array), array, np.nan).astype(np.float64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: plots.Series(x=X, y=X[:2], name="s"),
            r"series 's' needs x \[points\]",
        ),
        (lambda: plots.Series(x=[], y=[]), "needs x"),
        (lambda: plots.Series(x=X, y=["a", "b", "c"]), "needs numbers as its y"),
        (lambda: plots.Series(x=X, y=X, labels=("a",)), "each of its 3 points"),
        (lambda: plots.Series(x=X, y=X, color="red"), "needs #rrggbb, got 'red'"),
        (lambda: plots.Series(x=X, y=X, line="dashed"), "did you mean 'dash'"),
        (lambda: plots.Axis(scale="logarithmic"), "unknown scale 'logarithmic'"),
        (
            lambda: dataclasses.replace(HEAT, rows=("r", "s")),
            r"2 rows and 2 columns, but its values are \(1, 2\)",
        ),
        (lambda: dataclasses.replace(HEAT, floor=X), r"its floor are \(3,\)"),
        (
            lambda: dataclasses.replace(SURFACE, losses={}),
            r"of shape \[ys, xs\], \(2, 3\)",
        ),
        (
            lambda: dataclasses.replace(SURFACE, losses={"train": X}),
            r"got \{'train': \(3,\)\}",
        ),
        (lambda: dataclasses.replace(SURFACE, xs=np.ones((3, 1))), "losses of shape"),
        (lambda: plots.Axis(limits=(1,)), "limits must be two"),
        (lambda: dataclasses.replace(TABLE, rows=(("1",),)), "2 cells a row, got 1"),
        (lambda: dataclasses.replace(FIGURE, panels=(TABLE,)), "no panel for a still"),
        (lambda: dataclasses.replace(FIGURE, width=0), "not positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(make, words, monkeypatch):
    # Outside of tests nothing checks types.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(plots.FigureError, match=words):
        make()


def nodes(value, path=()):
    """The places of all values inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inside:
            yield from nodes(item, (*path, key))


PLACES = [path for path in nodes(STORED) if path]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([[1.0], [2.0, 3.0]]),
    st.just({"kind": "chart"}),
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.sampled_from(PLACES), JUNK, st.booleans())
def test_a_damaged_file_is_refused_or_can_be_shown(
    tmp_path_factory, place, junk, remove
):
    content = copy.deepcopy(STORED)
    owner = content
    for key in place[:-1]:
        owner = owner[key]
    if remove:
        del owner[place[-1]]
    else:
        owner[place[-1]] = junk
    try:
        found = stored.load(write(tmp_path_factory.mktemp("damaged"), content))
    except plots.FigureError:
        return
    json.dumps(live.panels(found, "what it shows"), allow_nan=False)


@pytest.mark.parametrize("text", ["", "{", "3", '"a"', "[" * 100_000, "\ud800"])
def test_what_is_no_figure_is_refused(tmp_path, text):
    path = tmp_path / "figure.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(plots.FigureError, match=r"^figure\.json"):
        stored.load(path)


def test_an_unknown_field_and_a_missing_one_are_named(tmp_path):
    content = {**STORED, "colour": 1}
    del content["caption"]
    words = r"lacks \['caption'\] and has the unknown \['colour'\]"
    with pytest.raises(plots.FigureError, match=words):
        stored.load(write(tmp_path, content))
