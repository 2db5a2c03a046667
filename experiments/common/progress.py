"""Progress bar of a study."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.progress

from kd_heuristics.runtime import hosts, interrupts

_FIRST = "reading data, compiling the first programs"


class Progress:
    """Bar with study, step, loss and time left; prints lines without a terminal."""

    def __init__(self, bar: rich.progress.Progress, task: rich.progress.TaskID):
        self._bar, self._task, self._stage = bar, task, ""

    def start(self, steps: int) -> None:
        """Sets the length of the bar."""
        self._bar.update(self._task, total=steps)

    def stage(self, name: str) -> None:
        """Sets the name of the stage that is running.

        Raises:
          Interrupted: the process was asked to stop.
        """
        interrupts.check()
        self._stage = name
        self._bar.update(self._task, stage=name)
        if self._bar.disable and hosts.is_first():
            task = self._bar.tasks[self._task]
            print(f"{task.completed:.0f}/{task.total:.0f} {name}", flush=True)

    def training(self, name: str) -> None:
        """A stage that trains: until its first steps are done the bar says it compiles.

        Raises:
          Interrupted: see `stage`.
        """
        self.stage(name)
        self._bar.update(self._task, stage=f"{name} (compiling)")

    def advance(self, steps: float, loss: float | None = None) -> None:
        """Advances the bar, and shows `loss` if it is finite.

        Raises:
          Interrupted: see `stage`. Earlier work is saved, or `fit` saves it.
        """
        known = loss is not None and math.isfinite(loss)
        fields: dict[str, Any] = {"stage": self._stage}
        if known:
            fields["loss"] = f"{loss:.3f}"
        self._bar.update(self._task, advance=steps, **fields)
        interrupts.check()


@contextlib.contextmanager
def shown(study: str) -> Iterator[Progress]:
    """Shows the bar of a study in the context; `Progress.start` sets its length.

    Without a terminal it prints a line at once, for the first programs take seconds.
    """
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
        task = bar.add_task(study, total=None, stage=_FIRST, loss="-")
        if bar.disable and hosts.is_first():
            print(f"{study}: {_FIRST}", flush=True)
        yield Progress(bar, task)
