"""The loss on the plane of two iterates and the bend between them (Figures 3, 12, 13).

The plane goes through, for example, w_70, w_150 and the bend of the chain that joins
them. The iterates in between are projected onto it.
"""

from typing import Any

import numpy as np

from experiments.common import paths
from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.sgdr.iterates import Iterates
from kd_heuristics import curves, landscape
from kd_heuristics.points import surfaces

ARM = "sgdr"


def name(pair: tuple[int, int]) -> str:
    """Returns the name of a plane's stage.

    >>> name((70, 150))
    'plane-70-150'
    """
    return f"plane-{pair[0]}-{pair[1]}"


def evaluate(
    run: StudyRun, its: Task, nets: Iterates, pair: tuple[int, int], bend: Any
) -> dict[str, np.ndarray]:
    """Evaluates the plane of a pair for the first seed, and projects the iterates.

    Args:
      run: run of the SGDR study.
      its: task of all networks.
      nets: the iterates.
      pair: epochs of the two iterates.
      bend: bend of the chain fitted between them.

    Returns: `xs` [columns], `ys` [rows], `train_loss` and the other metrics [rows,
      columns]; `anchors` [3, 2], the two iterates and the bend; and for the iterates in
      between, at `epochs` [n]: the nearest point on the plane `affine` [n, 2], the
      paper's projection `span` [n, 2], whose weights need not sum to 1, and the
      distance from the plane `off` [n].
    """
    config, seed = run.config, run.seeds[0]
    run.progress.stage(f"seed {seed}: plane of {pair[0]}, {pair[1]} and the bend")
    a, b = nets.ends(ARM, seed, pair)
    plane = landscape.plane(a, b, bend)
    epochs = [epoch for epoch in config.plane_iterates if pair[0] < epoch < pair[1]]
    iterates = _iterates(plane, [nets.at(ARM, seed, epoch) for epoch in epochs])
    shown = np.concatenate([plane.anchors, iterates["affine"]])
    xs, ys = landscape.grid(shown, config.plane_grid, config.plane_margin)
    surface = surfaces.evaluate(
        plane.at,
        xs,
        ys,
        its.sets,
        its.classifier.metric,
        run.folder.path / "stages" / f"surface-{name(pair)}.npz",
        paths.refresh(config, its, config.stats_examples),
        progress=lambda count: run.progress.advance(
            count * len(its.sets) * its.point_steps
        ),
    )
    own = {"xs": surface.xs, "ys": surface.ys, "anchors": np.asarray(plane.anchors)}
    return own | surface.values | iterates | {"epochs": np.array(epochs, int)}


def _iterates(plane, networks) -> dict[str, np.ndarray]:
    """Projects networks onto a plane; returns points and distances."""
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
