"""Figures: pure functions of a run folder."""

from kd_heuristics.plots.sgdr import sgdr

__all__ = ["sgdr"]
