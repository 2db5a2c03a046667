"""Fields of the presets of the paper's own sets."""

from collections.abc import Mapping
from typing import Any

from experiments.funmatch import published
from experiments.funmatch.arms import MAIN, OTHERS, Grid, Setting


def row(arm: str, epochs: int) -> str:
    """Returns the name of an arm at a length in the field `rows`.

    >>> row("fix/cc", 10)
    'fix/cc@10'
    """
    return f"{arm}@{epochs}"


def _papers(name: str, weights: str, settings, **changes: Any) -> dict[str, Any]:
    """Fields of a paper's set: one seed and the released teacher."""
    return {
        "dataset": name,
        "streamed": True,
        "stored_size": 160,
        "whole_size": 224,
        "teacher_weights": f"weights/{weights}.npz",
        "student_weights": "weights/BiT-M-R50x1.npz",
        "settings": settings,
        **changes,
    }


def _small(preset: str, name: str, weights: str, **changes: Any) -> dict[str, Any]:
    """Fields of a small set, with its rows of table 4."""
    transfers = [
        of.arm
        for of in published.table4()
        if of.preset == preset and of.arm.startswith("transfer")
    ]
    # Each set has one released resolution and teacher.
    others = [arm for arm in OTHERS if arm not in ("ensemble", "full_size")]
    options = {
        "others": "food101" if name != "food101" else "sun397",
        "other_arms": (*others, *transfers),
        **changes,
    }
    return _papers(name, weights, published.settings(preset), **options)


def _imagenet(
    preset: str, beside: tuple[str, ...] = (), **changes: Any
) -> dict[str, Any]:
    """Fields of a preset of table 3: its cells, with the released setting.

    `beside` names trainings that its rows do not have.
    """
    rows = [of for of in published.table3() if of.preset == preset and of.is_trained]
    mix = next(of for of in rows if of.arm == "mix")
    lengths = sorted({epochs for of in rows for epochs in of.cells})
    settings = tuple(
        Setting(
            epochs=epochs,
            rate=0.03,
            decay=3e-4,
            temperature=1.0,
            paper=_share(mix.cells.get(epochs)),
        )
        for epochs in lengths
    )
    options: dict[str, Any] = {
        "stored_size": 256,
        "student_size": 224,
        "teacher_size": 224,
        "batch_size": 4096,
        "warmup_steps": 5000,
        "fraction": 224 / 256,
        "main": (
            *(of.arm for of in rows),
            *(name.partition("@")[0] for name in beside),
        ),
        "other_arms": (),
        "rows": (
            *(row(of.arm, epochs) for of in rows for epochs in of.cells),
            *beside,
        ),
        "grid": Grid(rates=(0.0003, 0.001, 0.003, 0.01, 0.03)),
        **changes,
    }
    return _papers("imagenet2012", options.pop("weights"), settings, **options)


def _share(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 4)


def _elsewhere(preset: str, name: str, weights: str, **changes: Any):
    """Fields of a small set whose teacher also shows other sets' images (Figure 6)."""
    found = _small(preset, name, weights, related="imagenet2012", **changes)
    main = (*MAIN, "others", "related")
    others = tuple(arm for arm in found["other_arms"] if arm not in main)
    return {**found, "main": main, "other_arms": others}


PRESETS: Mapping[str, dict[str, Any]] = {
    "flowers": _small("flowers", "oxford_flowers102", "R152x2_T_flowers128"),
    "pets": _elsewhere(
        "pets", "oxford_iiit_pet", "R152x2_T_pet128", other_epochs=10_000
    ),
    "food": _small("food", "food101", "R152x2_T_food128"),
    "sun": _elsewhere("sun", "sun397", "R152x2_T_sun128"),
    "imagenet": _imagenet("imagenet", weights="R152x2_T_224", other_epochs=300),
    # Section 3.3 and the ensembles of section 3.6.
    "imagenet_160": _imagenet(
        "imagenet_160",
        weights="R152x2_T_224",
        student_size=160,
        # Beside table 3: what section 3.3's smaller student loses, in one run.
        beside=("full_size@300",),
        other_epochs=300,
    ),
    "imagenet_384": _imagenet(
        "imagenet_384",
        weights="R152x2_T_384",
        stored_size=440,
        teacher_size=384,
        second_weights="weights/R152x2_T_224.npz",
    ),
}
