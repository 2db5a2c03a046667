"""Run folders, and claims with the verdicts on them.

    folder = runs.RunFolder("runs/mine")
    with folder.lock():
        folder.open({"config": config, "claims": claims})
        arrays = folder.stage("barriers", compute)
    runs.judge_all(claims, {"barrier": arrays["barrier"]})

`runs.folder` lists the files of a run folder.
"""

from kd_heuristics.runs.claims import (
    Claim,
    judge,
    judge_all,
    summary,
)
from kd_heuristics.runs.folder import InUseError, RunFolder
from kd_heuristics.runs.other_code import CodeChangedError, OnOtherCode
from kd_heuristics.runs.place import FORMAT, RunError, other_format
from kd_heuristics.runs.verdicts import verdict

__all__ = [
    "FORMAT",
    "Claim",
    "CodeChangedError",
    "InUseError",
    "OnOtherCode",
    "RunError",
    "RunFolder",
    "judge",
    "judge_all",
    "other_format",
    "summary",
    "verdict",
]
