"""Images per second that a stream reads, decodes and crops, by number of workers.

    python -m experiments.benchmarks.stream [--name oxford_flowers102] [--workers 0 1 2]

It first writes a synthetic set of JPEG photographs with the features of the named set;
`--prepared` reads the prepared set instead. Each line is the median over turns, which
the numbers of workers take in order. The first batches, while processes start, do not
count. Nothing trains meanwhile, so this is the most that the host can deliver.
"""

import contextlib
import dataclasses
import io
import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import tyro

from kd_heuristics import data
from kd_heuristics.data import photo
from kd_heuristics.data.prepared import SETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Set, sizes and repeats."""

    name: str = "oxford_flowers102"
    prepared: bool = False  # read the prepared set, not a synthetic one
    images: int = 256  # in the synthetic set
    side: int = 500  # pixels of its longer side, as in Flowers and ImageNet
    view: str = "mix"
    teacher_size: int = 128
    student_size: int = 128
    batch_size: int = 64
    steps: int = 12  # timed
    skipped: int = 6  # before the timed ones
    workers: tuple[int, ...] = (0, 1, 2)
    threads: int = 2  # without workers
    turns: int = 3


def main(config: Config) -> None:
    """Prints a line for each number of workers."""
    with contextlib.ExitStack() as stack:
        if not config.prepared:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ["TFDS_DATA_DIR"] = folder
            write(folder, config)
        found: dict[int, list[float]] = {workers: [] for workers in config.workers}
        for _ in range(config.turns):
            for workers in config.workers:
                found[workers].append(rate(config, workers))
    print("| workers | images a second | least to most |\n|---|---|---|")
    for workers, rates in found.items():
        what = f"{workers}" if workers else f"0 ({config.threads} threads)"
        median = statistics.median(rates)
        print(f"| {what} | {median:.0f} | {min(rates):.0f} to {max(rates):.0f} |")


def rate(config: Config, workers: int) -> float:
    """Returns the images per second of a new stream."""
    view = data.views.create(
        config.view,
        teacher_size=config.teacher_size,
        student_size=config.student_size,
    )
    stream = data.stream(
        config.name,
        "train",
        config.batch_size,
        view=view,
        workers=workers,
        threads=config.threads,
    )
    steps = config.skipped + config.steps
    start = 0.0
    with contextlib.closing(stream.batches(0, steps)) as batches:
        for step, _ in batches:
            if step == config.skipped - 1:
                start = time.perf_counter()
    return config.steps * config.batch_size / (time.perf_counter() - start)


def write(folder: str, config: Config) -> None:
    """Writes enlarged parts of two photographs as the set's training split."""
    import tensorflow_datasets as tfds
    from PIL import Image

    entry = SETS[config.name]
    builder: Any = tfds.builder_cls(entry.base)(data_dir=folder)
    pictures = [Image.fromarray(array) for array in photo.photographs().values()]
    random = np.random.default_rng(0)

    def value(key, feature, number):
        if key == "image":
            file = io.BytesIO()
            left, top = random.integers(0, (140, 50))
            picture = pictures[number % 2].crop((left, top, left + 500, top + 375))
            size = config.side, config.side * 3 // 4
            picture.resize(size).save(file, "JPEG", quality=90)
            return io.BytesIO(file.getvalue())
        if isinstance(feature, tfds.features.ClassLabel):
            return 0
        return f"{key} {number}"

    def examples():
        for number in range(config.images):
            features = builder.info.features.items()
            yield number, {key: value(key, of, number) for key, of in features}

    splits = {part.split("[")[0] for part in entry.splits.values()}
    builder._split_generators = lambda _: {split: examples() for split in splits}
    with contextlib.redirect_stderr(io.StringIO()):  # hide progress bars
        builder.download_and_prepare(file_format="array_record")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
