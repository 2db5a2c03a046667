"""The paper's tables 2 to 4 and Figures 5 and 6 beside all runs and sweeps of a folder.

Command: python -m experiments.funmatch.tables runs

Prints each row with the paper's accuracy and ours, whether it was run, and the command
that runs what is missing; draws the tables and figures into FOLDER/funmatch-paper.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import rich.console
import rich.table
import tyro

from experiments.funmatch import lines, published
from experiments.funmatch.config import PRESETS
from experiments.funmatch.papers import row as cell
from experiments.funmatch.published import Row
from kd_heuristics import runs
from kd_heuristics.plots import Axis, Chart, Figure, Series, Table, draw, stored, style
from kd_heuristics.runtime import files

# Test accuracies in per cent by preset, arm and epochs; the teacher's have 0 epochs.
Found = Mapping[tuple[str, str, int], float]
_SAME = (
    "dataset",
    "teacher",
    "teacher_width",
    "teacher_size",
    "model",
    "width",
    "student_size",
    "test_split",
)
_BEST = ("labels (best)", "labels")  # the row of the best of those that start so
RUN, NOT_RUN, NOT_OURS = "run", "not run", "another paper's"


def preset_of(config: Mapping[str, Any]) -> str | None:
    """The paper's preset whose sets and networks a run has; None if there is none."""
    for name in (*published.SETS, *published.IMAGENET):
        if all(config.get(key) == getattr(PRESETS[name], key) for key in _SAME):
            return name
    return None


def of_run(config: Mapping[str, Any], results: Mapping[str, Any]) -> Found:
    """The accuracies of a run, {} if it is none of a paper's preset."""
    return {key: accuracy for key, (_, accuracy) in _scored(config, results).items()}


def collect(folder: files.AnyPath) -> Found:
    """The accuracies of all finished runs and jobs of sweeps in a folder.

    Of several of one training the best on validation images counts.
    """
    best: dict[tuple[str, str, int], tuple[float, float]] = {}
    for path in sorted(files.path(folder).rglob("config.json")):
        if path.parent.parent.name == "seeds":  # a block of a run that has its numbers
            continue
        run = runs.RunFolder(path.parent)
        described = run.read_json("config.json")
        if described.get("study") != "funmatch" or described.get("own"):
            continue
        if not (path.parent / "results.json").exists():
            continue
        found = _scored(described["config"], run.read_json("results.json"))
        for key, scored in found.items():
            best[key] = max(best.get(key, scored), scored)
    return {key: accuracy for key, (_, accuracy) in best.items()}


def _scored(config: Mapping[str, Any], results: Mapping[str, Any]) -> dict:
    """Validation and test accuracy of each training of a run."""
    preset = preset_of(config)
    if preset is None:
        return {}
    every = {
        (preset, arm, int(epochs)): (
            run["validation_accuracy"]["mean"],
            run["test_accuracy"]["mean"],
        )
        for arm, lengths in results["arms"].items()
        for epochs, run in lengths.items()
    }
    teacher = results["teacher_accuracy"]
    every[preset, "teacher", 0] = teacher["validation"], teacher["test"]
    # A student that diverged has null.
    return {
        key: (score, round(100 * accuracy, 2))
        for key, (score, accuracy) in every.items()
        if score is not None and accuracy is not None
    }


def ours(row: Row, epochs: int, found: Found) -> float | None:
    """Our accuracy of a cell; None if it was not run."""
    if row.arm != _BEST[0]:
        return found.get((row.preset, row.arm, epochs))
    of_labels = [
        value
        for (preset, arm, length), value in found.items()
        if (preset, length) == (row.preset, epochs) and arm.startswith(_BEST[1])
    ]
    return max(of_labels, default=None)


def state(row: Row, found: Found) -> str:
    """Whether a row was run: "run", "not run", "2 of 7 run" or "another paper's"."""
    if not row.preset:
        return NOT_OURS
    count = sum(ours(row, epochs, found) is not None for epochs in row.cells)
    if count in (0, len(row.cells)):
        return RUN if count else NOT_RUN
    return f"{count} of {len(row.cells)} run"


def command(row: Row, found: Found) -> str:
    """The command that runs what is missing of a row; "" if nothing is."""
    missing = [e for e in row.cells if ours(row, e, found) is None]
    if not row.preset or not missing:
        return ""
    if row.arm == "teacher":
        return f"any run of --preset {row.preset}"
    if not row.is_trained:
        return "those of the rows of labels"
    settings = [setting.epochs for setting in PRESETS[row.preset].settings]
    words = ["python -m experiments.funmatch --preset", row.preset]
    words += ["--main", row.arm, "--other-arms", "--rows"]
    words += [cell(row.arm, epochs) for epochs in missing]
    if row.rate is not None:
        words += [f"--settings.{settings.index(e)}.rate {row.rate:g}" for e in missing]
    return " ".join([*words, "--name", row.arm.replace("/", "-")])


def _figure(name: str, title: str, rows: Sequence[Row], found: Found) -> Figure:
    """A table as a panel of text, with a chart of its accuracies.

    Args:
      name: of the table.
      title: what it has.
      rows: of the table.
      found: our accuracies.
    """
    names = [f"{_named(row)} [{state(row, found)}]" for row in rows]
    series = []
    for words, color, marker in (
        ("the paper", style.GREY, "s"),
        ("ours", style.COLORS[1], "o"),
    ):
        points = [
            (value, place)
            for place, row in enumerate(rows)
            for epochs, theirs in row.cells.items()
            for value in [theirs if words != "ours" else ours(row, epochs, found)]
            if value is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            series.append(Series(x, y, words, color, line="none", marker=marker))
    chart = Chart(
        f"{title} (a mark for each length)",
        Axis("test accuracy", "%"),
        Axis(names=names),
        series,
        legend=False,
    )
    size: dict[str, Any] = {"columns": 1, "height": 1.2 + 0.2 * len(rows)}
    size["legend_below"] = True
    caption = f"{name}: the paper's accuracies, and ours where they were run"
    return Figure(name, caption, [chart, table(name, rows, found)], **size)


def table(name: str, rows: Sequence[Row], found: Found) -> Table:
    """A table of the paper with our accuracies, the state and a command a row."""
    lengths = sorted({epochs for row in rows for epochs in row.cells})
    wide = any(len(row.cells) > 1 for row in rows)
    between = [f"{e:,}" for e in lengths] if wide else ["epochs", "accuracy (%)"]
    head = ["row", "preset", *between, "state", "command", "note"]
    cells = []
    for row in rows:
        if wide:
            inner = [_words(row, epochs, found) for epochs in lengths]
        else:
            ((epochs, _),) = row.cells.items()
            inner = [f"{epochs:,}" if epochs else "", _words(row, epochs, found)]
        last = [state(row, found), command(row, found), row.note]
        cells.append([row.name, row.preset, *inner, *last])
    return Table(f"{name}: the paper's, and ours in brackets", head, cells)


def _named(row: Row) -> str:
    """The name of a row in a chart: its preset, its words and a single length."""
    named = f"{row.preset}: {row.name}" if row.preset else row.name
    (first, *more) = row.cells
    return named if more or not first else f"{named}, {first:,}"


def _words(row: Row, epochs: int, found: Found) -> str:
    """A cell: the paper's accuracy, and ours in brackets."""
    if epochs not in row.cells:
        return ""
    own = ours(row, epochs, found)
    theirs = f"{row.cells[epochs]:.4g}"
    return theirs if own is None else f"{theirs} ({own:.4g})"


TABLES = {
    "table2": ("Table 2", "Results on ImageNet", published.table2),
    "table3": ("Table 3", "ImageNet", published.table3),
    "table4": ("Table 4", "The small sets", published.table4),
}


def figures(found: Found, presets: Sequence[str]) -> dict[str, Figure]:
    """The tables that have a row of one of the presets."""
    return {
        key: _figure(name, title, make(), found)
        for key, (name, title, make) in TABLES.items()
        if any(row.preset in presets for row in make())
    }


def collected(found: Found) -> dict[str, Figure]:
    """All tables, and Figures 5 and 6, of what `collect` found."""

    def of(preset: str) -> lines.Lines:
        arms = {arm for name, arm, _ in found if name == preset and arm != "teacher"}
        return {
            arm: {e: v for (p, a, e), v in found.items() if (p, a) == (preset, arm)}
            for arm in arms
        }

    made = figures(found, [*published.SETS, *published.IMAGENET])
    made["figure5"] = lines.cheaper(of("imagenet"))
    sets = {name: of(name) for name in ("pets", "sun")}
    made["figure6"] = lines.images(sets)
    return made


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Prints and draws the paper's tables beside the runs that there are."""

    folder: Annotated[str, tyro.conf.Positional] = "runs"
    """folder with run folders and sweeps, at any depth"""


def main() -> None:
    """Prints the tables and draws tables and figures."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.funmatch.tables")
    found = collect(arguments.folder)
    target = files.path(arguments.folder) / "funmatch-paper"
    console = rich.console.Console(soft_wrap=not sys.stdout.isatty())
    for name, figure in collected(found).items():
        made = dataclasses.replace(figure, subtitle=f"all runs in {arguments.folder}")
        stored.save(made, target, name)
        draw.save(made, target, name)
        for panel in made.panels:
            if isinstance(panel, Table):
                console.print(_printed(panel))
    console.print(f"figures: {target / 'figures'}")


def _printed(panel: Table) -> rich.table.Table:
    printed = rich.table.Table(title=panel.title, title_justify="left")
    for head in panel.head:
        printed.add_column(head, overflow="fold")
    for line in panel.rows:
        printed.add_row(*line)
    return printed


if __name__ == "__main__":
    main()
