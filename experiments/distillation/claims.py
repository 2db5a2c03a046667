"""The paper's claims about a student's layers, and the statistics of its maps."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.common import fidelity, paper
from experiments.distillation import table
from experiments.distillation.config import Config
from kd_heuristics.runs import Claim

ACCURACY = 0.5  # smallest difference that counts, in points
EARLY = 10 / 38  # the paper's "first ten layers" of the 38 of VGG-16


def claims(config: Config) -> tuple[Claim, ...]:
    """Returns the paper's claims, and two that compare them with a null."""
    found = papers_maps()
    unit = f"similarity ({config.measure})"
    trainings = ("teacher", config.distilled, "independent")
    yes = (
        (
            "fc-change",
            "the teacher's knowledge goes mostly into the deep layers",
            "change of FC layers minus change of convolutions",
        ),
        (
            "fc-layers/late-early",
            "the deep layers become more like the teacher's late layers than its early",
            "FC layers: change towards late minus towards early layers",
        ),
        (
            "fc-layers/another-start",
            "the deep layers' maps differ more than those of two independent students",
            "FC layers: distance to another start, distilled minus independent",
        ),
        (
            "fc-layers/another-teacher",
            "the deep layers become more like the teacher than like another teacher",
            "FC layers: change towards the teacher minus towards another",
        ),
        (
            "fc-layers/each-convolution",
            "each FC layer changes more than every convolution",
            "least change of an FC layer minus largest of a convolution",
        ),
    )
    accuracy = Claim(
        key="accuracy",
        words="soft targets make a better student than labels",
        kind="difference",
        smallest_effect=paper.smallest_effect(ACCURACY, 2.17),
        unit="points of test accuracy",
        statistic="accuracy, distilled minus independent",
        paper=2.17,  # 85.18 and 83.01 %, the best of 5 runs each
        main=True,
        trainings=trainings,
    )
    return (
        accuracy,
        *(
            Claim(
                key=key,
                words=words,
                kind="difference",
                smallest_effect=paper.smallest_effect(config.smallest_effect, value),
                unit=unit,
                statistic=statistic,
                paper=value,
                main=key == "fc-change",
                trainings=trainings,
            )
            for key, words, statistic in yes
            for value in [round(found[statistic], 4) if statistic in found else None]
        ),
        *fidelity.claims(
            config.distilled,
            "independent",
            "soft targets make a student decide more like its teacher than labels do",
            trainings,
        ),
        *_of_nulls(config, unit),
        *table.claims(config),
    )


_NULLS = {
    "another-teacher": "those of another teacher",
    "random-teacher": "an untrained teacher's of equal entropy",
    "smoothing": "labels smoothed to equal entropy",
    "permuted": "the teacher's with permuted dark knowledge",
}


def _of_nulls(config: Config, unit: str) -> Iterator[Claim]:
    """Two secondary claims for each null: the change of FC layers, and accuracy."""
    for null in config.nulls:
        words = _NULLS[null]
        # An untrained teacher may well make a student fail: that is its point.
        needed = ("teacher", config.distilled)
        needed += () if null == "random-teacher" else (null,)
        yield Claim(
            key=f"nulls/{null}/change",
            words=f"soft targets change the deep layers more than {words}",
            kind="difference",
            smallest_effect=config.smallest_effect,
            unit=unit,
            statistic=null_change(null),
            trainings=(*needed, "independent"),
        )
        yield Claim(
            key=f"nulls/{null}/accuracy",
            words=f"soft targets make a better student than {words}",
            kind="difference",
            smallest_effect=ACCURACY,
            unit="points of test accuracy",
            statistic=null_accuracy(null),
            trainings=needed,
        )


def null_change(null: str) -> str:
    """Names the statistic of a null's change of the FC layers."""
    return f"change of FC layers, distilled minus {null}"


def null_accuracy(null: str) -> str:
    """Names the statistic of a null's accuracy."""
    return f"accuracy, distilled minus {null}"


def papers_maps() -> dict[str, Any]:
    """Reads the paper's maps (Fig. 6) and computes the claims' statistics on them."""
    tables = {
        name: paper.table(f"distillation/{file}")
        for name, file in (
            ("distilled", "fig6a_distilled_T"),
            ("independent", "fig6b_indep_T"),
        )
    }
    rows = tables["distilled"]["teacher"].tolist()
    layers = [name for name in tables["distilled"] if name != "teacher"]
    maps: dict[str, Any] = {
        name: np.stack([table[layer] for layer in layers], 1)
        for name, table in tables.items()
    }
    change = maps["distilled"] - maps["independent"]
    names = [name[:2] + "_" + name[2:].lower() for name in layers]
    fc = deep(names)
    return {
        **maps,
        "teacher_layers": rows,
        "layers": layers,
        "change of FC layers minus change of convolutions": float(
            np.abs(change)[:, fc].mean() - np.abs(change)[:, ~fc].mean()
        ),
        "FC layers: change towards late minus towards early layers": float(
            late_minus_early(change[:, fc])
        ),
        "least change of an FC layer minus largest of a convolution": float(
            least_minus_largest(change, names)
        ),
    }


def deep(layers: list[str]) -> np.ndarray:
    """Marks the fully connected part: the first such layer and all later ones.

    >>> deep(["00_conv", "01_fc", "02_relu"]).tolist()
    [False, True, True]
    """
    first = next(i for i, name in enumerate(layers) if name.endswith("_fc"))
    return np.arange(len(layers)) >= first


def least_minus_largest(change: np.ndarray, layers: Sequence[str]) -> np.ndarray:
    """Size of the least changed FC layer minus that of the most changed convolution.

    Args:
      change: [..., teacher layers, student layers].
      layers: names of the student's layers, such as "00_conv" and "06_fc".

    Returns: [...].
    """
    sizes = np.abs(change).mean(-2)
    fc, conv = (
        sizes[..., [i for i, name in enumerate(layers) if name.endswith(ending)]]
        for ending in ("_fc", "_conv")
    )
    return fc.min(-1) - conv.max(-1)


def late_minus_early(change: np.ndarray) -> np.ndarray:
    """Mean change of the teacher's late layers minus that of its early ones, [...].

    Args:
      change: [..., teacher layers, student layers].
    """
    early = max(1, round(EARLY * change.shape[-2]))
    return change[..., early:, :].mean((-1, -2)) - change[..., :early, :].mean((-1, -2))
