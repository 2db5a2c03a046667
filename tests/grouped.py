"""Options of a training that tests vary one by one, in the groups that `fit` takes."""

import dataclasses

from kd_heuristics import training

LOGGING, CHECKPOINTS = (
    [field.name for field in dataclasses.fields(group)]
    for group in (training.Logging, training.Checkpoints)
)


def grouped(*options, **more):
    """The options, with those of a group as its dataclass."""
    rest = {name: value for part in (*options, more) for name, value in part.items()}
    logging = {name: rest.pop(name) for name in LOGGING if name in rest}
    saving = {name: rest.pop(name) for name in CHECKPOINTS if name in rest}
    return rest | {
        "logging": training.Logging(**logging),
        "checkpoints": training.Checkpoints(**saving),
    }
