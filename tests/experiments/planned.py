"""Whether a run trained what its plan says, and what examples of commands name."""

import collections
import re
from pathlib import Path

from experiments.common import fields
from kd_heuristics import training
from kd_heuristics.report.tables import training_of


def check(study, folder, config):
    """Compares the last step of each training in the metrics file with the plan."""
    last = collections.defaultdict(int)
    for line in training.MetricsFile(folder / "metrics.jsonl", sinks=[]).read():
        last[line["stage"]] = max(last[line["stage"]], line["step"])
    plan = study.plan(fields.resolved(config))
    assert {training_of(stage)[0] for stage in last} == plan.stages
    expected = collections.Counter()
    for its in plan.trainings:
        expected[its.steps] += its.members
    assert collections.Counter(last.values()) == expected
    for name in _in_examples(study.name):
        assert (folder / "checkpoints" / name).is_dir(), name


def _in_examples(study):
    """The trainings whose checkpoints pages and commands' help take as examples."""
    root = Path(__file__).parents[2]
    files = [*(root / "docs").rglob("*.md"), root / "README.md"]
    files += (root / "kd_heuristics" / "cli").glob("*.py")
    shown = re.compile(rf"runs/demo/{study}/checkpoints/(\w+)")
    return {name for file in files for name in shown.findall(file.read_text())}
