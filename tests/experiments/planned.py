"""Whether a run trained what its plan says."""

import collections

from experiments.common import fields
from kd_heuristics import training


def check(study, folder, config):
    """Compares the last step of each training in the metrics file with the plan."""
    last = collections.defaultdict(int)
    for line in training.MetricsFile(folder / "metrics.jsonl", sinks=[]).read():
        last[line["stage"]] = max(last[line["stage"]], line["step"])
    expected = collections.Counter()
    for its in study.plan(fields.resolved(config)).trainings:
        expected[its.steps] += its.members
    assert collections.Counter(last.values()) == expected
