"""`kd-heuristics surface`: evaluates the loss on a plane through networks."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from kd_heuristics import curves, landscape
from kd_heuristics.cli import output
from kd_heuristics.cli.connect import A, B
from kd_heuristics.cli.subject import Lab, Subject, make
from kd_heuristics.plots import style
from kd_heuristics.plots.surface import contours
from kd_heuristics.points import surfaces
from kd_heuristics.runtime import values
from kd_heuristics.runtime.errors import InputError, checking_input

Third = Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="C")]


def surface(
    a: A,
    b: B,
    c: Third = None,
    /,
    *,
    subject: Annotated[Subject, tyro.conf.arg(name="")] = Subject(),  # noqa: B008
    grid: tuple[int, int] = (15, 15),
    margin: float = 0.2,
    seed: int = 0,
    out: Path = Path("surface"),
) -> None:
    r"""Evaluate train and test loss on the plane through three networks.

    Axes are Euclidean distances, with A at the origin and B on the x axis. Without C,
    the third point is displaced from the midpoint of A and B by half their distance, in
    a random filter-normalised direction, which no training selected.

    Each chunk of the grid is saved when done; the same command again resumes an
    interrupted one.

    For example:

        kd-heuristics surface a.npz b.npz connect/bend.npz --model vgg11 \
            --data digits_photo

        kd-heuristics surface a.npz b.npz --model nets:make --data my.npz --grid 31 31

    Writes results.json, arrays.npz, surface.npz and figures/surface.png.

    Args:
      a: network at the origin.
      b: network on the x axis.
      c: third network, for instance a bend fitted by `connect`.
      subject: model and data.
      grid: numbers of columns and rows.
      margin: margin around the three networks, as a share of their extent.
      seed: seed of the random direction.
      out: folder of the results.
    """
    if min(grid) < 2:
        raise InputError(f"--grid needs at least 2 columns and rows, got {grid}")
    if not -0.5 < margin < float("inf"):
        raise InputError(f"--margin must be a share above -0.5, got {margin}")
    with checking_input():
        values.seed(seed)
    lab = make(subject, a)
    variables = [lab.variables(text) for text in (a, b) + ((c,) if c else ())]
    params = [one["params"] for one in variables]
    if c is None:
        params.append(_off_the_middle(lab, params[0], params[1], seed))
    with checking_input():  # three networks may lie on one line
        plane = landscape.plane(*params, axes="gram_schmidt")
    stats = variables[0].get("batch_stats", {})
    with output.folder(out) as folder:
        xs, ys = landscape.grid(np.asarray(plane.anchors), grid, margin)
        found = _evaluate(lab, plane, xs, ys, stats, folder)
        anchors = np.asarray(plane.anchors)
        arrays: dict[str, Any] = {
            "xs": xs,
            "ys": ys,
            "anchors": anchors,
            **found.values,
        }
        results = {
            "a": a,
            "b": b,
            "c": c or "off the middle of A and B, in a random direction",
            "anchors": anchors,
            "overflowed": int(found.overflowed.sum()),
            "lowest": {name: float(np.nanmin(v)) for name, v in found.values.items()},
            "highest": {name: float(np.nanmax(v)) for name, v in found.values.items()},
        }
        rows = [[n, results["lowest"][n], results["highest"][n]] for n in found.values]
        output.table("on the plane", ("metric", "lowest", "highest"), rows)
        output.save(folder, results, arrays, lambda path: _draw(path, arrays))


def _off_the_middle(lab: Lab, a, b, seed):
    """Displace the midpoint in a random direction, by half the networks' distance."""
    middle = curves.midpoint(a, b)
    # Names do not reveal the axis: Equinox's kernels have Flax's names here.
    axis = lab.task.network.filter_axis
    direction = landscape.random_direction(
        jax.random.key(seed), middle, filter_axis=axis
    )
    length = float(curves.distance(jax.tree.map(lambda x: 0 * x, middle), direction))
    if length == 0:
        raise InputError("the random direction vanishes; give a third network C")
    step = 0.5 * float(curves.distance(a, b)) / length
    return jax.tree.map(lambda x, d: x + step * d, middle, direction)


def _evaluate(lab: Lab, plane, xs, ys, stats, folder) -> surfaces.Surface:
    total = len(xs) * len(ys)
    with output.progress(f"evaluating {total} points of the plane", total) as advance:
        return surfaces.evaluate(
            plane.at,
            xs,
            ys,
            lab.sets,
            lab.task.metric,
            folder / "surface.npz",
            lab.refresh(stats),
            progress=advance,
            mesh=lab.mesh,
        )


def _draw(folder: Path, arrays: dict[str, Any]) -> None:
    with style.context():
        figure, axes = style.panels(1, 2, width=10.0, height=4.2)
        for ax, part in zip(axes[0], ("train", "test"), strict=True):
            contours(ax, arrays["xs"], arrays["ys"], arrays[f"{part}_loss"])
            for name, place in zip("ABC", arrays["anchors"], strict=True):
                ax.plot(*place, "o", color="w", ms=5)
                ax.annotate(
                    name, place, color="w", xytext=(5, 5), textcoords="offset points"
                )
            ax.set_title(f"{part} loss", loc="left")
            ax.set(xlabel="Euclidean distance in weights")
        style.save(figure, folder, "surface")
