"""Whether a run trained what its plan says."""

import collections

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
