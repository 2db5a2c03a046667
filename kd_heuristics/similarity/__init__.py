"""How alike two networks' representations are: CCA, CKA and their relatives.

How the parts fit, for two networks of a map [n, 4, 4, 3] and a layer [n, 8] each:

- `plan` decides from the shapes what is compared. With conv="mean" each layer is
  one slot [n, units]; slots of one width form a group: the maps, the layers.
- `views` takes the slots out of the activations; `measures.prepare` makes each, once,
  into a `Layer` with the factor that a comparison needs: an orthonormal basis for CCA,
  the scaled layer for CKA and Procrustes, an n x n matrix (`kernels`) for knn and rsa.
- `comparing.all_pairs` multiplies the factors of two slots and lets `measures.compare`
  read the similarity off the product.
- `layers.matrix` does so with all examples at hand, `permutations` once more for each
  order of the second network's examples; `streaming.Accumulator` keeps moments in place
  of examples, from which `measures.prepare_moments` makes the same layers.
"""

from kd_heuristics.similarity.activations import capture
from kd_heuristics.similarity.checks import SaturationWarning
from kd_heuristics.similarity.floor import above_floor, noise_floor, shuffled_floor
from kd_heuristics.similarity.layers import matrix, treatments
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
    "treatments",
]
