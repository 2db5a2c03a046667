"""The alignment of one network with another."""

from typing import Any

import jax
import numpy as np

from kd_heuristics.alignment import activations, check, weights
from kd_heuristics.alignment.groups import Spec
from kd_heuristics.alignment.layout import Permutations
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import decompositions
from kd_heuristics.runtime.errors import InputError

PyTree = Any
METHODS = ("weights", "activations")


def align(
    a: PyTree,
    b: PyTree,
    spec: Spec,
    *,
    key: jax.Array,
    method: str = "weights",
    batches: PyTree = None,
) -> PyTree:
    """Returns network b with its units permuted onto those of a: the same function.

    The midpoint of a and the result then has a lower loss than that of a and b, if a
    permutation is all that parts them (Ainsworth et al. 2022, arXiv 2209.04836). Batch
    statistics move with their units. Between the two, statistics must be estimated anew
    (REPAIR: Jordan et al. 2022, arXiv 2211.08403), for instance by
    `points.refit_pooled`.

    Args:
      a: variables as given to `spec`, of any network of that form.
      b: variables of another.
      spec: of either; see `spec`.
      key: of the order in which groups are matched.
      method: "weights" maximises the inner product sum over leaves of <a, permuted b>
        over the parameters, by coordinate ascent, and needs no data. "activations"
        maximises the sum of correlations between units over `batches`, which is exact
        for each group by itself.
      batches: inputs [num_batches, batch, ...], for activations.

    Returns: a tree like b.

    Raises: ValueError if the networks differ in structure, width or type, a value is
      not finite, there is no group to permute, or the method has no or needless
      batches.

    >>> import jax.numpy as jnp
    >>> from kd_heuristics import alignment
    >>> def apply(w, x):
    ...     return jnp.tanh(x @ w["first"]) @ w["last"]
    >>> x, y = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[3.0, 1.0, 2.0]])
    >>> a, b = {"first": x, "last": x.T}, {"first": y, "last": y.T}
    >>> found = alignment.spec(apply, a, jnp.ones((2, 1)))
    >>> alignment.align(a, b, found, key=jax.random.key(0))["first"].tolist()
    [[1.0, 2.0, 3.0]]
    """
    found = match(a, b, spec, key=key, method=method, batches=batches)
    return spec.permute(b, found)


# It takes what `align` takes, which is this and a permutation.
def match(
    a: PyTree,
    b: PyTree,
    spec: Spec,
    *,
    key: jax.Array,
    method: str = "weights",
    batches: PyTree = None,
) -> Permutations:
    """Returns the permutations with which `align` permutes b, for `Spec.permute`.

    Args:
      a: as in `align`.
      b: as in `align`.
      spec: as in `align`.
      key: as in `align`.
      method: as in `align`.
      batches: as in `align`.

    Returns: by name, [units] or, of units within units, [units, units within].

    Raises: as `align`.
    """
    first, second = _checked(a, b, spec, method, batches)
    if method == "activations":
        return activations.match(a, b, spec, batches)
    words = np.asarray(jax.random.key_data(key)).ravel()
    random = np.random.default_rng([int(word) for word in words])
    with decompositions.one_thread():  # faster for matrices of this size
        return weights.match(first, second, spec, random)


def _checked(a, b, spec, method, batches) -> list[dict[str, Any]]:
    """Check all arguments before the work, and return the leaves by name."""
    if method not in METHODS:
        raise InputError(f"method must be one of {METHODS}, got {method!r}")
    if (batches is not None) != (method == "activations"):
        got = "none" if batches is None else "some"
        raise InputError(
            f"method {method!r} got {got} of the batches [num_batches, batch, ...]; "
            "activations need them, weights do not"
        )
    found = []
    for name, variables in (("a", a), ("b", b)):
        spec.check(variables, name)
        leaves = leaf_names.flat(variables)
        check.check_finite(leaves, name)
        found.append(leaves)
    if not spec.groups:
        raise InputError(
            "the spec has no group of units to permute; left alone were "
            f"{dict(spec.left_alone) or 'inputs, outputs and positions only'}"
        )
    return found
