"""How the commands speak: a bar with the time left, a table, a folder of results.

Of several processes the first one speaks and writes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.progress
import rich.table

from kd_heuristics import hosts, runs


@contextlib.contextmanager
def progress(words: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr, `advance(count)`; without a terminal, a line at the start.

    Args:
      words: what is being done.
      total: counts until it is done.
    """
    console = rich.console.Console(stderr=True, quiet=not hosts.is_first())
    if not console.is_terminal:
        console.print(f"{words} ...", highlight=False)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with rich.progress.Progress(
        *columns, console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(words, total=total)
        yield lambda count, *_: bar.update(task, advance=count)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table; numbers with four digits."""
    shown = rich.table.Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*(x if isinstance(x, str) else f"{x:.4g}" for x in row))
    rich.console.Console(quiet=not hosts.is_first()).print(shown)


def say(line: str) -> None:
    """Prints a line."""
    if hosts.is_first():
        print(line)


def folder(path: Path) -> runs.RunFolder:
    """The folder of a command's results, made.

    Raises: ValueError where it cannot be written.
    """
    try:
        hosts.first(path.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from error
    return runs.RunFolder(path)


def save(
    out: Path,
    results: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    draw: Callable,
) -> None:
    """Writes results.json, arrays.npz and the figures, and says where they are."""
    target = folder(out)
    target.write_json("results.json", results)
    target.save_arrays("arrays.npz", arrays)
    hosts.first(draw, target.path)
    say(f"results: {out / 'results.json'}\nfigures: {out / 'figures'}")
