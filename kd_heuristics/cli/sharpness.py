"""`kd-heuristics sharpness`: the curvature of the loss around networks."""

from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kd_heuristics import sharpness as tools
from kd_heuristics.cli import output
from kd_heuristics.cli.subject import Lab, Subject, make
from kd_heuristics.cli.task import Task
from kd_heuristics.plots import style
from kd_heuristics.runtime import compiled, parallel, values
from kd_heuristics.runtime.errors import InputError, checking_input

Checkpoints = Annotated[
    tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CKPT ...")
]


def sharpness(
    checkpoints: Checkpoints,
    /,
    *,
    subject: Annotated[Subject, tyro.conf.arg(name="")] = Subject(),  # noqa: B008
    part: Literal["train", "test"] = "train",
    stats: Literal["running", "refit"] = "running",
    k: int = 3,
    num_products: int = 20,
    num_samples: int = 16,
    density: bool = False,
    seed: int = 0,
    out: Path = Path("sharpness"),
) -> None:
    r"""Measure the Hessian of the loss: top eigenvalues and traces.

    The loss is the mean over the first `--examples` images of a set, in evaluation
    mode: with running batch-norm statistics, or with statistics re-estimated from the
    training images. Plain gradient descent is unstable at rates above 2 / the largest
    eigenvalue. Traces are given by top-level module, with standard errors.

    For example:

        kd-heuristics sharpness runs/demo/warmup/checkpoints/large@0#0 \
            runs/demo/warmup/checkpoints/large#0

        kd-heuristics sharpness a.npz b.npz --model nets:make --data my.npz --density

    Writes results.json, arrays.npz and figures/sharpness.png.

    Args:
      checkpoints: networks of one model.
      subject: model and data.
      part: set of the loss.
      stats: batch-norm statistics; running takes those of the checkpoint, refit
        re-estimates them from the training images.
      k: number of eigenvalues.
      num_products: Hessian-vector products for the eigenvalues; more are more exact.
      num_samples: random vectors for the traces, at least 2.
      density: compute the density of all eigenvalues, by 10 times 40 products.
      seed: seed of the random vectors.
      out: folder of the results.
    """
    if not checkpoints:
        raise InputError("name a checkpoint or more: kd-heuristics sharpness a.npz")
    if num_samples < 2:
        raise InputError(
            f"--num-samples must be at least 2, for a standard error, got {num_samples}"
        )
    if not 1 <= k <= num_products:
        raise InputError(f"--k must be in 1 to --num-products, {num_products}, got {k}")
    with checking_input():
        values.seed(seed)
    lab = make(subject, checkpoints[0])
    networks = [lab.variables(text) for text in checkpoints]
    batches = lab.sets[part]
    if lab.mesh is not None:
        batches = parallel.split_batches(batches, lab.mesh)
    options = {"k": k, "num_products": num_products, "num_samples": num_samples}
    with output.folder(out) as folder:
        rows = []
        count = len(networks)
        with output.progress(f"curvature at {count} networks", count) as advance:
            for variables in networks:
                loss = _loss(lab, variables, stats, part)
                params = variables["params"]
                with checking_input():  # k beyond the dimension, a loss of infinity
                    found = _measure(loss, params, batches, seed, **options)
                    if density:
                        found |= _density(loss, params, batches, seed)
                rows.append(found)
                advance(1)
        results = _results(checkpoints, rows, options | {"set": part, "stats": stats})
        arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        _tell(results)
        output.save(
            folder, results, arrays, lambda path: _draw(path, checkpoints, arrays)
        )


def _loss(lab: Lab, variables, stats, part):
    """Returns `(params, batch) -> mean loss`, with fixed batch statistics."""
    batch_stats = variables.get("batch_stats", {})
    refresh = lab.refresh(batch_stats) if stats == "refit" else None
    if refresh is not None:
        batch_stats = refresh(variables["params"])
    metric = compiled.as_partial(lab.task.metric)
    counts = None
    if isinstance(lab.task, Task):
        counts = _counts(metric, variables["params"], batch_stats, lab.sets[part])
    return jax.tree_util.Partial(_mean_loss, metric, batch_stats, counts)


@jax.jit
def _counts(metric, params, batch_stats, batches):
    """Returns what counts of a set by the metric's mask, an example."""
    masks = jax.lax.map(lambda b: metric(params, batch_stats, b)["mask"].sum(), batches)
    return masks.sum() / batches["mask"].sum()


def _mean_loss(metric, batch_stats, counts, params, batch):
    """Mean of a batch; with counts, its share of the mean over all that counts.

    The tools weigh batches by their examples. With a user's mask, `counts` of them are
    tokens an example, so that each token weighs the same.
    """
    found = metric(params, batch_stats, batch)
    mask = found["mask"]
    total = jnp.where(mask, found["loss"], 0).sum()
    return total / (mask.sum() if counts is None else counts * batch["mask"].sum())


def _measure(loss, params, batches, seed, *, k, num_products, num_samples):
    """Returns the eigenvalues, and the traces with errors by module."""
    keys = jax.random.split(jax.random.key(seed), 2)
    largest, _ = tools.top(
        loss, params, batches, k, key=keys[0], num_products=num_products
    )
    found = {"eigenvalues": np.asarray(largest)}
    for group in (None, _module):
        traces = tools.trace(
            loss, params, batches, key=keys[1], num_samples=num_samples, group=group
        )
        found |= {f"trace/{name}": np.stack(pair) for name, pair in traces.items()}
    return found


def _density(loss, params, batches, seed):
    nodes, weights = tools.density(loss, params, batches, key=jax.random.key(seed))
    return {"nodes": np.asarray(nodes), "weights": np.asarray(weights)}


def _module(name: str) -> str:
    return name.partition("/")[0]


def _results(checkpoints, rows, options) -> dict[str, Any]:
    return options | {
        "networks": [
            {
                "checkpoint": text,
                "eigenvalues": row["eigenvalues"],
                "traces": {
                    key.partition("/")[2]: {"mean": pair[0], "standard_error": pair[1]}
                    for key, pair in row.items()
                    if key.startswith("trace/")
                },
            }
            for text, row in zip(checkpoints, rows, strict=True)
        ]
    }


def _tell(results: dict[str, Any]) -> None:
    """Print a table of the networks, and one of the traces by module."""
    rows = []
    for network in results["networks"]:
        whole = network["traces"]["all"]
        largest = float(network["eigenvalues"][0])
        stable = 2 / largest if largest > 0 else float("inf")
        rows.append([network["checkpoint"], largest, stable, *whole.values()])
    title = f"{results['set']} loss, {results['stats']} batch statistics"
    columns = ("network", "largest eigenvalue", "2 / it", "trace", "+-")
    output.table(title, columns, [[*map(_plain, row)] for row in rows])
    modules = [name for name in results["networks"][0]["traces"] if name != "all"]
    by_module = [
        [name, *(float(n["traces"][name]["mean"]) for n in results["networks"])]
        for name in modules
    ]
    names = [network["checkpoint"] for network in results["networks"]]
    output.table("trace by module", ("module", *names), by_module)


def _plain(value):
    return value if isinstance(value, str) else float(value)


def _draw(folder: Path, checkpoints, arrays) -> None:
    names = [key for key in arrays if key.startswith("trace/") and key != "trace/all"]
    with style.context():
        figure, axes = style.panels(1, 2, width=10.0, height=4.2)
        places = np.arange(len(checkpoints))
        for index in range(arrays["eigenvalues"].shape[1]):
            label = f"eigenvalue {index + 1}"
            axes[0, 0].plot(places, arrays["eigenvalues"][:, index], "o-", label=label)
        axes[0, 0].set(xlabel="network, in the order given", ylabel="eigenvalue")
        axes[0, 0].set_xticks(places)
        axes[0, 0].legend()
        if "nodes" in arrays:
            for text, nodes, weights in zip(
                checkpoints, arrays["nodes"], arrays["weights"], strict=True
            ):
                axes[0, 1].plot(nodes, np.cumsum(weights), label=text)
            axes[0, 1].set(xlabel="eigenvalue", ylabel="share of eigenvalues below")
            axes[0, 1].legend()
        else:
            for place, text in enumerate(checkpoints):
                pairs = np.stack([arrays[name][place] for name in names])
                axes[0, 1].errorbar(
                    np.arange(len(names)), pairs[:, 0], pairs[:, 1], fmt="o", label=text
                )
            axes[0, 1].set_xticks(np.arange(len(names)))
            shown = [name.partition("/")[2] for name in names]
            axes[0, 1].set_xticklabels(shown, rotation=90)
            axes[0, 1].set(ylabel="trace")
            axes[0, 1].legend()
        style.save(figure, folder, "sharpness")
