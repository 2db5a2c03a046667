"""Growth of the cost with the work, as one figure.

    python -m experiments.benchmarks.scaling [--figure scaling.png] [--width 0.25] ...

Takes about three minutes on 2 cores; RESULTS.md in this folder lists the settings of
the last figure, docs/scaling.png. Its panels show, against the number of:

    batch      images per step: images per second of a training step and of inference
    points     points of a curve: seconds (statistics and loss of each)
    layers     layers of both networks: seconds and memory of their map
    units      units of each layer: seconds and memory of a map
    devices    devices that share a batch: milliseconds of a training step

Each value is the median of the turns after one that compiles. Memory is the growth of
the process's peak during a map, and needs Linux and a CPU. Each number of devices has
its own process; on CPU the devices are virtual and share the same cores, so they show
the overhead of splitting only, as the figure notes.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import curve_eval, similarity, train_step
from kd_heuristics import data, models, training
from kd_heuristics.plots import style
from kd_heuristics.runtime import parallel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes to vary, and fixed ones."""

    figure: Path = Path("scaling.png")
    model: str = "vgg11"
    curve_model: str = "vgg11_bn"
    width: float = 0.25
    classifier_width: int = 128
    batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    points: tuple[int, ...] = (1, 2, 4, 8, 16, 31, 61)
    layers: tuple[int, ...] = (2, 4, 8, 16)
    units: tuple[int, ...] = (32, 64, 128, 256, 512)
    fixed_layers: int = 4  # while units vary
    fixed_units: int = 128  # while layers vary
    activations: int = 2000
    devices: tuple[int, ...] = (1, 2, 4, 8)
    batch: int = 128  # for the curve's sets, and for the devices to share
    steps: int = 8  # per turn
    repeats: int = 3
    processor_time: bool = False  # as in `train_step.Config`

    @property
    def options(self) -> dict[str, Any]:
        """Returns options of the networks."""
        return {"width": self.width, "classifier_width": self.classifier_width}


VIRTUAL = "ms, virtual devices of\none CPU: overhead only"
Found = dict[str, dict[str, list[float]]]


def main(config: Config) -> None:
    """Measures, prints the numbers and draws them."""
    print(f"`python -m experiments.benchmarks.scaling {' '.join(sys.argv[1:])}`\n")
    found: Found = {}
    for panel in _TITLES:
        found |= measure(config, [panel])
        columns = found[panel]
        for name, values in columns.items():
            label = " ".join(name.split())
            print(
                f"{panel:8} {label:46}",
                *(f"{value:9.4g}" for value in values),
                flush=True,
            )
    draw(found, config.figure, words(config))
    print(f"figure: {config.figure}")


def words(config: Config) -> str:
    """Describes the figure in one line."""
    clock = "the processor's time of all threads" if config.processor_time else "time"
    return (
        f"{config.model}, width {config.width:g}; maps of {config.fixed_layers} layers "
        f"or of {config.fixed_units} units; {clock}; on {jax.default_backend()}"
    )


def measure(config: Config, panels: Sequence[str] | None = None) -> Found:
    """Measures `{panel: {"x": [...], what: [...]}}` for all panels or some."""
    rows = [(layers, config.fixed_units) for layers in config.layers]
    columns = [(config.fixed_layers, units) for units in config.units]
    ways = {
        "batch": lambda: _over_batches(config),
        "points": lambda: _over_points(config),
        "layers": lambda: _maps(rows, 0, config),
        "units": lambda: _maps(columns, 1, config),
        "devices": lambda: _over_devices(config),
    }
    return {name: ways[name]() for name in panels or ways}


def _median(run: Callable[[], Any], config: Config) -> float:
    """Returns the median seconds of turns, after one that compiles."""
    turns = train_step.take_turns({"": run}, config.repeats, _clock(config))
    return statistics.median(turns[""])


def _clock(config: Config) -> Callable[[], float]:
    return time.process_time if config.processor_time else time.perf_counter


def _noise(batch: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, 32, 32, 3)).astype(np.uint8)
    return images, random.integers(0, 10, batch).astype(np.int32)


def _over_batches(config):
    found: dict[str, list[float]] = {"x": [], "training": [], "inference": []}
    for batch in config.batches:
        images, labels = _noise(batch)
        inputs = images.astype(np.float32) / 255
        ours = train_step.Ours(config.model, config.options, inputs, labels)
        for name, run in (("training", ours.scan), ("inference", ours.infer)):
            seconds = _median(lambda run=run: run(config.steps), config)
            found[name].append(batch * config.steps / seconds)
        found["x"].append(batch)
    return found


def _over_points(config):
    images, labels = _noise(config.batch)
    sets = {name: data.Dataset(images, labels, 10) for name in ("train", "test")}
    own = curve_eval.Config(
        model=config.curve_model,
        **config.options,
        examples=config.batch,
        batch_size=config.batch,
    )
    run, _ = curve_eval.ours(own, curve_eval.arrays_of(own, sets))
    times = []
    for count in config.points:
        ts = np.linspace(0, 1, count)
        times.append(_median(lambda ts=ts: run(ts), config))
    return {"x": list(config.points), "seconds": times}


def _maps(sizes, grows, config):
    """Measures maps of (layers, units); index `grows` of these is the x axis."""
    found: dict[str, list[float]] = {"x": [], "seconds": [], "memory, MB": []}
    for size in sizes:
        own = similarity.Config(
            layers=size[0], units=size[1], examples=config.activations
        )
        arrays = similarity.layers(own)
        first, second = (
            {f"{index:02d}": layer for index, layer in enumerate(part)}
            for part in (arrays[: size[0]], arrays[size[0] :])
        )
        networks = first, second

        def run(networks=networks):
            return similarity.ours(networks, [], "cca")

        found["seconds"].append(_median(run, config))
        similarity.forget_peak()
        before = similarity.resident("VmRSS")
        run()
        found["memory, MB"].append(max(similarity.resident("VmHWM") - before, 0.0))
        found["x"].append(size[grows])
    return found


def _over_devices(config):
    counts = config.devices
    if jax.default_backend() != "cpu":
        counts = [count for count in counts if count <= len(jax.devices())]
    spawn = multiprocessing.get_context("spawn")
    times = []
    for count in counts:
        # A process's number of virtual devices is fixed when jax starts.
        with (
            _environment("JAX_NUM_CPU_DEVICES", str(count)),
            spawn.Pool(1) as process,
        ):
            times.append(process.apply(step_seconds, (config, count)))
    what = VIRTUAL if jax.default_backend() == "cpu" else "ms"
    return {"x": list(counts), what: [1000 * seconds for seconds in times]}


def step_seconds(config: Config, devices: int) -> float:
    """Returns the seconds of a training step with its batch split over devices."""
    network = models.create(config.model, 10, **config.options)
    classifier = training.Classifier(network, (127.0,) * 3, (64.0,) * 3)
    images, labels = _noise(config.batch)
    batch = {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}
    variables = network.init(jax.random.key(0), jnp.zeros((1, *images.shape[1:])))
    batches = jax.tree_util.Partial(_same, batch)
    optimizer = training.sgd(0.01, momentum=0.9)
    mesh, clock = parallel.mesh(devices), _clock(config)

    def train(steps):
        start = clock()
        state = training.fit(
            classifier.supervised,
            variables["params"],
            variables.get("batch_stats", {}),
            optimizer,
            batches,
            num_steps=steps,
            steps_per_call=steps,
            mesh=mesh,
        )
        jax.block_until_ready(state.params)
        return clock() - start

    train(1)  # compiles
    # Subtract the fixed cost of a call.
    times = [train(1 + config.steps) - train(1) for _ in range(config.repeats)]
    return statistics.median(times) / config.steps


def _same(batch, seed, step):
    return batch


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


_TITLES = {
    "batch": ("(a) Images a second", "images a step"),
    "points": ("(b) Points of a curve", "points"),
    "layers": ("(c) A map, by layers", "layers of each network"),
    "units": ("(d) A map, by units", "units of each layer"),
    "devices": ("(f) A training step", "devices"),
}


def draw(found: Found, target: Path, heading: str = "") -> None:
    """Draws the panels; grey lines grow in proportion to x or its square."""
    with style.context():
        figure, axes = style.panels(2, 3, width=9.0, height=2.8)
        places = dict(
            zip(("batch", "points", "layers", "units"), axes.flat, strict=False)
        )
        places["devices"] = axes[1, 2]
        for panel, ax in places.items():
            title, label = _TITLES[panel]
            ax.set_title(title, loc="left")
            ax.set_xlabel(label)
            for color, (name, values) in zip(
                style.COLORS, _lines(panel, found[panel]), strict=False
            ):
                ax.plot(found[panel]["x"], values, "o-", ms=3, color=color, label=name)
            _scales(ax, found[panel]["x"])
        axes[1, 2].set_yscale("linear")
        axes[1, 2].set_ylim(0, 1.3 * axes[1, 2].get_ylim()[1])
        for ax, power in ((axes[0, 1], 1), (axes[0, 2], 2)):
            _slope(ax, power)
        memory = axes[1, 1]
        for color, panel in zip(style.COLORS, ("layers", "units"), strict=False):
            columns = found[panel]
            values = np.asarray(columns["memory, MB"])
            memory.plot(
                columns["x"],
                np.where(values > 0, values, np.nan),  # 0 if too small to measure
                "o-",
                ms=3,
                color=color,
                label=f"MB, by {panel}",
            )
        memory.set_title("(e) A map's memory", loc="left")
        memory.set_xlabel("layers, or units")
        _scales(memory, sorted({*found["layers"]["x"], *found["units"]["x"]}))
        for ax in axes.flat:
            ax.legend()
        figure.suptitle(heading, fontsize=8)
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, metadata={"Software": None})


def _lines(panel, columns):
    """Returns a panel's lines, without x and memory, which has its own panel."""
    return [(n, v) for n, v in columns.items() if n not in ("x", "memory, MB")]


def _scales(ax, x):
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.minorticks_off()
    style.log_scale(ax)


def _slope(ax, power):
    """Draws a grey line that grows like x**power through the panel's last point."""
    line = ax.get_lines()[0]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    label = "in proportion" if power == 1 else f"like x{'²' if power == 2 else ''}"
    ax.plot(x, y[-1] * (x / x[-1]) ** power, label=label, **style.PAPER)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
