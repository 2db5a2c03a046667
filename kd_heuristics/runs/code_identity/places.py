"""Locates source files, and tells which modules are hashed."""

import functools
import importlib.util
import sys
import sysconfig
from pathlib import Path

# Parts of a module's name in the project's packages.
_SHOW = {
    "plots",
    "report",
    "figures",
    "charts",
    "cli",
    "launch",
    "progress",
    "protocol",
}
# Names of `kd_heuristics.runs`: claims are read and judged after the numbers exist.
_CLAIMS = {"claims", "verdicts", "verdict", "Claim", "judge", "judge_all", "summary"}
_PROJECT = ("kd_heuristics", "experiments")
_INSTALLED = {"site-packages", "dist-packages"}


def file(name: str) -> Path | None:
    """Returns the source file of a hashed module; the folder of a namespace package."""
    top, *rest = name.split(".")
    place = _place(top, tuple(sys.path))
    if place is None or not rest:
        return place
    folder = place if place.is_dir() else place.parent
    if place.name not in ("__init__.py", folder.name):
        return None  # a plain module has no submodules
    below = folder.joinpath(*rest)
    candidates = (below / "__init__.py", below.with_suffix(".py"), below)
    return next((file for file in candidates if file.exists()), None)


@functools.cache
def _place(top: str, _path: tuple[str, ...]) -> Path | None:
    """Locates a hashed top-level module; `_path` keys the cache by `sys.path`."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    where = spec.origin or (next(iter(folders), None) if folders else None)
    return None if where is None or installed(top, Path(where)) else Path(where)


def installed(name: str, file: Path) -> bool:
    """Whether a module is in the standard library, third-party or without source."""
    if not (file.suffix == ".py" or file.is_dir()):
        return True
    return name.partition(".")[0] not in _PROJECT and (
        not _INSTALLED.isdisjoint(file.parts)
        or Path(sysconfig.get_path("stdlib")) in file.parents
    )


def shows(name: str) -> bool:
    """Whether a module, or a name in one, displays numbers and determines none."""
    top, *rest = name.split(".")
    if top in _PROJECT and not _SHOW.isdisjoint(rest):
        return True
    return (
        (top, *rest[:1]) == ("kd_heuristics", "runs")
        and rest[1:2] != []
        and (rest[1] in _CLAIMS)
    )
