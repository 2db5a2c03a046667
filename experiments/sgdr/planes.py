"""The loss on the plane of two iterates and the bend between them (Figures 3, 12, 13).

An analysis of the SGDR study: train and test loss around w_70, w_150 and the bend of
the chain that joins them, with the iterates between projected onto that plane.
"""

from typing import Any

import numpy as np

from kd_heuristics import curves, landscape
from kd_heuristics.points import surfaces

ARM = "sgdr"


def name(pair: tuple[int, int]) -> str:
    """The stage of a plane.

    >>> name((70, 150))
    'plane-70-150'
    """
    return f"plane-{pair[0]}-{pair[1]}"


def evaluate(lab: Any, pair: tuple[int, int], bend: Any) -> dict[str, np.ndarray]:
    """The surface of a pair of the first seed, and where the iterates lie.

    Args:
      lab: of the SGDR study.
      pair: the epochs of the two iterates.
      bend: of the chain fitted between them.

    Returns: `xs` [columns], `ys` [rows], `train_loss` and the other metrics [rows,
      columns]; `anchors` [3, 2], of the two iterates and the bend; and for each of
      `epochs` [n], the iterates between, its nearest point `affine` [n, 2], the paper's
      projection `span` [n, 2], by weights whose sum is free, and its distance `off` the
      plane [n].
    """
    seed = lab.seeds[0]
    lab.progress.stage(f"seed {seed}: plane of {pair[0]}, {pair[1]} and the bend")
    a, b = lab.ends(ARM, seed, pair)
    plane = landscape.plane(a, b, bend)
    epochs = [epoch for epoch in lab.config.plane_iterates if pair[0] < epoch < pair[1]]
    iterates = _iterates(plane, [lab.iterate(ARM, seed, epoch) for epoch in epochs])
    shown = np.concatenate([plane.anchors, iterates["affine"]])
    xs, ys = landscape.grid(shown, lab.config.plane_grid, lab.config.plane_margin)
    surface = surfaces.evaluate(
        plane.at,
        xs,
        ys,
        lab.task.sets,
        lab.task.classifier.metric,
        lab.folder.path / "stages" / f"surface-{name(pair)}.npz",
        progress=lab.advance_points,
    )
    own = {"xs": surface.xs, "ys": surface.ys, "anchors": np.asarray(plane.anchors)}
    return own | surface.values | iterates | {"epochs": np.array(epochs, int)}


def _iterates(plane, networks) -> dict[str, np.ndarray]:
    found = {
        method: np.array(
            [[float(x) for x in plane.project(w, method)] for w in networks]
        ).reshape(-1, 2)
        for method in ("affine", "span")
    }
    off = [
        float(curves.distance(w, plane.at(*place)))
        for w, place in zip(networks, found["affine"], strict=True)
    ]
    return found | {"off": np.array(off)}
