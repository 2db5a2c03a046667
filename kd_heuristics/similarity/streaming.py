"""Similarity maps batch by batch, in memory independent of the number of examples."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.runtime import compiled
from kd_heuristics.similarity import (
    accumulation,
    calls,
    layers,
    moments,
    positions,
    slots,
)
from kd_heuristics.similarity.measure import Measure

Shapes = slots.Shapes


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["count", "side_a", "side_b", "pairs"],
    meta_fields=["names_a", "names_b", "shapes_a", "shapes_b", "conv", "higher"],
)
@dataclasses.dataclass(frozen=True)
class Accumulator:
    """Second moments of every layer and every pair of layers so far.

    The measure is chosen at the end. cca, svcca, pwcca, cka, google_cca and procrustes
    all come from the same moments; with spectra, each of them for each frequency.
    Memory is that of the covariances, for any number of examples: units^2 for a layer
    and p q for a pair (times the frequencies of spectra).

    Moments are kept about the mean, of activations minus one of the examples, so a
    large mean costs no precision. Squares hold half the digits: in float32 a direction
    below 0.2 % of the largest counts as absent, whereas `matrix` resolves directions
    down to 0.02 %. With jax's x64 mode, `dtype=jnp.float64` avoids this.

    An accumulator is a pytree and passes through jit, scan and checkpoints. All methods
    return a new one.

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
    side_a: accumulation.NetworkMoments
    side_b: accumulation.NetworkMoments | None
    pairs: tuple[moments.Moments, ...]
    names_a: tuple[str, ...]
    names_b: tuple[str, ...] | None
    shapes_a: Shapes
    shapes_b: Shapes | None
    conv: str
    higher: bool

    @staticmethod
    @calls.own_rules()
    def init(
        acts_a: layers.Activations | Any,
        acts_b: layers.Activations | Any | None = None,
        *,
        conv: str = "auto",
        debiased: bool = False,
        dtype: Any = None,
    ) -> "Accumulator":
        """An empty accumulator for layers of these shapes.

        Args:
          acts_a: layer name -> activations, or shapes from `jax.eval_shape`; the
            number of examples is ignored. One array instead of a dictionary gives
            scalar results.
          acts_b: those of the other network; `None` compares `acts_a` with itself.
          conv: "auto", "dft", "positions" or "mean", as in `matrix`.
          debiased: keep what debiased cka needs; this doubles the memory of spectra.
          dtype: real type of the moments; `None` takes that of the activations, at
            least float32.

        Raises: ValueError as `matrix` does, and for complex layers.
        """
        positions.check_treatment(conv)
        names_a, shapes_a, kind_a = _described("acts_a", acts_a)
        names_b, shapes_b, kind_b = None, None, kind_a
        if acts_b is not None:
            names_b, shapes_b, kind_b = _described("acts_b", acts_b)
        real = jnp.result_type(kind_a, kind_b) if dtype is None else jnp.dtype(dtype)
        layout = slots.make(shapes_a, shapes_b, conv)
        how = conv, real, debiased
        side_a, side_b = accumulation.empty(layout.groups_a, shapes_a, *how), None
        if shapes_b is not None:
            side_b = accumulation.empty(layout.groups_b, shapes_b, *how)
        pairs = accumulation.empty_pairs(layout, side_a, side_b or side_a, debiased)
        count = jnp.zeros((), jnp.int32)
        static = names_a, names_b, shapes_a, shapes_b, conv, debiased
        return Accumulator(count, side_a, side_b, pairs, *static)

    @calls.own_rules()
    def update(
        self,
        acts_a: layers.Activations | Any,
        acts_b: layers.Activations | Any | None = None,
        mask: Any = None,
    ) -> "Accumulator":
        """Add a batch.

        Under `jax.jit` the batch may be sharded over devices; the sums then cover the
        global batch.

        Args:
          acts_a: as given to `init`, with any number of examples.
          acts_b: as given to `init`, of the same examples.
          mask: bool [examples], false for padding rows; `None` counts all.

        Raises:
          ValueError: other layers or shapes than at `init`; integers; NaN or infinity
          in a row that counts (traced updates leave this to `result`).
        """
        a = self._arrays("acts_a", acts_a, self.names_a, self.shapes_a)
        b = None
        if self.names_b is not None:
            b = self._arrays("acts_b", acts_b, self.names_b, self.shapes_b)
        calls.same_examples(a | (b or {}))
        if mask is None:
            mask = jnp.ones(len(next(iter(a.values()))), bool)
        mask = jnp.asarray(mask, bool)
        values = list(a.values()), None if b is None else list(b.values())
        (new, finite), known = calls.run(accumulation.updated, self, *values, mask)
        if known:
            calls.require_finite([*a, *(b or {})], jax.device_get(finite))
        return new

    def merge(self, other: "Accumulator") -> "Accumulator":
        """The accumulator of the examples of both, in any order.

        Raises: ValueError if the other one has other layers or settings.
        """
        if jax.tree.structure(self) != jax.tree.structure(other):
            raise ValueError(
                "cannot merge accumulators of different layers or settings: "
                f"{self.names_a}, {self.names_b}, conv={self.conv!r} and "
                f"{other.names_a}, {other.names_b}, conv={other.conv!r}"
            )
        return calls.run(accumulation.merged, self, other)[0]

    def merge_over(self, axis_name: str) -> "Accumulator":
        """Merge the accumulators of all devices of a mapped axis (`shard_map`)."""
        everyone = jax.lax.all_gather(self, axis_name)
        return calls.run(accumulation.folded, everyone)[0]

    def merge_hosts(self) -> "Accumulator":
        """Merge the accumulators of all processes; each process gets the result.

        Use it if every process added its own examples. All processes must call it.
        Arrays sharded over all hosts do not need it.
        """
        from jax.experimental import multihost_utils

        if jax.process_count() == 1:
            return self
        everyone = multihost_utils.process_allgather(self)
        return calls.run(accumulation.folded, everyone)[0]

    def result(
        self,
        measure: str = "svcca",
        *,
        mesh: jax.sharding.Mesh | None = None,
        **options: Any,
    ) -> jax.Array:
        """The similarity map of the examples so far.

        Args:
          measure: as in `matrix`.
          mesh: devices that share the layers and pairs; each needs the accumulator
            (`parallel.replicate`, or as `stream` leaves it). `None` leaves it where
            it is.
          **options: `variance`, `directions`, `debiased`, `epsilon`, as in `matrix`.

        Returns: float [layers_a, layers_b]; a scalar if `init` got arrays.

        Raises:
          ValueError: an unknown measure; knn and rsa, which need the examples; debiased
          cka without `debiased=True` at `init`; fewer than two examples; NaN (traced
          results are NaN for layers that held NaN or infinity).

        Warns: `SaturationWarning`, as `matrix` does.
        """
        kind = Measure(name=measure, **options)
        calls.only_moments(kind)
        if kind.name == "cka" and kind.debiased and not self.higher:
            raise ValueError(
                "debiased cka needs more than second moments: give debiased=True to "
                "Accumulator.init too"
            )
        if not compiled.traced(self):
            calls.enough_examples(kind, int(self.count))
        program = partial(accumulation.result, kind=kind, mesh=mesh)
        (value, report), known = calls.run(program, self)
        if known:
            calls.look(jax.device_get(report), self._labels(), kind.saturates, 3)
        return value[0, 0] if self.names_a == ("",) else value

    @property
    def layout(self) -> slots.Layout:
        """What is compared."""
        return slots.make(self.shapes_a, self.shapes_b, self.conv)

    def _labels(self):
        """Names of both sides' layers, as messages show them."""
        a = [_label("acts_a", name) for name in self.names_a]
        b = [_label("acts_b", name) for name in self.names_b or ()]
        return a, b or a

    def _arrays(self, argument, acts, names, shapes):
        """Label -> array, checked against what `init` got."""
        items = _items(acts)
        # jit sorts dictionaries: restore the order of `init`.
        acts = {name: items[name] for name in names if name in items}
        acts = acts if len(acts) == len(items) else items
        acts = {k: calls.as_array(_label(argument, k), v) for k, v in acts.items()}
        found, new, _ = _described(argument, acts)
        if (found, new) != (names, shapes):
            wanted = dict(zip(names, (s[1:] for s in shapes), strict=True))
            got = dict(zip(found, (s[1:] for s in new), strict=True))
            raise ValueError(
                f"{argument} differs from what init was given: {got}, wanted {wanted}"
            )
        dtype = self.side_a.shifts[0].dtype
        return {
            _label(argument, name): jnp.asarray(array).astype(dtype)
            for name, array in acts.items()
        }


def _items(acts):
    """A dictionary as it is, one array under the empty name."""
    return acts if isinstance(acts, Mapping) else {"": acts}


def _label(argument, name):
    return f"{argument}[{name!r}]" if name else argument


def _described(argument, acts):
    """Names, shapes (with 1 for the number of examples), and the real dtype."""
    if not (items := _items(acts)):
        raise ValueError(f"{argument} holds no layer")
    items = {k: calls.as_array(_label(argument, k), v) for k, v in items.items()}
    for name, array in items.items():
        calls.check_layout(_label(argument, name), array)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise ValueError(
                f"{_label(argument, name)} is complex: not supported batch by batch; "
                "take matrix, which holds all examples"
            )
    shapes = tuple((1, *array.shape[1:]) for array in items.values())
    # NumPy's float64 is float32 to jax unless x64 is on.
    dtypes = [jax.dtypes.canonicalize_dtype(array.dtype) for array in items.values()]
    return tuple(items), shapes, jnp.result_type(jnp.float32, *dtypes)
