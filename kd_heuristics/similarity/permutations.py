"""Whether two layers share anything: the measure under permuted examples."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity import (
    calls,
    comparing,
    floor,
    kernels,
    layers,
    positions,
    slots,
)
from kd_heuristics.similarity.measure import Measure, PreparedLayer

# Elements of all n x n matrices that CKA may use instead of the layers: 1 GiB.
_MOST_ELEMENTS = 2**28


class Tested(NamedTuple):
    """Scalars for two layers, [layers_a, layers_b] for two networks."""

    value: jax.Array  # the measure
    calibrated: jax.Array  # 0 at the mean of the null, 1 for identical layers
    p_value: jax.Array  # for a map, corrected for the number of its pairs


def permutation_test(
    x: Any,
    y: Any,
    measure: str = "cka",
    num_permutations: SupportsIndex = 200,
    *,
    key: jax.Array,
    conv: str = "auto",
    alpha: SupportsFloat = 0.05,
    **options: Any,
) -> Tested:
    """A measure beside its null, the value for layers that share nothing.

    The null is the measure of `x` and of `y` with permuted examples. Permuting keeps
    each layer's width, spectrum and map positions, and removes what the layers share.
    With v the value and v_i those of the permutations,

      calibrated = (v - mean(v_i)) / (1 - mean(v_i))
      p_value    = (1 + #{v_i >= v}) / (1 + num_permutations)

    (Groeger et al. 2026, who subtract the null's upper quantile in place of its mean;
    Phipson and Smyth 2010). For a map, v counts by how many standard deviations of its
    pair's null a value exceeds the mean, and v_i is the largest over all pairs. Judging
    by p_value <= alpha then calls any pair of unrelated layers related with probability
    alpha (Westfall and Young 1993).

    Each layer is decomposed once. A permutation costs the products, and for the CCA
    family and procrustes also the singular values of each pair.

    The test assumes exchangeable examples. Frames of one video or tokens of one text
    are not: average them, or take one of each.

    Args:
      x: [examples, units]; or a dictionary of layers as in `matrix`.
      y: like x, of the same examples. `None` compares a dictionary x with itself.
      measure: as in `matrix`, including "debiased_cka".
      num_permutations: at least 1 / alpha - 1, else no p-value could fall below alpha.
      key: jax.random.key for the permutations.
      conv: as in `matrix`, for layers with positions.
      alpha: level at which p-values will be judged.
      **options: options of the measure, as in `matrix`.

    Returns: (value, calibrated, p_value).

    Raises: ValueError as `matrix` does, and for too few permutations; TypeError unless
    x and y are both arrays or both dictionaries.

    >>> x, y = jax.random.normal(jax.random.key(0), (2, 100, 30))
    >>> same = permutation_test(x, x + y, key=jax.random.key(1))
    >>> apart = permutation_test(x, y, key=jax.random.key(1))
    >>> float(apart.value) > 0.2, abs(float(apart.calibrated)) < 0.05
    (True, True)
    >>> round(float(same.p_value), 3), float(apart.p_value) > 0.05
    (0.005, True)
    """
    num_permutations = integer("num_permutations", num_permutations)
    alpha = float(alpha)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    if num_permutations < (least := int(np.ceil(1 / alpha - 1 - 1e-9))):
        raise ValueError(
            f"no p-value of num_permutations={num_permutations} can be below "
            f"alpha={alpha:g}: take at least {least}, better 10 times as many"
        )
    positions.check_treatment(conv)
    several = isinstance(x, Mapping)
    if several != (isinstance(y, Mapping) or (several and y is None)):
        raise TypeError("x and y must both be arrays or both dictionaries of arrays")
    named_a = calls.labelled("x", x) if several else {"x": x}
    named_b = None
    if y is not None:
        named_b = calls.labelled("y", y) if several else {"y": y}
    every = calls.activations(named_a | (named_b or {}))
    a = [every[name] for name in named_a]
    b = None if named_b is None else [every[name] for name in named_b]
    of_examples = _fewer_operations(a, b or a, conv)
    kind = Measure(name=measure, of_examples=of_examples, **options)
    examples = len(a[0])
    if conv == "positions":
        examples *= slots.fewest_positions(x.shape for x in every.values())
    calls.enough_examples(kind, examples)
    program = partial(_program, count=num_permutations, kind=kind, conv=conv)
    (found, report), known = calls.run(program, a, b, key)
    if known:
        names = list(named_a), list(named_b or named_a)
        calls.look(jax.device_get(report), names, False, 3)
    return found if several else Tested(*(part[0, 0] for part in found))


def _fewer_operations(a, b, conv):
    """Whether CKA costs less for permuted n x n matrices than for permuted layers.

    Matrices move n^2 entries of each second layer, each as slow as 100 operations of a
    product. Layers cost a product of n p q operations for each pair.
    """
    if any(
        positions.treatment(x.shape, conv) not in ("mean", "none") for x in (*a, *b)
    ):
        return False
    n = len(a[0])
    units = sum(x.shape[-1] for x in a) * sum(x.shape[-1] for x in b)
    return 100 * n * len(b) < units and n**2 * (len(a) + len(b)) <= _MOST_ELEMENTS


@partial(jax.jit, static_argnames=("count", "kind", "conv"))
def _program(a, b, key, count, kind, conv):
    """The tested map and its report; layers are prepared outside the permutations."""
    layout, stacks_a, stacks_b = layers.prepared(a, b, kind, conv)
    examples = len(a[0])

    def compare(stacks):
        return comparing.all_pairs(kind, layout, stacks_a, stacks, examples)

    def one(key):
        order = jax.random.permutation(key, examples)
        groups = zip(stacks_b, layout.groups_b, strict=True)
        stacks = [_permuted(s, order, g.multiplicity, kind) for s, g in groups]
        return compare(stacks)[0]

    value, report = compare(stacks_b)
    null = jax.lax.map(one, jax.random.split(key, count))
    return _tested(value, null), report


def _permuted(
    stack: PreparedLayer, order: jax.Array, multiplicity: int, kind: Measure
) -> PreparedLayer:
    """A stack of layers with its examples in another order; positions stay."""
    rows = order[:, None] * multiplicity + jnp.arange(multiplicity)[None, :]
    rows = rows.reshape(-1)
    if kind.by_examples:
        return stack._replace(factor=kernels.permuted(stack.factor, rows))
    norms = None if stack.norms is None else jnp.take(stack.norms, rows, axis=1)
    return stack._replace(factor=jnp.take(stack.factor, rows, axis=1), norms=norms)


def _tested(value, null) -> Tested:
    """Calibrate a map by the maps under permutations [permutations, ...]."""
    eps = jnp.finfo(value.dtype).eps
    mean = jnp.mean(null, axis=0)
    # If all permutations give 1, the value is 1 too and means nothing.
    mean = jnp.where(mean > 1 - 64 * eps, 1, mean)
    every = jnp.concatenate([value[None], null])
    # Equal values differ by rounding, and by more for long sums.
    spread = jnp.maximum(jnp.std(every, axis=0), 32 * eps)
    score = (every - jnp.mean(every, axis=0)[None]) / spread[None]
    highest = jnp.max(jnp.where(jnp.isnan(score), -jnp.inf, score), axis=(1, 2))
    reached = highest[:, None, None] >= (score[0] - 8 * eps / spread)[None]
    p_value = jnp.where(jnp.isnan(value), jnp.nan, jnp.mean(reached, axis=0))
    return Tested(value, floor.above_floor(value, mean), p_value.astype(value.dtype))
