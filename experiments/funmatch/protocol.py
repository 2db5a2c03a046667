"""What the paper has for each field of FunMatch, for each of its sets.

"Code" is the authors' released code, big_vision.
"""

from collections.abc import Mapping
from typing import Any

from experiments.common.protocol import COMMON, OPEN, OURS, Entry, ours

_OURS = [
    "streamed",
    "held_examples",
    "workers",
    "on_bad",
    "teacher_examples",
    "teacher_epochs",
    "teacher_rate",
    "teacher_view",
    "points",
]
_ALL = {
    **COMMON,
    **ours(*_OURS),
    "seeds": Entry(1, "table 4"),
    "test_split": Entry("test", "table 4"),
    "train_examples": Entry(None, "text"),
    "teacher": Entry("bit_r152x2", "text"),
    "teacher_width": Entry(1.0, "text"),
    "model": Entry("bit_r50x1", "text"),
    "width": Entry(1.0, "text"),
    "second_weights": Entry(None, "table 4: one teacher"),
    "whole_size": Entry(224, "section 3.1, Figure 3"),
    "small_family": Entry("mobilenet_v3_small", "table 3"),
    "clip_norm": Entry(1.0, "code"),
    "moment_dtype": Entry("bfloat16", "code"),
    "sgd_rate_factor": Entry(OPEN, "section 3.9", "a usual ratio"),
    "sgd_momentum": Entry(OPEN, "section 3.9", "the usual momentum"),
    "shampoo_warmup_steps": Entry(1800, "appendix D"),
    "shampoo_decay": Entry(3.75e-4, "appendix D"),
    "shampoo_rate_factor": Entry(OPEN, "section 3.4", "Adam's rate"),
    "ensemble_crops": Entry(1000, "text"),
    "flip": Entry(True, "code"),
    "smallest_area": Entry(0.05, "code"),
}


def _small(
    name: str,
    weights: str,
    settings: Mapping[str, tuple],
    other_epochs: Entry,
    elsewhere: bool = False,
) -> dict[str, Entry]:
    """The entries of a small set.

    Args:
      name: of the set.
      weights: file of its teacher.
      settings: its columns of table 4.
      other_epochs: of the arms that run at one length.
      elsewhere: whether section 3.8 teaches it on other sets' images.
    """
    where = "section 3.8, Figure 6"
    images = {name: Entry(OURS) for name in ("others", "related")}
    if elsewhere:
        images = {
            "others": Entry("food101", where),
            "related": Entry("imagenet2012", where),
        }
    return {
        **_ALL,
        **ours("family", "rows"),
        **images,
        **_settings(settings, "table 4"),
        "dataset": Entry(name, "table 4"),
        "student_weights": Entry(
            OPEN,
            "table 4: best transfer, of a ResNet-50",
            "BiT-M, as in section 3.5; all arms have FunMatch's settings, the sweep "
            "tries the grid",
        ),
        "stored_size": Entry(160, "code: resized to 160 before a crop"),
        "teacher_weights": Entry(f"weights/{weights}.npz", "released with the code"),
        "teacher_size": Entry(128, "text"),
        "student_size": Entry(128, "text"),
        "batch_size": Entry(512, "text"),
        "main": Entry(
            "every variant of Figure 3"
            + (", and other images (Figure 6)" if elsewhere else ""),
            "text",
            "the other variants run at one length each",
        ),
        "other_arms": Entry(
            "labels from scratch and best transfer",
            "table 4",
            "also the variants outside the main arms, and arms of ImageNet",
        ),
        "other_epochs": other_epochs,
        "warmup_steps": Entry(1500, "code"),
        "fraction": Entry(128 / 160, "code"),
        "grid.rates": Entry((0.0003, 0.001, 0.003, 0.01), "text"),
        "grid.decays": Entry((1e-5, 3e-5, 1e-4, 3e-4, 1e-3), "text"),
        "grid.temperatures": Entry((1.0, 2.0, 5.0, 10.0), "text"),
    }


def _settings(columns: Mapping[str, tuple], source: str) -> dict[str, Entry]:
    """The entries of the lengths, by column; accuracies in per cent."""
    accuracies = tuple(round(value / 100, 4) for value in columns["paper"])
    found: dict[str, Any] = {**columns, "paper": accuracies}
    return {f"settings.{name}": Entry(found[name], source) for name in found}


def _imagenet(
    epochs: tuple,
    accuracies: tuple,
    rows: Mapping[str, tuple],
    beside: str = "",
    /,
    **changes: Entry,
) -> dict[str, Entry]:
    """The entries of rows of table 3, all lengths with the released setting.

    Args:
      epochs: of all rows.
      accuracies: of FunMatch's row.
      rows: lengths of each arm.
      beside: why more is trained than these rows, if it is.
      **changes: other entries.
    """
    size = len(epochs)
    cells = tuple(f"{arm}@{length}" for arm in rows for length in rows[arm])
    columns = {"epochs": epochs, "paper": accuracies}
    setting = {"rate": (0.03,) * size, "decay": (3e-4,) * size}
    why = "the small sets', and the released rate, which lies outside"
    return {
        **_ALL,
        **ours("others", "related", "other_epochs"),
        **_settings(columns, "table 3"),
        **{f"settings.{k}": Entry(v, "code") for k, v in setting.items()},
        "settings.temperature": Entry((1.0,) * size, "code"),
        "dataset": Entry("imagenet2012", "table 3"),
        "stored_size": Entry(256, "code: resized to 256 before a central crop"),
        "teacher_weights": Entry("weights/R152x2_T_224.npz", "released with the code"),
        "teacher_size": Entry(224, "text"),
        "student_size": Entry(224, "text"),
        "student_weights": Entry("weights/BiT-M-R50x1.npz", "section 3.5"),
        "family": Entry("mobilenet_v3_large", "section 3.6, table 3"),
        "batch_size": Entry(4096, "code"),
        "main": Entry((*rows,), "table 3", beside),
        "other_arms": Entry((), "table 3: several lengths each"),
        "rows": Entry(cells, "table 3: its cells", beside),
        "warmup_steps": Entry(5000, "code"),
        "fraction": Entry(224 / 256, "code"),
        "grid.rates": Entry(OPEN, "code has one setting", why),
        "grid.decays": Entry(OPEN, "code has one setting", why),
        "grid.temperatures": Entry(OPEN, "code has one setting", why),
        **changes,
    }


_ALL_LENGTHS = (30, 90, 300, 600, 1_200, 4_800, 9_600)
_LABELS = (90, 300, 1_200, 4_800)
PROTOCOL = {
    "flowers": _small(
        "oxford_flowers102",
        "R152x2_T_flowers128",
        {
            "epochs": (1_000, 10_000, 100_000, 1_000_000),
            "rate": (0.003, 0.003, 0.001, 0.0003),
            "decay": (1e-3, 3e-4, 1e-4, 1e-5),
            "temperature": (10.0, 10.0, 1.0, 1.0),
            "paper": (77.51, 92.83, 95.54, 96.93),
        },
        Entry(10_000, "Figure 3; table 4, of its other rows"),
    ),
    "pets": _small(
        "oxford_iiit_pet",
        "R152x2_T_pet128",
        {
            "epochs": (300, 1_000, 3_000, 10_000, 30_000),
            "rate": (0.01, 0.01, 0.003, 0.001, 0.003),
            "decay": (1e-5, 1e-3, 3e-4, 1e-4, 1e-5),
            "temperature": (2.0, 5.0, 10.0, 2.0, 2.0),
            "paper": (82.75, 88.01, 90.08, 90.98, 91.06),
        },
        Entry(10_000, "table 4, of its other rows"),
        elsewhere=True,
    ),
    "food": _small(
        "food101",
        "R152x2_T_food128",
        {
            "epochs": (100, 1_000, 3_000),
            "rate": (0.01, 0.001, 0.01),
            "decay": (1e-3, 3e-4, 1e-4),
            "temperature": (10.0, 10.0, 5.0),
            "paper": (83.29, 86.64, 87.20),
        },
        Entry(1_000, "table 4, of its other rows"),
    ),
    "sun": _small(
        "sun397",
        "R152x2_T_sun128",
        {
            "epochs": (100, 1_000, 3_000),
            "rate": (0.01, 0.003, 0.01),
            "decay": (1e-3, 1e-4, 3e-5),
            "temperature": (10.0, 10.0, 10.0),
            "paper": (68.28, 73.46, 74.26),
        },
        Entry(1_000, "table 4, of its other rows"),
        elsewhere=True,
    ),
    "imagenet": _imagenet(
        _ALL_LENGTHS,
        (73.89, 78.00, 80.30, 81.17, 81.54, 82.18, 82.31),
        {
            "fix/cc": _ALL_LENGTHS,
            "same/ic": _ALL_LENGTHS,
            "mix": _ALL_LENGTHS,
            "shampoo_same": (30, 90, 300, 600, 1_200),
            "shampoo": (30, 90, 300, 1_200),
            "mobilenet_gn": (300, 1_200, 4_800, 9_600),
            "mobilenet_small": (300, 1_200),
            "mobilenet_bn": (300, 1_200),
            "pretrained": (30, 90, 300, 600, 1_200, 4_800),
            "labels_sgd": _LABELS,
            "labels": _LABELS,
            "labels_sgd+mixup": _LABELS,
            "labels+mixup": _LABELS,
        },
    ),
    "imagenet_160": _imagenet(
        (30, 90, 300, 600, 1_200, 9_600),
        (70.22, 75.34, 78.17, 79.07, 79.61, 80.49),
        {
            "same/ic": (30, 90, 300),
            "mix": (30, 90, 300, 600, 1_200, 9_600),
        },
        "also a student at the teacher's size, to compare the two in one run",
        student_size=Entry(160, "section 3.3"),
        **ours("student_weights", "family", "small_family", "other_epochs"),
    ),
    "imagenet_384": _imagenet(
        (300, 1_200, 4_800, 9_600),
        (80.46, 81.82, 82.33, 82.64),
        {
            "mix": (300, 1_200, 4_800, 9_600),
            "ensemble": (1_200, 4_800, 9_600),
            "mobilenet_gn_two": (300, 1_200),
            "mobilenet_bn_two": (300,),
        },
        stored_size=Entry(
            OPEN, "section 3.3", "its central crop has about the teacher's size"
        ),
        teacher_size=Entry(384, "section 3.3"),
        teacher_weights=Entry("weights/R152x2_T_384.npz", "released with the code"),
        second_weights=Entry("weights/R152x2_T_224.npz", "section 3.6"),
        **ours("student_weights", "small_family"),
    ),
}
