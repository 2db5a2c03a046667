"""Does the flow between a teacher's layers make its student faster and better?

Paper: Yim et al. 2017, "A Gift from Knowledge Distillation", tables 1 to 5, figure 3.
Command: python -m experiments.fsp --preset demo | digits | cifar10 | cifar100 | cub

Hardware and time: `digits`, about 6 minutes of CPU time a seed; the papers' sets not
run. docs/designs.md says how `digits` was chosen, docs/results.md what it found.

Table 1 trains nets of the teacher's form: in full, in a third of the steps, in full and
then a third, or after a first stage on a teacher's hints or flow matrices. It reports
single nets and ensembles. Table 3 trains a smaller net in the same ways; we add soft
targets, alone and after flow matrices. Table 5 (`cub`) fine-tunes an ImageNet teacher
on birds, which then teaches a smaller net. On other sets a teacher trained on half of
the classes is fine-tuned on the other half. `stages.plan` lists every training.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common import fidelity
from experiments.common.own import Own
from experiments.common.study import Study, StudyRun, stacked
from experiments.common.task import NOTHING, Task
from experiments.fsp import figures, lessons, tasks, timing
from experiments.fsp.claims import claims
from experiments.fsp.config import PRESETS, Config
from experiments.fsp.lessons import Starts
from experiments.fsp.nets import Net, probabilities, stage_name, vote
from experiments.fsp.plan import plan
from experiments.fsp.protocol import PROTOCOL
from experiments.fsp.results import results
from experiments.fsp.rows import FAST, taught
from experiments.fsp.stages import Stage, ordered
from kd_heuristics import data, training
from kd_heuristics.runs import RunFolder
from kd_heuristics.runtime import parallel


def compute(
    config: Config, folder: RunFolder, progress, own: Own = NOTHING
) -> tuple[dict, dict]:
    """Trains all rows and judges; returns the run's `(results, arrays)`."""
    run = StudyRun(config, folder, progress, by=compute)
    its = tasks.make(config, own)
    stages = ordered(config, run.seeds)
    progress.start(total_steps(stages))

    trained = train_all(run, its, stages)

    arrays: dict[str, np.ndarray] = {}
    measured = taught(config.rows)
    for stage in stages:
        if stage.is_last:
            arrays |= curves(run, stage)
        if stage.name in FAST:
            task, nets = its[stage.part, stage.size], trained[stage.name]
            arrays |= run.stage(
                f"ensemble-{stage.name}", ensemble, run, stage, task, nets
            )
        if stage.name in measured:
            names = f"fidelity-{stage.name}", faithful, run, its, stage
            arrays |= run.stage(*names, trained, measured[stage.name])
    if config.fast and config.timing_steps:
        timing.write(run, its)
    return results(config, arrays), arrays


def total_steps(stages: Sequence[Stage]) -> int:
    """The training steps of all nets: the length of the bar."""
    return sum(len(stage.nets) * stage.phase.steps for stage in stages)


def train_all(
    run: StudyRun, its: Mapping[tuple[str, str], Task], stages: Sequence[Stage]
) -> dict[str, Starts]:
    """Trains the stages in order; returns the nets of each by its name."""
    trained: dict[str, Starts] = {}
    for stage in stages:
        trained[stage.name] = lessons.train(run, its, stage, trained)
    return trained


def curves(run: StudyRun, stage: Stage) -> dict[str, np.ndarray]:
    """Steps [points] and metrics [seeds, nets, points] of a row's last stage."""
    lines = [
        [run.metrics.read(stage_name(stage.name, net)) for net in own]
        for own in _by_seed(run, stage)
    ]
    steps = np.array([line["step"] for line in lines[0][0]])
    return {f"{stage.name}/step": steps} | {
        f"{stage.name}/{name}": np.array(
            [[[line[name] for line in net] for net in own] for own in lines], float
        )
        for name in ("loss", "test_loss", "test_accuracy")
    }


def ensemble(
    run: StudyRun, stage: Stage, task: Task, nets: Starts
) -> dict[str, np.ndarray]:
    """Test accuracy of each seed's nets voting together, [seeds]."""
    found = []
    labels, mask = parallel.to_host((task.test["labels"], task.test["mask"]))
    for own in _by_seed(run, stage):
        votes = [probabilities(task.classifier, *nets[net], task.test) for net in own]
        found.append(vote(np.stack(parallel.to_host(votes)), labels, mask))
    return {f"{stage.name}/ensemble": np.array(found)}


def faithful(
    run: StudyRun,
    its: Mapping[tuple[str, str], Task],
    stage: Stage,
    trained: Mapping[str, Starts],
    teacher: str,
) -> dict[str, np.ndarray]:
    """Fidelity of a row's nets to their teacher, on train and test, [seeds, nets].

    Training images are at most as many as test images.
    """
    student, large = its[stage.part, stage.size], its[stage.part, "large"]
    count = int(np.asarray(parallel.to_host(student.test["mask"])).sum())
    size = student.test["mask"].shape[1]
    sets = {
        "train": data.eval_batches(
            student.train.take(min(count, len(student.train))), size
        ),
        "test": student.test,
    }
    found = []
    for own in _by_seed(run, stage):
        teaches = training.with_stats(*trained[teacher][own[0][0], 0])
        each = [
            fidelity.measure(
                {stage.name: (student.classifier, training.with_stats(*nets))},
                (large.classifier, teaches),
                sets,
            )
            for nets in (trained[stage.name][net] for net in own)
        ]
        found.append(stacked(each))
    return stacked(found)


def _by_seed(run: StudyRun, stage: Stage) -> list[list[Net]]:
    """The nets of a stage, a list per seed."""
    return [[net for net in stage.nets if net[0] == seed] for seed in run.seeds]


STUDY = Study(
    name="fsp",
    headline="Is the flow of a solution a good teacher?",
    question="Does a teacher's flow make its student faster and better?",
    paper="Yim et al. 2017",
    figure="tables",
    subject="{teacher} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
    shared=("*/step",),
    own=tasks.check,
)
