"""`kd-heuristics connect`: evaluates paths between two networks."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from kd_heuristics import curves, data, points, schedules, training
from kd_heuristics.cli import checkpoint, output
from kd_heuristics.cli.aligned import aligned
from kd_heuristics.cli.subject import Lab, Subject, make
from kd_heuristics.plots import style
from kd_heuristics.runtime import hosts
from kd_heuristics.runtime import values as checked
from kd_heuristics.runtime.errors import InputError, checking_input

A = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
B = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
_COLORS = {"segment": style.COLORS[1], "curve": style.COLORS[0]}


def connect(
    a: A,
    b: B,
    /,
    *,
    subject: Annotated[Subject, tyro.conf.arg(name="")] = Subject(),  # noqa: B008
    align: bool = False,
    kind: Literal["polychain", "bezier"] = "polychain",
    bends: int = 1,
    epochs: int = 10,
    rate: float = 0.02,
    train_batch_size: int = 100,
    num_points: int = 21,
    seed: int = 0,
    out: Path = Path("connect"),
) -> None:
    r"""Evaluate losses between two networks: on the segment, on a curve.

    Reports whether the segment crosses a barrier (some point has a higher loss than
    both ends) and whether a curve avoids it. Losses are means over the first
    `--examples` images of each set. Batch-norm statistics are re-estimated at each
    point from those images of the training set.

    For example:

        kd-heuristics connect runs/demo/sgdr/checkpoints/train#0 \
            runs/demo/sgdr/checkpoints/train#1

        kd-heuristics connect a.npz b.npz --model nets:make --data my.npz --epochs 20

    Writes results.json, arrays.npz, figures/path.png and the bends. A single bend is
    bend.npz, which `surface A B OUT/bend.npz` takes; several are bend1.npz, bend2.npz
    and so on. With --align, the paths end at B's units in the order of A's, which is
    aligned.npz.

    Args:
      a: network at t = 0.
      b: network at t = 1.
      subject: model and data.
      align: permute B's units onto A's first, by weight matching.
      kind: kind of curve.
      bends: number of bends of the curve; 0 evaluates only the segment.
      epochs: epochs of curve fitting.
      rate: initial learning rate of a cosine schedule, for SGD with momentum 0.9 and
        gradients clipped to norm 5.
      train_batch_size: batch size of curve fitting, capped at the training set's size.
      num_points: number of points along each path, at least 3.
      seed: seed of curve fitting.
      out: folder of the results.
    """
    _check(num_points, bends, epochs, rate)
    lab = make(subject, a)
    ends = [lab.variables(text) for text in (a, b)]
    with output.folder(out) as folder:
        if align:
            ends[1], _ = aligned(lab, *ends, seed=seed)
            hosts.first(checkpoint.save, folder / "aligned.npz", ends[1])
        first, last = (end["params"] for end in ends)
        stats = ends[0].get("batch_stats", {})
        paths = {"segment": curves.line(first, last)}
        refresh = lab.refresh(stats)  # before the fit: it rejects bad statistics
        middle = ()
        if bends:
            fit = {"kind": kind, "bends": bends, "epochs": epochs, "rate": rate}
            fit |= {"batch_size": train_batch_size, "seed": seed}
            middle = _fit(lab, (first, last), stats, **fit)
            paths["curve"] = _KINDS[kind]([first, *middle, last])
        hosts.first(_save_bends, folder, middle, (a, b))
        t = np.linspace(0, 1, num_points)
        found = {name: along(lab, path, t, refresh) for name, path in paths.items()}
        results = {
            "a": a,
            "b": b,
            "aligned": align,
            "distance": float(curves.distance(first, last)),
            "paths": {
                name: {k: points.path_summary(array) for k, array in values.items()}
                for name, values in found.items()
            },
        }
        arrays = {
            f"{p}/{k}": x for p, values in found.items() for k, x in values.items()
        }
        _tell(results, found, lab.unit)
        output.save(
            folder,
            results,
            arrays | {"t": t},
            lambda path: _draw(path, t, found, lab.unit),
        )


_KINDS = {"polychain": curves.polychain, "bezier": curves.bezier}


def _fit(lab: Lab, ends, stats, *, kind, bends, epochs, rate, batch_size, seed):
    """Fit a curve of low training loss; returns its bends."""
    batch_size = min(batch_size, lab.num_train)
    with checking_input():
        batches = data.train_batches(lab.train, batch_size)
        checked.seed(seed)
    steps = epochs * data.steps_per_epoch(lab.num_train, batch_size)
    optimizer = training.sgd(schedules.cosine_decay(rate, steps), 0.9, 0.0, 5.0)
    loss = curves.CurveLoss(kind=kind)
    network = jax.tree_util.Partial(lab.task.supervised)
    line = curves.line(*ends)
    start = tuple(line.at((k + 1) / (bends + 1)) for k in range(bends))
    with output.progress(f"fitting the curve, {steps} steps", steps) as advance:
        state = training.fit(
            jax.tree_util.Partial(loss, ends, network),
            start,
            stats,
            optimizer,
            batches,
            num_steps=steps,
            seed=seed,
            mesh=lab.mesh,
            logging=training.Logging(progress=advance),
        )
    return state.params


def _save_bends(folder: Path, bends, ends) -> None:
    """Write the bends and delete those of an earlier curve that are not an end."""
    kept = [checkpoint.parse(end).path.absolute() for end in ends]
    for path in folder.absolute().glob("bend*.npz"):
        if re.fullmatch(r"bend[0-9]*\.npz", path.name) and path not in kept:
            path.unlink()
    for index, bend in enumerate(bends):
        name = "bend.npz" if len(bends) == 1 else f"bend{index + 1}.npz"
        checkpoint.save(folder / name, {"params": bend})


def along(lab: Lab, path, t, refresh) -> dict[str, np.ndarray]:
    """Returns the metrics along a path, on both sets."""
    total = len(t) * len(lab.sets)
    with output.progress(f"evaluating {len(t)} points of a path", total) as advance:
        return points.evaluate_sets(
            path.at,
            t,
            lab.sets,
            lab.task.metric,
            refresh,
            progress=advance,
            mesh=lab.mesh,
        )


def _tell(results: dict[str, Any], found, unit: str) -> None:
    """Print a table of the paths, and whether each crosses a barrier."""
    rows = [
        [f"{name}, {key.replace('_', ' ')}"]
        + [found[k] for k in ("start", "minimum", "maximum", "end", "barrier")]
        for name, values in results["paths"].items()
        for key, found in values.items()
    ]
    title = f"distance {results['distance']:.4g} (Euclidean, all weights)"
    columns = ("path", "at A", "lowest", "highest", "at B", "above worse end")
    output.table(title, columns, [row for row in rows if "loss" in row[0]])
    for name, values in results["paths"].items():
        losses = found[name]["train_loss"]
        overflowed = int((~np.isfinite(losses)).sum())
        barrier = values["train_loss"]["barrier"]
        if overflowed:
            words = f"is not finite at {overflowed} of {len(losses)} points"
        elif barrier > 0:
            words = f"crosses a barrier of {barrier:.3g} {unit}".rstrip()
        else:
            words = "crosses no barrier"
        output.say(f"the {name} {words} in train loss")


def _draw(folder: Path, t: np.ndarray, found, unit: str) -> None:
    metrics = {key.partition("_")[2] for values in found.values() for key in values}
    names = ["loss", *sorted(metrics - {"loss"})]
    units = {"loss": unit, "accuracy": "%" if unit else ""}
    with style.context():
        figure, axes = style.panels(1, len(names))
        for ax, metric in zip(axes[0], names, strict=True):
            own = units.get(metric, "")
            for name, values in found.items():
                for part, dashes in (("train", "-"), ("test", "--")):
                    y = values[f"{part}_{metric}"] * (100 if own == "%" else 1)
                    label = f"{name}, {part}"
                    ax.plot(t, y, dashes, color=_COLORS[name], label=label)
            axis = f"{metric} ({own})" if own else metric
            ax.set(xlabel="t along the path", ylabel=axis)
        axes[0, 0].legend()
        style.save(figure, folder, "path")


def _check(num_points, bends, epochs, rate):
    """Raise InputError if an option is out of range."""
    if num_points < 3:
        raise InputError(f"--num-points must be at least 3, got {num_points}")
    if bends < 0:
        raise InputError(f"--bends must not be negative, got {bends}")
    if epochs < 1:
        raise InputError(
            f"--epochs must be at least 1, got {epochs}; for no curve use --bends 0"
        )
    if rate <= 0:
        raise InputError(f"--rate must be positive, got {rate}")
