"""Whether two layers share anything: the same measure of permuted examples."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime.values import integer
from kd_heuristics.similarity import (
    calls,
    checks,
    comparing,
    floor,
    kernels,
    layers,
    plan,
    views,
)
from kd_heuristics.similarity.measure import Layer, Measure

# Elements of all n x n matrices that CKA may take instead of the layers: 1 GiB.
_MOST_ELEMENTS = 2**28


class Tested(NamedTuple):
    """Of two layers scalars, of two networks [layers_a, layers_b]."""

    value: jax.Array  # the measure
    calibrated: jax.Array  # 0 at the mean of the null, 1 for identical layers
    p_value: jax.Array  # of a map: corrected for the number of its pairs


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
    """A measure beside its null: what it gives where the layers share nothing.

    The null is the measure of `x` and of `y` with its examples permuted, which keeps
    each layer's width, spectrum and the positions of each map, and removes what the
    layers share. With v the value and v_i those of the permutations,

      calibrated = (v - mean(v_i)) / (1 - mean(v_i))
      p_value    = (1 + #{v_i >= v}) / (1 + num_permutations)

    (Groeger et al. 2026, who subtract the null's upper quantile in place of its mean;
    Phipson and Smyth 2010). Of a map, v is how many standard deviations of its pair's
    null a value lies above the mean, and v_i the largest of all pairs: under p_value
    <= alpha, the chance that any pair of unrelated layers is called related is alpha
    (Westfall and Young 1993).

    Each layer is decomposed once; a permutation costs the products, and for the
    measures of the CCA family and procrustes the singular values of each pair.

    Permutations suppose that the examples may be exchanged. Frames of one video or
    tokens of one text may not: average them, or take one of each.

    Args:
      x: [examples, units]; or a dictionary of layers as of `matrix`.
      y: as x, of the same examples. None with a dictionary: x against itself.
      measure: as of `matrix`; "debiased_cka" among them.
      num_permutations: at least 1 / alpha - 1, or no p-value could be below alpha.
      key: jax.random.key of the permutations.
      conv: as of `matrix`, for layers with positions.
      alpha: level at which p-values will be judged.
      **options: of the measure, as of `matrix`.

    Returns: (value, calibrated, p_value).

    Raises: ValueError, as `matrix`; for too few permutations.

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
    views.check_treatment(conv)
    several = isinstance(x, Mapping)
    if several != (isinstance(y, Mapping) or (several and y is None)):
        raise TypeError("x and y must both be arrays or both dictionaries of arrays")
    named_a = _named("x", x)
    named_b = None if y is None else _named("y", y)
    every = checks.activations(named_a | (named_b or {}))
    a = [every[name] for name in named_a]
    b = None if named_b is None else [every[name] for name in named_b]
    of_examples = _fewer_operations(a, b or a, conv)
    kind = Measure(name=measure, of_examples=of_examples, **options)
    examples = len(a[0])
    if conv == "positions":
        examples *= plan.fewest_positions(x.shape for x in every.values())
    checks.enough_examples(kind, examples)
    program = partial(_program, count=num_permutations, kind=kind, conv=conv)
    (found, report), known = calls.run(program, a, b, key)
    if known:
        names = list(named_a), list(named_b or named_a)
        checks.look(jax.device_get(report), names, False, 3)
    return found if several else Tested(*(part[0, 0] for part in found))


def _named(argument, layers):
    if not isinstance(layers, Mapping):
        return {argument: layers}
    if not layers:
        raise ValueError(f"{argument} holds no layer")
    return {f"{argument}[{name!r}]": array for name, array in layers.items()}


def _fewer_operations(a, b, conv):
    """Whether CKA of permuted n x n matrices costs less than of the layers.

    Of each second layer n^2 entries move, as slow as 100 operations of a product each;
    else each pair costs a product of n p q.
    """
    if any(views.treatment(x.shape, conv) not in ("mean", "none") for x in (*a, *b)):
        return False
    n = len(a[0])
    units = sum(x.shape[-1] for x in a) * sum(x.shape[-1] for x in b)
    return 100 * n * len(b) < units and n**2 * (len(a) + len(b)) <= _MOST_ELEMENTS


@partial(jax.jit, static_argnames=("count", "kind", "conv"))
def _program(a, b, key, count, kind, conv):
    layout, stacks_a, stacks_b = layers.prepared(a, b, kind, conv)
    examples = len(a[0])

    def compare(stacks):
        return comparing.all_pairs(kind, layout, stacks_a, stacks, examples)

    def one(key):
        order = jax.random.permutation(key, examples)
        sizes = layout.side_b.multiplicity
        groups = zip(stacks_b, sizes, strict=True)
        return compare([_permuted(stack, order, n, kind) for stack, n in groups])[0]

    value, report = compare(stacks_b)
    null = jax.lax.map(one, jax.random.split(key, count))
    return _tested(value, null), report


def _permuted(stack: Layer, order: jax.Array, positions: int, kind: Measure) -> Layer:
    """A stack of layers, its examples in another order; their positions stay."""
    rows = order[:, None] * positions + jnp.arange(positions)[None, :]
    rows = rows.reshape(-1)
    if kind.by_examples:
        return stack._replace(factor=kernels.permuted(stack.factor, rows))
    norms = None if stack.norms is None else jnp.take(stack.norms, rows, axis=1)
    return stack._replace(factor=jnp.take(stack.factor, rows, axis=1), norms=norms)


def _tested(value, null) -> Tested:
    eps = jnp.finfo(value.dtype).eps
    mean = jnp.mean(null, axis=0)
    # Where all permutations give 1, so does the value, and it says nothing.
    mean = jnp.where(mean > 1 - 64 * eps, 1, mean)
    every = jnp.concatenate([value[None], null])
    # Equal values differ by rounding, by more where the sums are long.
    spread = jnp.maximum(jnp.std(every, axis=0), 32 * eps)
    score = (every - jnp.mean(every, axis=0)[None]) / spread[None]
    highest = jnp.max(jnp.where(jnp.isnan(score), -jnp.inf, score), axis=(1, 2))
    reached = highest[:, None, None] >= (score[0] - 8 * eps / spread)[None]
    p_value = jnp.where(jnp.isnan(value), jnp.nan, jnp.mean(reached, axis=0))
    return Tested(value, floor.above_floor(value, mean), p_value.astype(value.dtype))
