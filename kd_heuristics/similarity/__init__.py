"""How alike two networks' representations are: CCA, CKA and their relatives."""

from kd_heuristics.similarity.activations import capture
from kd_heuristics.similarity.checks import SaturationWarning
from kd_heuristics.similarity.floor import above_floor, noise_floor, shuffled_floor
from kd_heuristics.similarity.layers import matrix
from kd_heuristics.similarity.over_data import stream, stream_matrices, stream_matrix
from kd_heuristics.similarity.pairs import (
    cca,
    cka,
    dft_cca,
    google_cca,
    knn,
    procrustes,
    pwcca,
    rsa,
    svcca,
)
from kd_heuristics.similarity.permutations import permutation_test
from kd_heuristics.similarity.streaming import Accumulator
from kd_heuristics.similarity.tokens import tokens

__all__ = [
    "Accumulator",
    "SaturationWarning",
    "above_floor",
    "capture",
    "cca",
    "cka",
    "dft_cca",
    "google_cca",
    "knn",
    "matrix",
    "noise_floor",
    "permutation_test",
    "procrustes",
    "pwcca",
    "rsa",
    "shuffled_floor",
    "stream",
    "stream_matrices",
    "stream_matrix",
    "svcca",
    "tokens",
]
