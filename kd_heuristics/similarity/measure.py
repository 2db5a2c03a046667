"""What a measure is called, its options, and what it keeps of a layer."""

import dataclasses
from typing import Any, Literal, NamedTuple, SupportsFloat, SupportsIndex, get_args

import jax

from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity import bases

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


def one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    """Raise ValueError for a value that is not known."""
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure with its options; each option serves the measure named with it.

    Attributes:
      name: one of `NAMES`; "debiased_cka" is "cka" with `debiased`.
      variance: svcca: share of variance that the kept directions hold, in (0, 1].
      directions: svcca: number of directions kept, instead of a share.
      debiased: cka: the debiased estimator.
      epsilon: google_cca: ridge, relative to the largest covariance; at least 0.
      k: knn: number of neighbours, at least 1.
      distance: knn: "cosine" or "euclidean"; rsa: "correlation" or "euclidean";
        None: the first.
      correlation: rsa: "spearman" or "pearson".
      of_examples: cka: from n x n matrices, which a permutation test permutes.

    Raises: ValueError for an unknown name (the nearest is given) or option value.
    """

    name: str
    variance: SupportsFloat = 0.99
    directions: SupportsIndex | None = None
    debiased: bool = False
    epsilon: SupportsFloat = 1e-6
    k: SupportsIndex = 10
    distance: str | None = None
    correlation: str = "spearman"
    of_examples: bool = False

    def __post_init__(self):
        """Check the options."""
        if self.name not in NAMES:
            near = nearest.nearest(str(self.name), NAMES)
            raise ValueError(
                f"unknown measure {self.name!r}: "
                + (f"did you mean {near!r}? " if near else "")
                + f"There are {', '.join(NAMES)}; for CCA per frequency take "
                "conv='dft' beside the measure"
            )
        variance, epsilon = float(self.variance), float(self.epsilon)
        object.__setattr__(self, "variance", variance)
        object.__setattr__(self, "epsilon", epsilon)
        if not 0 < variance <= 1:
            raise ValueError(
                f"variance must lie in (0, 1], got {self.variance}; for a number of "
                "directions use directions="
            )
        if self.directions is not None:
            directions = integer("directions", self.directions, 1)
            object.__setattr__(self, "directions", directions)
        if not epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0, got {self.epsilon}")
        object.__setattr__(self, "k", integer("k", self.k, 1))
        if self.name == "debiased_cka":
            object.__setattr__(self, "name", "cka")
            object.__setattr__(self, "debiased", True)
        if self.name in _DISTANCES:
            known = _DISTANCES[self.name]
            object.__setattr__(self, "distance", self.distance or known[0])
            one_of(f"distance of {self.name}", self.distance, known)
        one_of("correlation", self.correlation, ("spearman", "pearson"))

    @property
    def symmetric(self) -> bool:
        """Whether exchanging the two layers leaves the value as it is."""
        return self.name != "pwcca"

    @property
    def saturates(self) -> bool:
        """Whether too few examples push the value to 1."""
        return self.name in _OF_CCA

    @property
    def by_examples(self) -> bool:
        """Whether a layer is prepared as an n x n matrix of its examples."""
        return self.name in _DISTANCES or (self.name == "cka" and self.of_examples)

    @property
    def streams(self) -> bool:
        """Whether second moments are all that the measure needs."""
        return self.name not in _DISTANCES

    @property
    def keep(self) -> bases.Keep:
        """The directions of a layer that take part."""
        if self.name != "svcca":
            return bases.Keep()
        if self.directions is not None:
            return bases.Keep(directions=int(self.directions))
        return bases.Keep(variance=float(self.variance))


# The distances between examples of which a measure takes one.
_DISTANCES = {"knn": ("cosine", "euclidean"), "rsa": ("correlation", "euclidean")}


class Layer(NamedTuple):
    """A layer as a measure needs it. Unused fields are None."""

    finite: jax.Array  # false where the layer held NaN or infinity; it is then 0
    # [n, k] from examples; [units, k] from second moments; [n * n, 1] by examples,
    # of a stack [n * n, layers].
    factor: jax.Array
    rank: jax.Array  # directions that take part, a float scalar
    size: jax.Array  # directions that the mean counts, a float scalar
    loadings: Any = None  # pwcca: units in the basis [k, units]
    norms: Any = None  # debiased cka: squared norm of each example [n]
    trace: Any = None  # debiased cka: their sum
    count: Any = None  # debiased cka: number of examples
    spread: Any = None  # debiased cka: the layer against itself
    unit: Any = None  # debiased cka, streamed: squared scale of factor
