"""Errors that end a command in one line; any other is a bug and shows its traceback."""

from kd_heuristics.checkpoints import CheckpointError
from kd_heuristics.data import MissingDatasetError
from kd_heuristics.data.prepare import PrepareError
from kd_heuristics.runs import RunError
from kd_heuristics.runtime.errors import InputError
from kd_heuristics.runtime.files import WriteError
from kd_heuristics.runtime.hosts import HostError
from kd_heuristics.training import NonFiniteError

INVALID = (InputError, CheckpointError, RunError)
FAILURES = (PrepareError, MissingDatasetError, NonFiniteError, HostError, WriteError)
