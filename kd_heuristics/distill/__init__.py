"""Knowledge distillation: losses that return one value an example.

Student before teacher, prediction before target; the objective at the call site
reduces. No gradient reaches a teacher.
"""

from kd_heuristics.distill.fsp import (
    fsp_distance,
    fsp_loss,
    fsp_matrices,
    fsp_matrix,
)
from kd_heuristics.distill.losses import (
    agreement,
    hard_labels,
    hinton,
    kl,
    l2,
    logit_matching,
    soft_cross_entropy,
)
from kd_heuristics.distill.pairs import matching_sections, sections, take_pairs
from kd_heuristics.distill.shuffle import channel_orders, shuffled

__all__ = [
    "agreement",
    "channel_orders",
    "fsp_distance",
    "fsp_loss",
    "fsp_matrices",
    "fsp_matrix",
    "hard_labels",
    "hinton",
    "kl",
    "l2",
    "logit_matching",
    "matching_sections",
    "sections",
    "shuffled",
    "soft_cross_entropy",
    "take_pairs",
]
