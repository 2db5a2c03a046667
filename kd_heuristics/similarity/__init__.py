"""How alike two networks' representations are: CCA, CKA and their relatives."""

from kd_heuristics.similarity.checks import SaturationWarning
from kd_heuristics.similarity.layers import matrix
from kd_heuristics.similarity.pairs import (
    cca,
    cka,
    dft_cca,
    google_cca,
    pwcca,
    svcca,
)

__all__ = [
    "SaturationWarning",
    "cca",
    "cka",
    "dft_cca",
    "google_cca",
    "matrix",
    "pwcca",
    "svcca",
]
