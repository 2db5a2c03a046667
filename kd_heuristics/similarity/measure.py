"""What a measure is called, its options, and what it keeps of a layer."""

import dataclasses
import difflib
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax

from kd_heuristics.integers import integer
from kd_heuristics.similarity import bases

NAMES = ("cca", "svcca", "pwcca", "cka", "google_cca")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure with its options; each option serves the measure named with it.

    Attributes:
      name: "cca", "svcca", "pwcca", "cka" or "google_cca".
      variance: svcca: share of variance that the kept directions hold, in (0, 1].
      directions: svcca: number of directions kept, instead of a share.
      debiased: cka: the debiased estimator.
      epsilon: google_cca: ridge, relative to the largest covariance; at least 0.

    Raises: ValueError for an unknown name (the nearest is given) or option value.
    """

    name: str
    variance: SupportsFloat = 0.99
    directions: SupportsIndex | None = None
    debiased: bool = False
    epsilon: SupportsFloat = 1e-6

    def __post_init__(self):
        """Check the options."""
        if self.name not in NAMES:
            near = difflib.get_close_matches(str(self.name), NAMES, 1, cutoff=0.4)
            raise ValueError(
                f"unknown measure {self.name!r}: "
                + (f"did you mean {near[0]!r}? " if near else "")
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

    @property
    def symmetric(self) -> bool:
        """Whether exchanging the two layers leaves the value as it is."""
        return self.name != "pwcca"

    @property
    def saturates(self) -> bool:
        """Whether too few examples push the value to 1."""
        return self.name != "cka"

    @property
    def keep(self) -> bases.Keep:
        """The directions of a layer that take part."""
        if self.name != "svcca":
            return bases.Keep()
        if self.directions is not None:
            return bases.Keep(directions=int(self.directions))
        return bases.Keep(variance=float(self.variance))


class Layer(NamedTuple):
    """A layer as a measure needs it. Unused fields are None."""

    finite: jax.Array  # false where the layer held NaN or infinity; it is then 0
    factor: jax.Array  # [n, k] from examples; [units, k] from second moments
    rank: jax.Array  # directions that take part, a float scalar
    size: jax.Array  # directions that the mean counts, a float scalar
    loadings: Any = None  # pwcca: units in the basis [k, units]
    norms: Any = None  # debiased cka: squared norm of each example [n]
    trace: Any = None  # debiased cka: their sum
    count: Any = None  # debiased cka: number of examples
    spread: Any = None  # debiased cka: the layer against itself
    unit: Any = None  # debiased cka, streamed: squared scale of factor
