"""How sharp the loss is along the first steps of each arm, beside the rate.

Gradient descent is unstable where the rate times the largest eigenvalue of the Hessian
is above 2 (with momentum m, above 2 (1 + m)). The rival explanation of warmup: it keeps
that product low while the network moves to where the loss is flatter (Gilmer et al.
2021, arXiv 2110.04369; Kalra and Barkeshli 2024, arXiv 2406.09405), whatever the layer.
So the product is measured for all parameters and for the FC stack alone.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.study import StudyRun, stacked
from experiments.common.task import Task
from experiments.common.trained import Trained
from experiments.warmup.config import ARMS, Config
from experiments.warmup.layers import layer_of, random_layers
from kd_heuristics import sharpness, training
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled
from kd_heuristics.sharpness import hessian

PyTree = Any
BLOCKS = ("all", "fc")


def measure_all(
    run: StudyRun,
    tasks: Mapping[str, Task],
    nets: Mapping[str, Trained],
    groups: Mapping[str, str],
    length: int,
) -> dict[str, np.ndarray]:
    """Curvature of every arm and seed at the steps of `sharpness_steps`.

    Args:
      run: run of the warmup study.
      tasks: with large and with small batches, by group.
      nets: the trained networks, by group.
      groups: the group of each arm.
      length: steps of the warmup, and of freezing.

    Returns: `{"warmup/eigenvalue_fc": [seeds, steps], "warmup/product_fc": [seeds,
      steps], ...}`, and "sharpness_steps" [steps].
    """
    config = run.config
    arrays: dict[str, Any] = {}
    for arm, group in groups.items():
        found = [
            run.stage(
                f"sharpness-{arm}-seed{seed}",
                measure,
                *(run, tasks[group], nets[group], arm, seed, length),
            )
            for seed in run.seeds
        ]
        arrays |= {f"{arm}/{name}": values for name, values in stacked(found).items()}
    return arrays | {"sharpness_steps": np.array(config.sharpness_steps)}


def measure(
    run: StudyRun, its: Task, nets: Trained, arm: str, seed: int, length: int
) -> dict[str, np.ndarray]:
    """Curvature along one training, `{"eigenvalue_all": [steps], ...}`."""
    run.progress.stage(f"seed {seed}: sharpness, {arm}")
    config = run.config
    examples = its.train.take(config.sharpness_examples)
    batch = {
        "images": jnp.asarray(examples.images)[None],
        "labels": jnp.asarray(examples.labels)[None],
    }
    fc = its.classifier_paths
    found = []
    for step in config.sharpness_steps:
        variables = nets.at((arm, seed), step)
        rates = rates_of(config, its, arm, variables["params"], step, length)
        own = blocks(its.classifier, variables, batch, fc, rates, config)
        found.append({name: np.asarray(value) for name, value in own.items()})
    return stacked(found)


def rates_of(
    config: Config, its: Task, arm: str, params: PyTree, step: int, length: int
) -> dict[str, float]:
    """The rate of each parameter in a step, 0 where it is frozen, by path."""
    kind, tables = ARMS[arm], config.rates(arm, its.steps_per_epoch)
    fc, frozen = its.classifier_paths, frozenset[str]()
    paths = [*leaf_names.flat(params)]
    if step < length and kind.freeze == "random":
        # As the study draws them, from the first seed's network.
        chosen = random_layers(its.start(config.first_seed)[0], config.first_seed, fc)
        frozen = frozenset(p for p in paths if p not in fc and layer_of(p) in chosen)
    elif step < length and kind.freeze != "none":
        frozen = frozenset(p for p in paths if (p in fc) == (kind.freeze == "fc"))
    return {
        path: 0.0
        if path in frozen
        else float(tables["fc" if path in fc else "rest"][step])
        for path in paths
    }


def blocks(
    classifier: training.Classifier,
    variables: Mapping[str, PyTree],
    batches: Mapping[str, jax.Array],
    fc: Collection[str],
    rates: Mapping[str, float],
    config: Config,
) -> dict[str, float]:
    """The top eigenvalue of each block, alone and times the rate.

    "eigenvalue_all" and "eigenvalue_fc" are of the Hessian and of its FC block.
    "product_all" and "product_fc" are of D^(1/2) H D^(1/2), D the diagonal of the
    rates: where all rates of a block are equal, the rate times the eigenvalue.

    Args:
      classifier: of the network.
      variables: its parameters and statistics.
      batches: "images" and "labels", [batches, examples, ...].
      fc: paths of the FC stack's parameters.
      rates: of each parameter, by path.
      config: with the number of products.

    Returns: four numbers; NaN where the loss or a product is not finite.
    """
    params, batch_stats = training.unpacked(variables)
    loss = jax.tree_util.Partial(_loss, compiled.as_partial(classifier.supervised))
    at_start = jax.tree.map(jnp.zeros_like, params)

    def top(scales: Mapping[str, float]) -> float:
        own = leaf_names.tree_map(lambda path, _: jnp.float32(scales[path]), params)
        bound = jax.tree_util.Partial(_scaled, loss, params, batch_stats, own)
        try:
            values, _ = sharpness.top(
                bound,
                at_start,
                batches,
                key=jax.random.key(0),
                num_products=config.sharpness_products,
            )
        except hessian.NotFiniteError:  # it diverges, though its loss is finite yet
            return np.nan
        return float(values[0])

    finite = _is_finite(loss, params, batch_stats, batches)
    found: dict[str, float] = {}
    for block in BLOCKS:
        mask = {path: float(block == "all" or path in fc) for path in rates}
        scales = {path: np.sqrt(rates[path]) * mask[path] for path in rates}
        inside = {rates[path] for path in rates if mask[path]}
        found[f"eigenvalue_{block}"] = top(mask) if finite else np.nan
        if len(inside) == 1:
            product = inside.pop() * found[f"eigenvalue_{block}"]
        else:
            product = top(scales) if finite else np.nan
        found[f"product_{block}"] = product
    return found


def _is_finite(loss, params, batch_stats, batches) -> bool:
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    return bool(jnp.isfinite(_value(loss, params, batch_stats, first)))


def _loss(supervised, params, batch_stats, batch):
    """The loss that a step descends: batch norm has the batch's own statistics."""
    return supervised(params, batch_stats, batch, jax.random.key(0))[0]


def _scaled(loss, params, batch_stats, scales, moved, batch):
    """The loss of params + scales * moved."""
    there = jax.tree.map(lambda p, s, m: p + s * m, params, scales, moved)
    return loss(there, batch_stats, batch)


@compiled.jit
def _value(loss, params, batch_stats, batch):
    return loss(params, batch_stats, batch)
