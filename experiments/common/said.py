"""Verdicts in the terminal."""

from collections.abc import Sequence
from typing import Any

from kd_heuristics import report


def verdicts(title: str, judged: Sequence[dict[str, Any]]) -> None:
    """Prints the main claims with verdicts, or with estimates before the first look."""
    for claim in judged:
        if claim["main"]:
            words = f"{report.verdict_words(claim)}, {report.effect_words(claim)}"
            print(f"{title}: {claim['words']}: {words}")
