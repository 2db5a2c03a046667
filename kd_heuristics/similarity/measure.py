"""A measure with its options, and what it keeps of a layer."""

import dataclasses
from typing import Any, Literal, NamedTuple, SupportsFloat, SupportsIndex, get_args

import jax

from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity.algebra import Keep

Name = Literal[
    "cca",
    "svcca",
    "pwcca",
    "cka",
    "debiased_cka",
    "google_cca",
    "procrustes",
    "knn",
    "rsa",
]
NAMES: tuple[str, ...] = get_args(Name)
_OF_CCA = ("cca", "svcca", "pwcca", "google_cca")
# Distances between examples that a measure knows; the first is the default.
_DISTANCES = {"knn": ("cosine", "euclidean"), "rsa": ("correlation", "euclidean")}


@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class Measure:
    """One measure with its options; each option belongs to the measure it starts with.

    Attributes:
      name: one of `NAMES`; "debiased_cka" becomes "cka" with `debiased`.
      variance: svcca: share of variance that the kept directions hold, in (0, 1].
      directions: svcca: number of directions to keep, instead of a share.
      debiased: cka: use the debiased estimator.
      epsilon: google_cca: ridge relative to the largest covariance, at least 0.
      k: knn: number of neighbours, at least 1.
      distance: knn: "cosine" or "euclidean"; rsa: "correlation" or "euclidean".
        `None` takes the first.
      correlation: rsa: "spearman" or "pearson".
      of_examples: cka: compute from n x n matrices, which a permutation test permutes.

    Raises: ValueError for an unknown name (with the nearest one) or option value.
    """

    name: str
    variance: float
    directions: int | None
    debiased: bool
    epsilon: float
    k: int
    distance: str | None
    correlation: str
    of_examples: bool

    # The options with their defaults, as `matrix` has them for its callers' editors.
    def __init__(
        self,
        *,
        name: str,
        variance: SupportsFloat = 0.99,
        directions: SupportsIndex | None = None,
        debiased: bool = False,
        epsilon: SupportsFloat = 1e-6,
        k: SupportsIndex = 10,
        distance: str | None = None,
        correlation: str = "spearman",
        of_examples: bool = False,
    ):
        """Check the options and store them as plain numbers."""
        if name == "dft_cca":
            raise ValueError("measure='dft_cca': take measure='cca' with conv='dft'")
        nearest.choose(name, NAMES, "measure")
        if not 0 < float(variance) <= 1:
            raise ValueError(
                f"variance must lie in (0, 1], got {variance}; for a number of "
                "directions use directions="
            )
        if directions is not None:
            directions = integer("directions", directions, 1)
        if not float(epsilon) >= 0:
            raise ValueError(f"epsilon must be at least 0, got {epsilon}")
        if name in _DISTANCES:
            distance = distance or _DISTANCES[name][0]
            nearest.choose(distance, _DISTANCES[name], f"distance of {name}")
        nearest.choose(correlation, ("spearman", "pearson"), "correlation")
        values = {
            "name": "cka" if name == "debiased_cka" else name,
            "variance": float(variance),
            "directions": directions,
            "debiased": debiased or name == "debiased_cka",
            "epsilon": float(epsilon),
            "k": integer("k", k, 1),
            "distance": distance,
            "correlation": correlation,
            "of_examples": of_examples,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def symmetric(self) -> bool:
        """Whether exchanging the two layers leaves the value unchanged."""
        return self.name != "pwcca"

    @property
    def saturates(self) -> bool:
        """Whether too few examples push the value to 1."""
        return self.name in _OF_CCA

    @property
    def by_examples(self) -> bool:
        """Whether a layer becomes an n x n matrix over its examples."""
        return self.name in _DISTANCES or (self.name == "cka" and self.of_examples)

    @property
    def streams(self) -> bool:
        """Whether the measure can be computed from accumulated moments."""
        return self.name not in _DISTANCES

    @property
    def keep(self) -> Keep:
        """Directions of a layer that take part."""
        if self.name != "svcca":
            return Keep()
        if self.directions is not None:
            return Keep(directions=self.directions)
        return Keep(variance=self.variance)


class PreparedLayer(NamedTuple):
    """A layer as a measure needs it; unused fields are `None`."""

    finite: jax.Array  # false if the layer held NaN or infinity; its factor is then 0
    # From examples [n, k]; from second moments [units, k]; by examples [n * n, 1],
    # and [n * n, layers] for a stack.
    factor: jax.Array
    rank: jax.Array  # directions that take part, a float scalar
    size: jax.Array  # directions that the mean counts, a float scalar
    loadings: Any = None  # pwcca: units in the basis [k, units]
    norms: Any = None  # debiased cka: squared norm of each example [n]
    trace: Any = None  # debiased cka: sum of the squared norms
    count: Any = None  # debiased cka: number of examples
    spread: Any = None  # debiased cka: the layer's own HSIC
    unit: Any = None  # debiased cka, streamed: squared scale of the factor
