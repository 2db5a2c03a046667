"""What a path's values come to in a few numbers."""

from typing import Any

import numpy as np

from kd_heuristics import curves


def summary(
    values: Any, ts: Any = None, curve: curves.Curve | None = None
) -> dict[str, float]:
    """The numbers by which a metric along a path is reported (Garipov et al. 2018).

    Args:
      values: the metric along the path, [points], both ends included; at least 3.
      ts: where the values were taken, ascending, [points].
      curve: the path; with it comes the integral over its arc length.

    Returns: `start`, `end`, `minimum`, `maximum`, `mean` (of the points, with equal
      weights), `barrier` (see `crossing`), `not_finite` (the number of points that
      overflowed) and, given `ts` and `curve`, `arc_integral`: the mean over the curve's
      length. A point that overflowed spoils what it enters, as inf or NaN.

    Raises: ValueError for fewer than 3 points, or a curve without ts.

    >>> found = summary([1.0, 3.0, 2.0])
    >>> found["maximum"], found["mean"], found["barrier"]
    (3.0, 2.0, 1.0)
    """
    values = np.asarray(values, np.float64)
    found = {"barrier": crossing(values)}
    found |= {"start": values[0], "end": values[-1], "mean": values.mean()}
    found |= {"minimum": values.min(), "maximum": values.max()}
    found["not_finite"] = (~np.isfinite(values)).sum()
    if curve is not None:
        if ts is None:
            raise ValueError("an integral over arc length needs ts, one a value")
        found["arc_integral"] = float(curves.arc_integral(ts, values, curve))
    return {name: float(value) for name, value in found.items()}


def crossing(values: Any) -> float:
    """How far a path rises above the worse of its ends: a barrier where positive.

    max of values[1:-1] minus max(values[0], values[-1]): footnote 3 of Gotmare et al.
    2019 says that a barrier was crossed where some point of the segment has a higher
    loss than both ends. Negative where every inner point lies below the worse end.

    Args:
      values: a loss along the path, [points], the ends included; at least 3 points.

    Returns: NaN if a value is NaN.

    >>> crossing([1.0, 3.0, 2.0]), crossing([1.0, 0.5, 2.0])
    (1.0, -1.5)
    """
    values = np.asarray(values, np.float64)
    if len(values) < 3:
        raise ValueError(f"a path needs at least 3 points, got {len(values)}")
    return float(values[1:-1].max() - np.maximum(values[0], values[-1]))
