"""The trainings of the FSP study, in order, as data."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.fsp.config import Config, Phase
from experiments.fsp.nets import Net
from experiments.fsp.rows import FAST, Part, Size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training of a group of nets.

    Attributes:
      name: of the stage; the last stage of a row has the row's name.
      nets: the nets to train.
      part: part of the classes.
      size: form of the nets.
      phase: length and learning rates.
      lesson: what the nets learn: "labels"; "soft", labels and soft targets, as in the
        second stage of FitNets; "flow", the teacher's flow matrices; "shuffled", the
        same in an order of channels of each net's own; "hints" or "three_hints", as
        `rows.HINTS` counts them.
      start: "fresh"; "weights", from a file; or the earlier stage whose nets go on.
      fresh_head: whether the last layer starts fresh, because the classes differ.
      teacher: earlier stage whose first net of a seed teaches; `None` without one.
    """

    name: str
    nets: tuple[Net, ...]
    part: Part
    size: Size
    phase: Phase
    lesson: str
    start: str = "fresh"
    fresh_head: bool = False
    teacher: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether its nets are those of a row: tested, and not clipped."""
        return self.lesson in ("labels", "soft")


def ordered(config: Config, seeds: Sequence[int]) -> tuple[Stage, ...]:
    """Lists all trainings of a run, each after those that it needs.

    Rows of one size, part and start share their first stage. With one seed:

    >>> from experiments.fsp.config import PRESETS
    >>> for stage in ordered(PRESETS["cifar10"], [0]):
    ...     taught = f", taught by {stage.teacher}" if stage.teacher else ""
    ...     count = len(stage.nets)
    ...     print(f"{count} {stage.name}: {stage.start}, {stage.lesson}{taught}")
    3 teacher: fresh, labels
    3 teacher_fast: fresh, labels
    3 teacher_more: teacher, labels
    1 fitnet-stage: fresh, hints, taught by teacher
    3 fitnet: fitnet-stage, soft, taught by teacher
    1 fitnet_3_hints-stage: fresh, three_hints, taught by teacher
    3 fitnet_3_hints: fitnet_3_hints-stage, soft, taught by teacher
    1 student-stage: fresh, flow, taught by teacher
    3 student: student-stage, labels
    3 shuffled-stage: fresh, shuffled, taught by teacher
    3 shuffled: shuffled-stage, labels
    1 small: fresh, labels
    1 small_fitnet-stage: fresh, hints, taught by teacher
    1 small_fitnet: small_fitnet-stage, soft, taught by teacher
    1 small_fsp-stage: fresh, flow, taught by teacher
    1 small_fsp: small_fsp-stage, labels
    1 small_kd: fresh, soft, taught by teacher
    1 small_fsp_kd: small_fsp-stage, soft, taught by teacher
    1 transfer_source: fresh, labels
    1 transfer_teacher: transfer_source, labels
    1 transfer_teacher_scratch: fresh, labels
    1 transfer_scratch: fresh, labels
    1 transfer_fitnet-stage: fresh, hints, taught by transfer_teacher
    1 transfer_fitnet: transfer_fitnet-stage, soft, taught by transfer_teacher
    1 transfer_fsp-stage: fresh, flow, taught by transfer_teacher
    1 transfer_fsp: transfer_fsp-stage, labels
    """
    stages: dict[str, Stage] = {}
    shared: dict[tuple, str] = {}
    for arm, row in config.rows.items():
        own: dict[str, Any] = {"part": row.part, "size": row.size}
        count = config.nets if arm in FAST else 1
        nets = tuple((seed, net) for seed in seeds for net in range(count))
        start, first_phase = row.start, config.first_phase(arm)
        if first_phase is not None:
            start = shared.setdefault((row.size, row.part, start), f"{arm}-stage")
            if start not in stages:
                # One net per seed, as in the paper; shuffled, each has its own order.
                one = tuple((seed, 0) for seed in seeds)
                stages[start] = Stage(
                    name=start,
                    nets=nets if row.start == "shuffled" else one,
                    phase=first_phase,
                    lesson=row.start,
                    teacher=row.teacher,
                    **own,
                )
        before = stages[start].part if start in stages else row.part
        stages[arm] = Stage(
            name=arm,
            nets=nets,
            phase=config.last_phase(arm),
            lesson="soft" if row.soft else "labels",
            start=start,
            fresh_head=start == "weights" or before != row.part,
            teacher=row.teacher if row.soft else None,
            **own,
        )
    return tuple(stages.values())
