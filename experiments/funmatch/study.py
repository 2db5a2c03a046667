"""Is a good teacher patient and consistent? (Figures 1 to 6, tables 2 to 4)

Paper: Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
consistent" (FunMatch).
Command: python -m experiments.funmatch --preset demo | digits | cifar10 | flowers | ...
         python -m experiments.funmatch --preset rows
         python -m experiments.funmatch --preset flowers --sweep list | INDEX | gather
         python -m experiments.funmatch.tables runs

Hardware and time: `digits`, about 6 minutes of CPU time a seed; the papers' sets not
run. docs/designs.md says how `digits` was chosen, docs/results.md what it found. A
training of E epochs takes E * N / batch size steps, rounded to the nearest.

Students match a teacher's predictions on crops, without labels. The arms differ in who
sees which pixels, in the length of training, the resolution, the optimiser, the first
weights, the family of networks, the number of teachers and whose images are looked at;
beside them students of labels. All is reported of the last step, on the test set; what
was selected, was selected on the validation set. Beside accuracy: how far a student is
from its teacher on images that neither was trained on. `tables` shows which rows of the
paper's tables were run, and the commands that run the others; the preset `rows` has in
small those that `digits` lacks.
"""

import dataclasses
import itertools
from typing import Any

from experiments.common import fields
from experiments.common.own import Own
from experiments.common.study import Job, Study, StudyRun
from experiments.common.task import NOTHING
from experiments.funmatch import (
    checks,
    figures,
    held,
    lengths,
    lessons,
    materials,
    teachers,
)
from experiments.funmatch.arms import ARMS, Setting
from experiments.funmatch.claims import claims
from experiments.funmatch.config import PRESETS, Config, name
from experiments.funmatch.plan import plan
from experiments.funmatch.protocol import PROTOCOL
from experiments.funmatch.results import results
from experiments.funmatch.students import train_students
from kd_heuristics import distill


def compute(config: Config, folder, progress, own: Own = NOTHING) -> tuple[dict, dict]:
    """Trains, evaluates and judges; `(results, arrays)` of the run folder."""
    run = StudyRun(config, folder, progress, by=compute)
    its = materials.make(config, own)
    counts = its.sets.num_examples, its.sets.teacher_examples
    lengths.check(config, *counts)
    lengths.check_stored(config, its.sets.num_examples, its.sets.num_classes)
    progress.start(lengths.total(config, *counts))

    taught_by = teachers.prepare(run, its)
    of_pixels = distill.Teacher(
        lessons.Looks(its.classifiers["teacher"]), taught_by.first
    )
    held_out = held.prepare(its, of_pixels)
    arrays: dict[str, Any] = {}
    for arm in config.arms:
        for setting, seeds in config.plan(arm):
            arrays |= train_students(run, its, taught_by, held_out, arm, setting, seeds)
    accuracy = held_out.teacher_accuracy()
    return results(its, arrays, accuracy, list(run.seeds)), arrays


def jobs(config: Config) -> list[Job]:
    """The paper's grid: a job for each arm, length, rate, decay and temperature."""
    config = fields.resolved(config)
    grid, found = config.grid, []
    for arm in config.arms:
        # Labels are matched at temperature 1.
        temperatures = (1.0,) if ARMS[arm].labels else grid.temperatures
        for setting, _ in config.plan(arm):
            for rate, decay, temperature in itertools.product(
                grid.rates, grid.decays, temperatures
            ):
                own = Setting(
                    epochs=setting.epochs,
                    rate=rate,
                    decay=decay,
                    temperature=temperature,
                )
                alone = dataclasses.replace(
                    config,
                    seeds=1,
                    settings=(own,),
                    main=(arm,),
                    other_arms=(),
                    rows=(),
                    other_epochs=fields.DERIVED,
                )
                found.append(Job(name(arm, setting.epochs), alone))
    return found


def scores(results: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """The validation accuracy of a job, and its setting and test accuracy."""
    ((lengths,),) = (results["arms"].values(),)
    ((found,),) = (lengths.values(),)
    report = {key: found[key] for key in ("setting", "test_accuracy", "test_kl")}
    return found["validation_accuracy"]["mean"], report


STUDY = Study(
    name="funmatch",
    headline="Does patience pay?",
    question="Is a good teacher patient and consistent?",
    paper="Beyer et al. 2022",
    answers=("patience",),
    figure="patience",
    subject="{teacher} teaches {model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    paper_preset="flowers",
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
    needs=checks.weights,
    shared=("*/step",),
    jobs=jobs,
    scores=scores,
    own=materials.fit,
)
