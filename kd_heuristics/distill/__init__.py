"""Provides knowledge distillation; each loss returns one value per example.

Arguments are ordered student before teacher, prediction before target. The objective at
the call site reduces the values. No gradient reaches a teacher.
"""

from kd_heuristics.distill import imagenet, net2net, transfer
from kd_heuristics.distill.divergences import (
    dist,
    dkd,
    js,
    reverse_kl,
    standardize,
)
from kd_heuristics.distill.faithfulness import (
    calibration_error,
    calibration_gaps,
    fidelity,
)
from kd_heuristics.distill.fsp import (
    fsp_distance,
    fsp_loss,
    fsp_matrices,
    fsp_matrix,
)
from kd_heuristics.distill.hints import annealed_weight, fitnet_loss, hint_loss
from kd_heuristics.distill.losses import (
    agreement,
    hard_labels,
    hinton,
    kl,
    l2,
    logit_matching,
    masked_mean,
    soft_cross_entropy,
)
from kd_heuristics.distill.net2net import deepen, widen
from kd_heuristics.distill.pairs import matching_sections, sections, take_pairs
from kd_heuristics.distill.parts import depends_on, merge, split
from kd_heuristics.distill.regressors import Regressor, regressor
from kd_heuristics.distill.relations import (
    Bank,
    attention,
    contrastive,
    init_bank,
    rkd,
)
from kd_heuristics.distill.shuffle import channel_orders, shuffled
from kd_heuristics.distill.stages import (
    fitnet_stage,
    hint_stage,
    joint_stage,
    matching_stage,
    numbered,
)
from kd_heuristics.distill.storing import Largest, store, stored
from kd_heuristics.distill.teachers import (
    Teacher,
    from_network,
    mean_of_logits,
    mean_of_probabilities,
    sum_of_losses,
)

__all__ = [
    "Bank",
    "Largest",
    "Regressor",
    "Teacher",
    "agreement",
    "annealed_weight",
    "attention",
    "calibration_error",
    "calibration_gaps",
    "channel_orders",
    "contrastive",
    "deepen",
    "depends_on",
    "dist",
    "dkd",
    "fidelity",
    "fitnet_loss",
    "fitnet_stage",
    "from_network",
    "fsp_distance",
    "fsp_loss",
    "fsp_matrices",
    "fsp_matrix",
    "hard_labels",
    "hint_loss",
    "hint_stage",
    "hinton",
    "imagenet",
    "init_bank",
    "joint_stage",
    "js",
    "kl",
    "l2",
    "logit_matching",
    "masked_mean",
    "matching_sections",
    "matching_stage",
    "mean_of_logits",
    "mean_of_probabilities",
    "merge",
    "net2net",
    "numbered",
    "regressor",
    "reverse_kl",
    "rkd",
    "sections",
    "shuffled",
    "soft_cross_entropy",
    "split",
    "standardize",
    "store",
    "stored",
    "sum_of_losses",
    "take_pairs",
    "transfer",
    "widen",
]
