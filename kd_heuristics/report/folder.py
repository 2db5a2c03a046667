"""Contents of a run folder, as the page shows them."""

import dataclasses
from typing import Any

from kd_heuristics import runs
from kd_heuristics.plots import Figure, FigureError, stored
from kd_heuristics.report import reading


@dataclasses.dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
      name: name of the study.
      title: title on the page: the name, with the preset's if the name is not unique.
      path: path of the folder.
      described: config.json.
      results: results.json; None if the run failed or did not finish.
      error: error.json, or None.
      record: environment.json; {} if it is missing.
      figures: figures by name, in their order; an error in place of a damaged one.
    """

    name: str
    title: str
    path: Any
    described: dict[str, Any]
    results: dict[str, Any] | None
    error: dict[str, str] | None
    record: dict[str, Any]
    figures: dict[str, Figure | FigureError]

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Judged claims; [] if there are no results."""
        return [] if self.results is None else self.results.get("claims") or []

    @property
    def is_preview(self) -> bool:
        """Whether it has claims, and none has reached a declared number of seeds."""
        return bool(self.claims) and all(own["look"] is None for own in self.claims)

    @property
    def heading(self) -> str:
        """The question in a few words, or the title."""
        words = self.described.get("headline")
        if not words:
            return self.title
        return words if self.title == self.name else f"{words} ({self.title})"

    @property
    def subject(self) -> str:
        """What was trained on what; "" if the config does not tell."""
        config = self.described["config"]
        parts = config.get("model") or config.get("teacher"), config.get("dataset")
        said = self.described.get("subject")
        return said or " on ".join(str(part) for part in parts if part)

    @property
    def invocations(self) -> list[dict[str, Any]]:
        """Entries of environment.json, oldest first."""
        return self.record.get("invocations") or []

    @property
    def seconds(self) -> float:
        """Time of all finished invocations."""
        return float(sum(entry.get("seconds") or 0 for entry in self.invocations))

    @property
    def still_names(self) -> list[str]:
        """Names of the figures, then of still images without data."""
        drawn = {path.stem for path in (self.path / "figures").glob("*.png")}
        return [*self.figures, *sorted(drawn - {*self.figures})]

    @property
    def seeds(self) -> range:
        """The seeds of the run.

        Raises:
          RunError: the config names none.
        """
        config = self.described["config"]
        first, count = config.get("first_seed", 0), config.get("seeds", 1)
        if type(first) is not int or type(count) is not int:
            raise runs.RunError(
                f"{self.path / 'config.json'} is damaged: first_seed and seeds must be "
                f"whole numbers, got {first!r} and {count!r}"
            )
        return range(first, first + count)


def read(path: Any, title: str) -> Run:
    """Read what a page needs from a run folder, under a title.

    Raises:
      RunError: a file of the folder is damaged.
    """
    folder = runs.RunFolder(path)
    error = reading.checked(folder, "error.json")
    described = reading.checked(folder, "config.json") or {"config": {}}
    results = None if error is not None else _results(folder, described)
    return Run(
        name=path.name,
        title=title,
        path=path,
        described=described,
        results=results,
        error=error,
        record=reading.checked(folder, "environment.json") or {},
        figures=_read_figures(path / "figures"),
    )


def damaged(path: Any, title: str, error: runs.RunError) -> Run:
    """Returns a run that failed by an error of its folder."""
    failure = {"error": type(error).__name__, "message": str(error)}
    known = {"config": {}, "format": runs.FORMAT}
    return Run(path.name, title, path, known, None, failure, {}, {})


def _results(folder: runs.RunFolder, described: dict[str, Any]) -> dict | None:
    """Returns a folder's results; without claims if another version's differ."""
    try:
        return reading.checked(folder, "results.json")
    except runs.RunError:
        if runs.other_format(described) is None:
            raise
        return {}


def _read_figures(folder: Any) -> dict[str, Figure | FigureError]:
    """Returns the stored figures by name in their order, errors for damaged ones."""
    found: dict[str, Figure | FigureError] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = stored.load(path)
        except FigureError as error:
            found[path.stem] = error
    last = len(found)
    return dict(sorted(found.items(), key=lambda item: getattr(item[1], "place", last)))
