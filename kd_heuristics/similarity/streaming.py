"""Similarity maps batch by batch, in memory that does not grow with the examples."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import (
    checks,
    comparing,
    layers,
    measures,
    moments,
    plan,
    sides,
    views,
)
from kd_heuristics.similarity.batching import mapped
from kd_heuristics.similarity.measure import Measure

Shapes = plan.Shapes


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "side_a", "side_b", "pairs"],
    meta_fields=["names_a", "names_b", "shapes_a", "shapes_b", "conv", "higher"],
)
@dataclasses.dataclass(frozen=True)
class Accumulator:
    """Second moments of every layer and every pair of layers, so far.

    The measure is chosen at the end: cca, svcca, pwcca, cka, google_cca, and with
    conv="dft" each of them per frequency, all come from the same moments. Memory is
    that of the covariances: units^2 a layer and p q a pair (times the frequencies with
    conv="dft"), whatever the number of examples.

    Moments are kept about the mean, of activations less one of the examples, so that
    a large mean costs no precision. Squares hold half the digits: in float32 a
    direction under about 1 % of the largest counts as absent, where `matrix` tells
    directions apart down to 0.02 %. With jax's x64 mode, `dtype=jnp.float64` lifts this.

    A pytree: it goes through jit, scan and checkpoints. All methods return a new one.

      acc = Accumulator.init(features(batch), other_features(batch))
      for batch in batches:
          acc = acc.update(features(batch), other_features(batch))
      acc.result("svcca")

    >>> x = jax.random.normal(jax.random.key(0), (90, 3))
    >>> acc = Accumulator.init({"fc": x})
    >>> for batch in jnp.split(x, 3):
    ...     acc = acc.update({"fc": batch})
    >>> acc.count.item(), round(float(acc.result("cca")[0, 0]), 4)
    (90, 1.0)
    """

    count: jax.Array
    side_a: sides.Side
    side_b: sides.Side | None
    pairs: tuple[moments.Moments, ...]
    names_a: tuple[str, ...]
    names_b: tuple[str, ...] | None
    shapes_a: Shapes
    shapes_b: Shapes | None
    conv: str
    higher: bool

    @staticmethod
    def init(
        acts_a: layers.Activations | Any,
        acts_b: layers.Activations | Any | None = None,
        *,
        conv: str = "dft",
        debiased: bool = False,
        dtype: Any = None,
    ) -> "Accumulator":
        """An empty accumulator for layers of these shapes.

        Args:
          acts_a: layer name -> activations, or shapes as of `jax.eval_shape`; the
            number of examples does not matter. One array instead of a dictionary
            gives scalar results.
          acts_b: those of the other network. None: `acts_a` against itself.
          conv: "dft", "positions" or "mean", as in `matrix`.
          debiased: keep what debiased cka needs; not with conv="dft" on maps, whose
            spectra are complex (`matrix` does these).
          dtype: real type of the moments; None: that of the activations, at least
            float32.

        Raises: ValueError, as `matrix`; for `debiased` on spectra.
        """
        views.check_treatment(conv)
        names_a, shapes_a, kind_a = _described("acts_a", acts_a)
        names_b, shapes_b, kind_b = None, None, kind_a
        if acts_b is not None:
            names_b, shapes_b, kind_b = _described("acts_b", acts_b)
        real = jnp.result_type(kind_a, kind_b) if dtype is None else jnp.dtype(dtype)
        layout = plan.make(shapes_a, shapes_b, conv)
        how = conv, real, debiased
        side_a, side_b = sides.empty_side(layout.side_a, shapes_a, *how), None
        if shapes_b is not None:
            side_b = sides.empty_side(layout.side_b, shapes_b, *how)
        pairs = sides.empty_pairs(layout, side_a, side_b or side_a, debiased)
        count = jnp.zeros((), jnp.int32)
        static = names_a, names_b, shapes_a, shapes_b, conv, debiased
        return Accumulator(count, side_a, side_b, pairs, *static)

    def update(
        self,
        acts_a: layers.Activations | Any,
        acts_b: layers.Activations | Any | None = None,
        mask: jax.Array | None = None,
    ) -> "Accumulator":
        """With one more batch.

        Under `jax.jit` the batch may be sharded over devices: the sums are then over
        the global batch.

        Args:
          acts_a: as given to `init`, with any number of examples.
          acts_b: as given to `init`, of the same examples.
          mask: bool [examples], false for rows that fill up a batch; None: all count.

        Raises:
          ValueError: other layers or shapes than at `init`; integers; NaN or infinity
          (where values are known; traced updates pass it on to `result`).
        """
        a = self._arrays("acts_a", acts_a, self.names_a, self.shapes_a)
        b = None
        if self.names_b is not None:
            b = self._arrays("acts_b", acts_b, self.names_b, self.shapes_b)
        checks.same_examples(a | (b or {}))
        if mask is None:
            mask = jnp.ones(len(next(iter(a.values()))), bool)
        values = list(a.values()), None if b is None else list(b.values())
        new, finite = _updated(self, *values, mask)
        if checks.all_concrete([*a.values(), *(b or {}).values(), mask]):
            checks.require_finite([*a, *(b or {})], jax.device_get(finite))
        return new

    def merge(self, other: "Accumulator") -> "Accumulator":
        """The accumulator of the examples of both; the order makes no difference.

        Raises: ValueError where the other one is of other layers or settings.
        """
        if jax.tree.structure(self) != jax.tree.structure(other):
            raise ValueError(
                "cannot merge accumulators of different layers or settings: "
                f"{self.names_a}, {self.names_b}, conv={self.conv!r} and "
                f"{other.names_a}, {other.names_b}, conv={other.conv!r}"
            )
        return _merged(self, other)

    def merge_over(self, axis_name: str) -> "Accumulator":
        """The merged accumulators of all devices of a mapped axis (`shard_map`)."""
        everyone = jax.lax.all_gather(self, axis_name)
        return _fold(everyone)

    def merge_hosts(self) -> "Accumulator":
        """The merged accumulators of all processes; each process gets it.

        For accumulators that every process fed with its own examples. All processes
        must call it. (Arrays sharded over all hosts need none of this.)
        """
        from jax.experimental import multihost_utils

        if jax.process_count() == 1:
            return self
        everyone = multihost_utils.process_allgather(self)
        return _fold(everyone)

    def result(self, measure: str = "svcca", **options: Any) -> jax.Array:
        """The similarity map of the examples so far.

        Args:
          measure: as in `matrix`.
          **options: `variance`, `directions`, `debiased`, `epsilon`, as in `matrix`.

        Returns: float [layers_a, layers_b]; a scalar where `init` got arrays.

        Raises:
          ValueError: an unknown measure; debiased cka without `debiased=True` at
          `init`; fewer than two examples or NaN (where values are known; traced
          results are NaN for layers that held NaN or infinity).

        Warns: `SaturationWarning`, as `matrix`.
        """
        kind = Measure(name=measure, **options)
        if kind.name == "cka" and kind.debiased and not self.higher:
            raise ValueError(
                "debiased cka needs more than second moments: give debiased=True to "
                "Accumulator.init too"
            )
        known = checks.all_concrete(jax.tree.leaves(self))
        if known:
            checks.enough_examples(kind, int(self.count))
        value, report = _result(self, kind)
        if known:
            report = jax.device_get(report)
            names = self._labels()
            for side, finite in zip(names, report.finite, strict=True):
                checks.require_finite(side, finite)
            if kind.saturates:
                found = [checks.saturated(*group) for group in report.pairs]
                flat = [pair for some in found for pair in some]
                checks.warn_saturated(flat, names, 3)
        return value[0, 0] if self.names_a == ("",) else value

    def _layout(self):
        return plan.make(self.shapes_a, self.shapes_b, self.conv)

    def _labels(self):
        a = [_label("acts_a", name) for name in self.names_a]
        b = [_label("acts_b", name) for name in self.names_b or ()]
        return a, b or a

    def _arrays(self, argument, acts, names, shapes):
        found, new, _ = _described(argument, acts)
        if (found, new) != (names, shapes):
            wanted = dict(zip(names, (s[1:] for s in shapes), strict=True))
            got = dict(zip(found, (s[1:] for s in new), strict=True))
            raise ValueError(
                f"{argument} differs from what init was given: {got}, wanted {wanted}"
            )
        return {
            _label(argument, name): jnp.asarray(array)
            for name, array in _items(acts).items()
        }


class Report(NamedTuple):
    """What calls with known values look at before they return."""

    finite: tuple[jax.Array, jax.Array]  # of each side [layers]
    pairs: comparing.Looked


@jax.jit
def _updated(acc, a, b, mask):
    layout = acc._layout()
    finite = jnp.stack(
        [jnp.all(jnp.isfinite(x)) for x in (*a, *(() if b is None else b))]
    )
    first = jnp.argmax(mask)

    def batch_side(one, side, arrays):
        # The first example ever seen is the shift, for good.
        shifts = tuple(
            jnp.where(acc.count > 0, old, views.shift(x, acc.conv, first))
            for old, x in zip(side.shifts, arrays, strict=True)
        )
        return sides.of_batch(one, arrays, shifts, mask, acc.conv, acc.higher)

    side_a, examples_a = batch_side(layout.side_a, acc.side_a, a)
    side_b, examples_b = None, examples_a
    if b is not None:
        side_b, examples_b = batch_side(layout.side_b, acc.side_b, b)
    pairs = sides.pairs_of_batch(layout, examples_a, examples_b, acc.higher)
    batch = dataclasses.replace(
        acc, count=jnp.sum(mask, dtype=jnp.int32), side_a=side_a, side_b=side_b,
        pairs=pairs,
    )  # fmt: skip
    return _merged(acc, batch), finite


@jax.jit
def _merged(one, other):
    layout = one._layout()
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1)
    both = [_aligned(layout, acc, one, other) for acc in (one, other)]
    means = tuple(
        tuple(
            p + (q - p) * share.astype(jnp.finfo(p.dtype).dtype)
            for p, q in zip(x.means, y.means, strict=True)
        )
        for x, y in zip(*both, strict=True)
    )
    moved = [
        sides.moved_to(layout, acc.count, pair, acc.pairs, means)
        for acc, pair in zip((one, other), both, strict=True)
    ]
    (own_a, own_b), pairs = jax.tree.map(jnp.add, *moved)
    side_a = sides.Side(both[0][0].shifts, means[0], own_a)
    side_b = sides.Side(both[0][1].shifts, means[1], own_b)
    if one.side_b is None:
        side_b = None
    return dataclasses.replace(
        one, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )


def _aligned(layout, acc, one, other):
    """Both sides of `acc` with the shift of `one`, or of `other` if `one` is empty."""

    def align(part, shapes, side, first, second):
        shifts = tuple(
            jnp.where(one.count > 0, p, q)
            for p, q in zip(first.shifts, second.shifts, strict=True)
        )
        return sides.shifted_to(part, side, shapes=shapes, shifts=shifts, conv=acc.conv)

    a = align(layout.side_a, acc.shapes_a, acc.side_a, one.side_a, other.side_a)
    if acc.side_b is None:
        return a, a
    return a, align(layout.side_b, acc.shapes_b, acc.side_b, one.side_b, other.side_b)


@partial(jax.jit, static_argnames="kind")
def _result(acc, kind):
    layout = acc._layout()
    stacks_a, finite_a = _prepared(acc, layout.side_a, acc.side_a, acc.shapes_a, kind)
    stacks_b, finite_b = stacks_a, finite_a
    if acc.side_b is not None:
        stacks_b, finite_b = _prepared(
            acc, layout.side_b, acc.side_b, acc.shapes_b, kind
        )
    finite = finite_a, finite_b
    value, looked = comparing.all_pairs(
        kind, layout, stacks_a, stacks_b, acc.count, finite, acc.pairs
    )
    return value, Report(finite, looked)


def _prepared(acc, layout, side, shapes, kind):
    levels = [views.level(shift) for shift in side.shifts]
    stacks, finite = [], jnp.ones(len(shapes), bool)
    for group, own in enumerate(side.own):
        of = layout.layers(group)
        good = jnp.all(jnp.isfinite(own.cross), axis=(1, 2))
        finite = finite.at[of].min(good)
        # Decompositions of NaN may not return; the map gets its NaN at the end.
        own = jax.tree.map(lambda x, good=good: _where_first(good, x), own)
        noise = jnp.stack([levels[layer] for layer in of])
        count = jnp.asarray(acc.count * layout.multiplicity[group], noise.dtype)

        def one(item, count=count):
            own, noise = item
            return measures.prepare_moments(kind, own.cross, noise, count, own.fourth)

        stacks.append(mapped(one, (own, noise), own.cross[0].size))
    return stacks, finite


def _where_first(good, x):
    return jnp.where(good.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def _fold(everyone):
    """One accumulator of those stacked along the first axis."""
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), everyone)
    rest = jax.tree.map(lambda leaf: jnp.asarray(leaf[1:]), everyone)
    return jax.lax.scan(lambda acc, one: (acc.merge(one), None), first, rest)[0]


def _items(acts):
    return acts if isinstance(acts, Mapping) else {"": acts}


def _label(argument, name):
    return f"{argument}[{name!r}]" if name else argument


def _described(argument, acts):
    """Names, shapes with 1 for the number of examples, and the real dtype."""
    if not (items := _items(acts)):
        raise ValueError(f"{argument} holds no layer")
    for name, array in items.items():
        checks.check_layout(_label(argument, name), array)
    shapes = tuple((1, *array.shape[1:]) for array in items.values())
    dtypes = [jnp.finfo(array.dtype).dtype for array in items.values()]
    return tuple(items), shapes, jnp.result_type(jnp.float32, *dtypes)
