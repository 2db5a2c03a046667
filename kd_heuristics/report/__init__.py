"""Verdicts on claims, and the HTML page that shows them."""

from kd_heuristics.report.page import write, write_page
from kd_heuristics.runs.claims import (
    Claim,
    judge,
    judge_all,
    summary,
)

__all__ = [
    "Claim",
    "judge",
    "judge_all",
    "summary",
    "write",
    "write_page",
]
