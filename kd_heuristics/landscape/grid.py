"""Grids of points on a plane."""

import numpy as np


def grid(
    points: np.ndarray, size: tuple[int, int], margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the axes (xs, ys) of a grid that covers some points.

    Args:
      points: [points, 2], such as a plane's anchors.
      size: numbers of columns and rows.
      margin: on each side, a share of the points' extent along that axis.

    >>> xs, ys = grid(np.array([[0.0, 0.0], [4.0, 2.0]]), (3, 2), margin=0.5)
    >>> xs.tolist(), ys.tolist()
    ([-2.0, 2.0, 6.0], [-1.0, 3.0])
    """
    low, high = points.min(0), points.max(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    return np.linspace(low[0], high[0], size[0]), np.linspace(low[1], high[1], size[1])
