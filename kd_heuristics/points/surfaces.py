"""Metrics over a grid of a plane, saved chunk by chunk and resumed after a kill."""

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

import jax
import numpy as np
from jax.extend import core

from kd_heuristics import points, runs
from kd_heuristics.points.evaluate import missing_stats_named
from kd_heuristics.runtime import files, hosts, parallel
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.leaves import key_data
from kd_heuristics.runtime.values import integer

PyTree = Any

_OWN = ("xs", "ys", "done", "fingerprint")  # arrays of a file beside the values


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """Values on a grid; row i of each array lies at ys[i], column j at xs[j].

    Attributes:
      xs: float64 [columns].
      ys: float64 [rows].
      values: `{"train_loss": float64 [rows, columns], ...}`; inf or NaN at points that
        overflowed, NaN at points not yet evaluated.
      done: bool [rows, columns]; true at evaluated points.
    """

    xs: np.ndarray
    ys: np.ndarray
    values: dict[str, np.ndarray]
    done: np.ndarray

    @property
    def overflowed(self) -> np.ndarray:
        """Bool [rows, columns]; true if a point is done and a metric inf or NaN."""
        finite = [np.isfinite(values) for values in self.values.values()]
        return self.done & ~np.logical_and.reduce(finite)


def evaluate(
    params_at: Callable[..., PyTree],
    xs: Any,
    ys: Any,
    sets: Mapping[str, PyTree],
    metric: points.Metric,
    path: files.AnyPath | None = None,
    refresh_stats: Callable[[PyTree], PyTree] | None = None,
    chunk: SupportsIndex | None = None,
    *,
    batch_stats: PyTree = None,
    progress: Callable[[int], None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Surface:
    """Evaluate metrics at every point of a grid, a chunk at a time.

    After each chunk the surface is written atomically; the same call again resumes and
    ends with the same numbers. A fingerprint in the file covers all inputs of these
    numbers: the grid, the networks at three of its corners, the data, and the programs
    of the metric and of `refresh_stats` as JAX lowers them. Another model, option or
    constant, or a change of their code, is therefore another surface. If the file holds
    another surface, a warning says so, and the surface is recomputed and replaced. The
    corners determine the points between them only if `params_at` is a plane's.

    Args:
      params_at: `(x, y) -> params`, such as `plane.at` or `span.at`.
      xs: ascending, [columns].
      ys: ascending, [rows].
      sets: `{"train": batches, "test": batches}`, as in `points.evaluate_sets`.
      metric: as in `points.evaluate`.
      path: ".npz" file of the surface; `None` disables saving.
      refresh_stats: as in `points.evaluate`.
      chunk: points per device in memory at once, and between two writes; `None` takes
        8.
      batch_stats: as in `points.evaluate`.
      progress: called after each chunk with the points done since the previous call, on
        all sets; the first call reports the points of the file.
      mesh: as in `points.evaluate`.

    Raises:
      RunError: the file is damaged or not a surface file.
      ValueError: the grid does not ascend; also see `points.evaluate`.
    """
    xs, ys = _axis("xs", xs), _axis("ys", ys)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    if refresh_stats is not None:
        refresh_stats = as_partial(refresh_stats)
    fingerprint = ""
    if path is not None:
        shared = {} if batch_stats is None else batch_stats
        functions = as_partial(metric), refresh_stats
        fingerprint = _fingerprint(params_at, xs, ys, sets, shared, *functions)
    store = _Store(path, fingerprint)
    surface = store.load() or _empty(xs, ys)
    if progress is not None and surface.done.any():
        progress(int(surface.done.sum()))
    size = points.CHUNK if chunk is None else integer("chunk", chunk, 1)
    at_once = size * (1 if mesh is None else mesh.size)
    left = np.flatnonzero(~surface.done)
    for start in range(0, len(left), at_once):
        places = left[start : start + at_once]
        found = points.evaluate_sets(
            params_at,
            grid[places],
            sets,
            metric,
            refresh_stats,
            size,
            batch_stats=batch_stats,
            mesh=mesh,
        )
        _put(surface, places, found)
        store.save(surface)
        if progress is not None:
            progress(len(places))
    return surface


def load(path: files.AnyPath) -> Surface:
    """Load the surface of a file, finished or not.

    Raises:
      RunError: the file is missing, damaged or not a surface file.
    """
    arrays = _read(files.path(path))
    return _surface(arrays)


class _Store:
    """Optional file of a surface, and the fingerprint that it must have."""

    def __init__(self, path, fingerprint):
        self.path = None if path is None else files.path(path)
        self.fingerprint = fingerprint

    def load(self) -> Surface | None:
        if self.path is None or not hosts.first(self.path.exists):
            return None
        arrays = _read(self.path)
        if str(arrays["fingerprint"]) != self.fingerprint:
            words = (
                f"{self.path} holds a surface of another grid, or of other networks, "
                "data, metric (model, options, pixels) or statistics; it is recomputed "
                "and replaced"
            )
            if hosts.is_first():
                warnings.warn(words, stacklevel=3)
            return None
        return _surface(arrays)

    def save(self, surface: Surface) -> None:
        if self.path is None:
            return
        own = {"xs": surface.xs, "ys": surface.ys, "done": surface.done}
        values = {f"values/{name}": array for name, array in surface.values.items()}
        fingerprint = {"fingerprint": np.array(self.fingerprint)}
        folder = runs.RunFolder(self.path.parent)
        folder.save_arrays(self.path.name, own | values | fingerprint)


def _read(path):
    """Returns the arrays of a surface file; raise if it is damaged or incomplete."""
    arrays = runs.RunFolder(path.parent).load_arrays(path.name)
    missing = [name for name in _OWN if name not in arrays]
    if missing:
        raise runs.RunError(
            f"{path} is not a surface file: it lacks {', '.join(missing)}; choose "
            "another file"
        )
    return arrays


def _surface(arrays) -> Surface:
    """Returns the surface that a file's arrays hold."""
    values = {
        name.removeprefix("values/"): array
        for name, array in arrays.items()
        if name.startswith("values/")
    }
    return Surface(arrays["xs"], arrays["ys"], values, arrays["done"])


def _empty(xs, ys) -> Surface:
    """Returns a surface on which no point is done."""
    return Surface(xs, ys, {}, np.zeros((len(ys), len(xs)), bool))


def _put(surface: Surface, places, found) -> None:
    """Store values at flat grid positions and mark these as done."""
    for name, values in found.items():
        array = surface.values.setdefault(name, np.full(surface.done.shape, np.nan))
        array.flat[places] = values[: len(places)]
    surface.done.flat[places] = True


def _axis(name, values) -> np.ndarray:
    """Returns an axis in float64; raise ValueError unless it ascends."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 1 or not (np.diff(values) > 0).all():
        raise ValueError(f"{name} must be a list of ascending numbers, got {values}")
    return values


def _fingerprint(params_at, xs, ys, sets, batch_stats, metric, refresh_stats) -> str:
    """Returns the SHA-256 of all inputs of a surface's numbers."""
    ends = ((xs[0], ys[0]), (xs[-1], ys[0]), (xs[0], ys[-1]))
    corners = [params_at(*end) for end in ends]
    bound = (metric, refresh_stats, batch_stats)
    text, constants = _program(corners[0], *bound, dict(sets))
    digest = hashlib.sha256(text.encode())
    tree = (xs, ys, corners, dict(sets), bound, constants)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = parallel.to_host(key_data(leaf))
        place = jax.tree_util.keystr(path)
        digest.update(f"{place} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    # All processes must agree on whether the file matches.
    return hosts.first(digest.hexdigest)


def _program(params, metric, refresh_stats, batch_stats, sets) -> tuple[str, list]:
    """Returns a point's computation as text, and the arrays that it closes over.

    Newer versions of JAX omit these arrays from the text, as they omit arguments.
    """

    def point(metric, refresh_stats, batch_stats, batches, params):
        own = batch_stats if refresh_stats is None else refresh_stats(params)
        return {name: metric(params, own, batch) for name, batch in batches.items()}

    shapes = jax.eval_shape(
        lambda *arguments: arguments, metric, refresh_stats, batch_stats, sets, params
    )
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes[3]
    )
    with missing_stats_named():
        traced = jax.jit(point).trace(*shapes[:3], batch, shapes[4])
        return traced.lower().as_text(), [*_constants(traced.jaxpr)]


def _constants(jaxpr) -> Iterator[Any]:
    """Yield the constant arrays of a program, at any depth."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        yield from jaxpr.consts
        jaxpr = jaxpr.jaxpr
    places = [*jaxpr.outvars, *(x for eqn in jaxpr.eqns for x in eqn.invars)]
    yield from (x.val for x in places if isinstance(x, core.Literal))
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(eqn.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _constants(inner)


def _is_jaxpr(value) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
