"""Verdicts on claims, and the HTML page that shows them."""

from kd_heuristics.report.findings import effect as effect_words
from kd_heuristics.report.findings import failures as failures_words
from kd_heuristics.report.findings import verdict as verdict_words
from kd_heuristics.report.page import read, write, write_page, write_verdicts
from kd_heuristics.runs.claims import (
    Claim,
    judge,
    judge_all,
    summary,
)

__all__ = [
    "Claim",
    "effect_words",
    "failures_words",
    "judge",
    "judge_all",
    "read",
    "summary",
    "verdict_words",
    "write",
    "write_page",
    "write_verdicts",
]
