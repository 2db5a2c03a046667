"""The bar of a study: step, loss and time left."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.progress

from kd_heuristics.runtime import hosts, interrupts


class Progress:
    """A bar with study, step, loss and time left; lines where there is no terminal."""

    def __init__(self, bar: rich.progress.Progress, task: rich.progress.TaskID):
        self._bar, self._task = bar, task

    def start(self, steps: int) -> None:
        """Sets the length of the bar."""
        self._bar.update(self._task, total=steps)

    def stage(self, name: str) -> None:
        """Names what is running now.

        Raises:
          Interrupted: the process was asked to stop.
        """
        interrupts.check()
        self._bar.update(self._task, stage=name)
        if self._bar.disable and hosts.is_first():
            task = self._bar.tasks[self._task]
            print(f"{task.completed:.0f}/{task.total:.0f} {name}", flush=True)

    def advance(self, steps: float, loss: float | None = None) -> None:
        """Moves the bar by so many steps; `loss` is shown where it is a number.

        Raises:
          Interrupted: as `stage`; what was done before is saved, or `fit` does so.
        """
        known = loss is not None and math.isfinite(loss)
        fields: dict[str, Any] = {"loss": f"{loss:.3f}"} if known else {}
        self._bar.update(self._task, advance=steps, **fields)
        interrupts.check()


@contextlib.contextmanager
def shown(study: str) -> Iterator[Progress]:
    """The bar of one study; `Progress.start` gives its length."""
    columns = (
        rich.progress.TextColumn("{task.description} [dim]{task.fields[stage]}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("step"),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("loss {task.fields[loss]}"),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = rich.console.Console()
    with rich.progress.Progress(
        *columns,
        console=console,
        disable=not (console.is_terminal and hosts.is_first()),
    ) as bar:
        task = bar.add_task(study, total=None, stage="", loss="-")
        yield Progress(bar, task)
