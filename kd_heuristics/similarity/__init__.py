"""Similarity of two networks' representations: CCA, CKA and their relatives.

Two layers need one function, such as `cka(x, y)`. Two networks need `matrix`, which
prepares each layer once. This is what it does for a map and a layer of units each:

>>> import jax
>>> from kd_heuristics.similarity import comparing, layers, slots
>>> from kd_heuristics.similarity.measure import Measure
>>> maps = jax.random.normal(jax.random.key(0), (50, 4, 4, 3))
>>> a = [maps, maps.reshape(50, -1)[:, :8]]
>>> b = [2 * maps, maps[:, 0, 0]]

The layout decides from shapes alone what is compared. With "mean" each layer is one
slot [n, units]. Slots of one width are stacked, and so are the pairs of slots:

>>> layout = slots.make(tuple(x.shape for x in a), tuple(x.shape for x in b), "mean")
>>> [group.layers.tolist() for group in layout.groups_a]  # 3 channels, 8 units
[[0], [1]]
>>> [group.layers.tolist() for group in layout.groups_b]  # both of 3
[[0, 1]]

Each slot becomes a factor: an orthonormal basis for CCA, the scaled layer for CKA. The
product of two factors gives the similarity:

>>> kind = Measure(name="cca")
>>> layout, stacks_a, stacks_b = layers.prepared(a, b, kind, "mean")
>>> [stack.factor.shape for stack in stacks_a]
[(1, 50, 3), (1, 50, 8)]
>>> value, report = comparing.all_pairs(kind, layout, stacks_a, stacks_b, 50)
>>> value.shape, float(value[0, 0].round(4))
((2, 2), 1.0)

`permutation_test` repeats the last step for each order of the second network's
examples. An `Accumulator` keeps moments and makes factors from them.

Read first: `measure` (what can be asked), `slots` (what is compared), `factors` (how a
layer is prepared and compared), `layers` (the whole call). Then `positions` (treatments
of maps), `algebra` and `kernels` (the mathematics), and `accumulation` (streaming).
"""

from kd_heuristics.similarity.activations import capture
from kd_heuristics.similarity.calls import SaturationWarning
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
