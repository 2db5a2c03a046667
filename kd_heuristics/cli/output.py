"""Output of the commands: a progress bar, a table, a folder of results.

With several processes, only the first prints and writes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.progress
import rich.table

from kd_heuristics import runs
from kd_heuristics.runtime import files, hosts, locks
from kd_heuristics.runtime.errors import InputError


@contextlib.contextmanager
def progress(words: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr; without a terminal, print a line at the start.

    Yields `advance(count)`.

    Args:
      words: description of the work.
      total: total count of the work.
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
    """Print a table, with numbers to four digits."""
    shown = rich.table.Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        justify: Any = "left" if index == 0 else "right"
        shown.add_column(column, justify=justify, overflow="fold")  # whole names
    for row in rows:
        shown.add_row(*(x if isinstance(x, str) else f"{x:.4g}" for x in row))
    rich.console.Console(quiet=not hosts.is_first()).print(shown)


def say(line: str) -> None:
    """Print a line."""
    if hosts.is_first():
        print(line)


@contextlib.contextmanager
def folder(path: Path, option: str = "--out") -> Iterator[Path]:
    """Create the folder of a command's results and lock it in the context.

    `option` is the command's option for it, which errors name.

    Raises: InputError if it cannot be written, or another process uses it.
    """
    path = files.local(path)
    with contextlib.ExitStack() as held:
        hosts.first(_enter, path, option, held)
        yield path


def _enter(path, option, held):
    """Create a folder and acquire its lock."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        held.enter_context(locks.lock(path))
    except OSError as error:
        raise InputError(
            f"{option} {path} cannot be written: {error.strerror}"
        ) from error
    except locks.LockedError as error:
        raise InputError(
            f"{option} {path} is in use by {error}. Wait for it, stop it, or choose "
            f"another {option}"
        ) from None


def save(
    out: Path,
    results: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    draw: Callable,
) -> None:
    """Write results.json, arrays.npz and the figures, and print their paths."""
    target = runs.RunFolder(out)
    target.write_json("results.json", results)
    target.save_arrays("arrays.npz", arrays)
    hosts.first(draw, target.path)
    say(f"results: {target.path / 'results.json'}\nfigures: {target.path / 'figures'}")
