"""Summary numbers of a metric along a path."""

from typing import Any

import numpy as np

from kd_heuristics import curves


def path_summary(
    values: Any, ts: Any = None, curve: curves.Curve | None = None
) -> dict[str, float]:
    """Returns the numbers that summarise a metric along a path (Garipov et al. 2018).

    Args:
      values: the metric along the path, [points], both ends included; at least 3.
      ts: positions of the values on the path, ascending, [points].
      curve: the path; adds the integral over its arc length.

    Returns: `start`, `end`, `minimum`, `maximum`, `mean` (over the points, with equal
      weights), `barrier` (of the function of that name), `not_finite` (the number of
      points that overflowed) and, given `ts` and `curve`, `arc_integral`: the mean over
      the curve's length. A point that overflowed makes the numbers that it enters inf
      or NaN.

    Raises: ValueError for fewer than 3 points, or a curve without ts.

    >>> found = path_summary([1.0, 3.0, 2.0])
    >>> found["maximum"], found["mean"], found["barrier"]
    (3.0, 2.0, 1.0)
    """
    values = np.asarray(values, np.float64)
    found = {"barrier": barrier(values)}
    found |= {"start": values[0], "end": values[-1], "mean": values.mean()}
    found |= {"minimum": values.min(), "maximum": values.max()}
    found["not_finite"] = (~np.isfinite(values)).sum()
    if curve is not None:
        if ts is None:
            raise ValueError("the integral over arc length needs ts, one per value")
        found["arc_integral"] = float(curves.arc_integral(ts, values, curve))
    return {name: float(value) for name, value in found.items()}


def barrier(values: Any) -> float:
    """Returns the loss barrier of a path: its rise above the worse end, at least 0.

    max(0, max(values[1:-1]) - max(values[0], values[-1])). By footnote 3 of Gotmare et
    al. 2019 a barrier is crossed if some point of the segment has a higher loss than
    both ends.

    Args:
      values: a loss along the path, [points], both ends included; at least 3 points.

    Returns: the barrier; NaN if a value is NaN.

    >>> barrier([1.0, 3.0, 2.0]), barrier([1.0, 0.5, 2.0])
    (1.0, 0.0)
    """
    values = np.asarray(values, np.float64)
    if len(values) < 3:
        raise ValueError(f"a path needs at least 3 points, got {len(values)}")
    rise = values[1:-1].max() - np.maximum(values[0], values[-1])
    return float(np.maximum(rise, 0.0))
