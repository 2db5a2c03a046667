"""`kd-heuristics align`: permutes the units of one network onto those of another."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from kd_heuristics import curves, points
from kd_heuristics.cli import checkpoint, output
from kd_heuristics.cli.aligned import aligned
from kd_heuristics.cli.connect import A, B, along
from kd_heuristics.cli.subject import Subject, make
from kd_heuristics.plots import style
from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.errors import InputError

_COLORS = {"as given": style.COLORS[1], "aligned": style.COLORS[0]}


def align(
    a: A,
    b: B,
    /,
    *,
    subject: Annotated[Subject, tyro.conf.arg(name="")] = Subject(),  # noqa: B008
    method: Literal["weights", "activations"] = "weights",
    num_points: int = 11,
    seed: int = 0,
    out: Path = Path("align"),
) -> None:
    r"""Permute the units of B onto those of A; its function stays the same.

    The symmetries are found from the traced model and tried on it. Reports the loss
    barrier of the segment from A to B as given and aligned; batch-norm statistics are
    re-estimated at each point from the first `--examples` training images.

    For example:

        kd-heuristics align runs/demo/mode_connectivity/checkpoints/sgd#0 \
            runs/demo/mode_connectivity/checkpoints/sgd#1

        kd-heuristics align a.npz b.npz --model nets:make --data my.npz

    Writes aligned.npz, which the other commands take in place of B, results.json,
    arrays.npz and figures/aligned.png.

    Args:
      a: network whose order stays.
      b: network whose units are permuted.
      subject: model and data.
      method: weights compares parameters alone, activations the units' outputs on the
        training images.
      num_points: number of points along each segment, at least 3.
      seed: seed of the order in which groups of units are matched.
      out: folder of the results.
    """
    if num_points < 3:
        raise InputError(f"--num-points must be at least 3, got {num_points}")
    lab = make(subject, a)
    ends = [lab.variables(text) for text in (a, b)]
    with output.folder(out) as folder:
        refresh = lab.refresh(ends[0].get("batch_stats", {}))
        moved, spec = aligned(lab, *ends, seed=seed, method=method)
        hosts.first(checkpoint.save, folder / "aligned.npz", moved)
        first = ends[0]["params"]
        others = {"as given": ends[1]["params"], "aligned": moved["params"]}
        t = np.linspace(0, 1, num_points)
        found = {
            name: along(lab, curves.line(first, last), t, refresh)
            for name, last in others.items()
        }
        results: dict[str, Any] = {"a": a, "b": b, "method": method}
        results["groups"] = {
            name: {"units": g.size, "within": dict(g.within), "leaves": len(g.leaves)}
            for name, g in spec.groups.items()
        }
        results["left_alone"] = dict(spec.left_alone)
        results["distance"] = {
            name: float(curves.distance(first, last)) for name, last in others.items()
        }
        results["barrier"] = {
            name: {key: points.barrier(x) for key, x in values.items() if "loss" in key}
            for name, values in found.items()
        }
        _tell(results)
        arrays = {
            f"{name.replace(' ', '_')}/{key}": x
            for name, values in found.items()
            for key, x in values.items()
        }
        output.save(
            folder,
            results,
            arrays | {"t": t},
            lambda path: _draw(path, t, found, lab.unit),
        )


def _tell(results: dict[str, Any]) -> None:
    """Print a table of the two segments, and what was permuted."""
    rows = [
        [name, results["distance"][name], *barriers.values()]
        for name, barriers in results["barrier"].items()
    ]
    units = sum(group["units"] for group in results["groups"].values())
    title = f"{len(results['groups'])} groups of units, {units} units"
    columns = ("B", "distance to A", "barrier in train loss", "in test loss")
    output.table(title, columns, rows)


def _draw(folder: Path, t: np.ndarray, found, unit: str) -> None:
    with style.context():
        figure, axes = style.panels(1, 2)
        for ax, part in zip(axes[0], ("train", "test"), strict=True):
            for name, values in found.items():
                ax.plot(t, values[f"{part}_loss"], color=_COLORS[name], label=name)
            ax.set(
                xlabel="t from A to B",
                ylabel=f"{part} loss" + f" ({unit})" * bool(unit),
            )
        axes[0, 0].legend()
        style.save(figure, folder, "aligned")
