"""Still images: what is drawn of a figure's data, looked up in matplotlib's objects."""

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from kd_heuristics import plots
from kd_heuristics.plots import draw, style
from tests.plots.test_figure import CHART, FIGURE, HEAT, SURFACE

RANDOM = np.random.default_rng(0)
X = np.arange(4.0)
SEEDS = RANDOM.uniform(1, 2, (3, 4))
Y = plots.Axis(label="loss", unit="nats")


def picture(*panels, **options):
    figure = dataclasses.replace(FIGURE, panels=panels, **options)
    with style.context():
        page = draw.picture(figure)
        page.canvas.draw()  # nothing of it may warn
    return page


def chart(*series, **options):
    return dataclasses.replace(
        CHART, series=series, x=plots.Axis(), y=Y, references=(), **options
    )


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_series_is_its_mean_and_its_range_over_seeds():
    series = plots.Series(x=X, y=SEEDS, name="ours", color="#123456", line="dash")
    (ax,) = picture(chart(series)).axes
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), SEEDS.mean(0))
    assert (to_hex(line.get_color()), line.get_linestyle()) == ("#123456", "--")
    (band,) = ax.collections
    ends = band.get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == (SEEDS.min(), SEEDS.max())
    assert legend(ax) == ["ours"]
    assert ax.get_ylabel() == "loss (nats)"


def test_hidden_series_stay_out_and_the_papers_have_one_entry():
    papers = [
        plots.Series(x=X, y=X + k, name=f"paper: {k}", paper=True, hidden=k == 2)
        for k in range(3)
    ]
    ours = plots.Series(x=X, y=X, name="w0 to w1", legend="")
    (ax,) = picture(chart(ours, *papers)).axes
    assert len(ax.lines) == 3
    assert legend(ax) == ["paper (grey)"]
    assert {to_hex(line.get_color()) for line in ax.lines[1:]} == {style.GREY}
    assert {line.get_zorder() for line in ax.lines[1:]} == {0}


def test_steps_bars_marks_and_labels():
    steps = plots.Series(x=X, y=X, line="steps")
    bars = plots.Series(x=X, y=SEEDS, line="bars", color="#abcdef")
    marks = plots.Series(
        x=X,
        y=10 * X,
        line="none",
        marker="s",
        filled=False,
        labels=("a", "", "b", ""),
    )
    (ax,) = picture(chart(steps, bars, marks)).axes
    assert ax.lines[0].get_drawstyle() == "steps-post"
    np.testing.assert_allclose([p.get_height() for p in ax.patches], SEEDS.mean(0))
    mark = ax.lines[1]
    assert (mark.get_linestyle(), mark.get_marker()) == ("None", "s")
    assert mark.get_markerfacecolor() == "none"
    assert [(t.get_text(), t.xy) for t in ax.texts] == [("a", (0, 0)), ("b", (2, 20))]


def test_words_stand_around_their_points_and_do_not_cover_each_other():
    near = np.array([0.0, 1e-6, 2e-6, 3e-6, 4e-6, 3.0])
    words = ("one", "two", "three", "four", "no room", "far")
    series = plots.Series(x=near, y=near, labels=words)
    (ax,) = (page := picture(chart(series))).axes
    FigureCanvasAgg(page).draw()
    assert [text.get_text() for text in ax.texts] == [*words[:4], "far"]
    boxes = [text.get_window_extent() for text in ax.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_a_long_y_label_is_not_longer_than_its_axis():
    words = "highest point of the segment above its worse end, in per cent of its loss"
    panel = dataclasses.replace(
        chart(plots.Series(x=X, y=X)), y=plots.Axis(words, "%", "symlog")
    )
    (ax,) = (page := picture(panel, height=3.0)).axes
    FigureCanvasAgg(page).draw()
    assert ax.yaxis.label.get_window_extent().height <= ax.bbox.height
    assert " ".join(ax.get_ylabel().split()) == panel.y.words


@pytest.mark.parametrize(("side", "aspect"), [(3.0, 1.0), (0.1, "auto")])
def test_a_plane_like_a_line_is_stretched_and_says_so(side, aspect):
    xs, ys = np.linspace(0.0, 6.0, 5), np.linspace(0.0, side, 4)
    losses = {"train": np.exp(ys[:, None] + xs[None])}
    plane = plots.LossSurface("plane", xs, ys, losses, y="across")
    ax = picture(plane).axes[0]
    assert ax.get_aspect() == aspect
    assert ax.get_ylabel() == ("across" if aspect == 1.0 else "across (stretched)")


def test_axes_have_names_ticks_limits_and_scales():
    names = plots.Axis(names=("first", "second"))
    ticks = plots.Axis(label="epochs", scale="log", ticks=(1, 1000), limits=(0.5, None))
    series = plots.Series(x=[1.0, 1000.0], y=[0.0, 1.0])
    panel = dataclasses.replace(chart(series), x=ticks, y=names)
    page = picture(panel, panel, columns=2)
    left, right = page.axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["first", "second"]
    assert not any(t.get_visible() for t in right.get_yticklabels())
    low, high = left.get_ylim()
    assert low > high  # the first on top
    assert (left.get_xscale(), left.get_xlim()[0]) == ("log", 0.5)
    assert [t.get_text() for t in left.get_xticklabels()] == ["1", "1,000"]
    bare = dataclasses.replace(chart(series), x=plots.Axis(bare=True))
    assert len(picture(bare).axes[0].get_xticks()) == 0


def test_a_reference_is_a_line_at_its_value():
    line = plots.Reference(value=0.25, name="chance")
    other = plots.Reference(value=2.0, axis="x")
    panel = chart(plots.Series(x=X, y=X, name="a"))
    (ax,) = picture(dataclasses.replace(panel, references=(line, other))).axes
    assert [*ax.lines[1].get_ydata()] == [0.25, 0.25]
    assert [*ax.lines[2].get_xdata()] == [2.0, 2.0]
    assert legend(ax) == ["a", "chance"]


def test_maps_of_one_scale_share_a_color_bar():
    square = np.array([[0.1, -0.3], [0.2, 0.9]])
    same = {"values": square, "rows": ("r", "s"), "floor": None}
    maps = [
        dataclasses.replace(HEAT, **same, scale=scale, limit=1.0, label=scale)
        for scale in ("similarity", "similarity", "size", "signed", "size", "signed")
    ]
    page = picture(*maps, columns=6, width=12.0)
    *panels, first, second, third = page.axes
    assert [ax.get_ylabel() for ax in (first, second, third)] == [
        "similarity",
        "size",
        "signed",
    ]
    images = [ax.images[0] for ax in panels]
    assert [image.get_clim() for image in images[1:4]] == [(0, 1), (0, 1), (-1, 1)]
    np.testing.assert_array_equal(images[2].get_array(), abs(square))
    # Between the panels that they belong to, and past those that share their place.
    places = [ax.get_position().x0 for ax in page.axes]
    assert places[1] < places[6] < places[2]
    assert min(places[7:]) > places[5]


def test_a_surface_has_a_panel_for_each_set_with_its_series():
    page = picture(SURFACE, dataclasses.replace(HEAT, still=False))
    titles = [ax.get_title(loc="left") for ax in page.axes if ax.get_xlabel()]
    assert titles == ["train loss", "test loss"]
    test = next(ax for ax in page.axes if ax.get_title(loc="left") == "test loss")
    assert "no finite loss" in [text.get_text() for text in test.texts]


def test_the_legend_below_has_each_entry_once():
    panels = [chart(plots.Series(x=X, y=X, name=name), legend=False) for name in "aba"]
    own = chart(plots.Series(x=X, y=X, name="own"))
    page = picture(own, *panels, legend_below=True)
    (below,) = page.legends
    assert sorted(text.get_text() for text in below.get_texts()) == ["a", "b"]
    assert legend(page.axes[0]) == ["own"]


@pytest.mark.parametrize("values", [np.nan, -1.0])
def test_a_log_axis_without_a_positive_value_stays_linear(values):
    series = plots.Series(x=X, y=np.full(4, values))
    log = plots.Axis(scale="log")
    (ax,) = picture(dataclasses.replace(chart(series), y=log)).axes
    assert ax.get_yscale() == "linear"


def test_files_are_written_without_a_date(tmp_path):
    draw.save(FIGURE, tmp_path, "all")
    first = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    draw.save(FIGURE, tmp_path, "all")
    assert {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()} == first
    assert {*first} == {"all.png", "all.pdf"}


@pytest.mark.parametrize("count", [5, 31, 60])
def test_the_layers_of_a_map_do_not_stand_over_each_other(count):
    names = [f"{place:02d}_conv" for place in range(count)]
    heat = plots.HeatMap(
        "map", np.zeros((count, count)), names, names, square=False, y="a", x="b"
    )
    page = picture(*[heat] * 8, columns=4, width=12.0, height=3.2)
    FigureCanvasAgg(page).draw()  # lays out
    for ax in page.axes[:8]:
        for side, low, high in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
            boxes = [
                label.get_window_extent()
                for label in side.get_ticklabels()
                if label.get_visible() and label.get_text()
            ]
            boxes.sort(key=lambda box, low=low: getattr(box, low))
            for one, other in itertools.pairwise(boxes):
                assert getattr(one, high) <= getattr(other, low) + 1


def test_a_symlog_axis_is_linear_up_to_ten_and_has_plain_numbers():
    series = plots.Series(x=X, y=[0.0, 1.0, 10.0, 1000.0], labels=("", "", "", "top"))
    panel = dataclasses.replace(chart(series), y=plots.Axis(scale="symlog"))
    (ax,) = (page := picture(panel)).axes
    FigureCanvasAgg(page).draw()  # takes the limits from the data
    places = ax.transData.transform([(0, value) for value in (0, 5, 10, 1000)])[:, 1]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert places[3] < ax.bbox.y1 - 5  # its label has room
    assert "1,000" in [label.get_text() for label in ax.get_yticklabels()]
