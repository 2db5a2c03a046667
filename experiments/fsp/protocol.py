"""What the paper has for each field of the FSP study, by the paper's tables."""

from experiments.common.protocol import COMMON, OPEN, Entry, ours

_FAST = "section 4.1.1"
_CIFAR10 = {
    **COMMON,
    **ours("points", "source_classes", "source_weights", "target_examples", "left_out"),
    **ours("model_layers", "teacher_layers", "timing_steps"),
    "seeds": Entry(1, "tables 1 to 5", "a spread of averages and gaps needs several"),
    "dataset": Entry("cifar10", "tables 1 and 3"),
    "test_split": Entry("test", "section 4"),
    "train_examples": Entry(None, "section 4"),
    "nets": Entry(3, "table 1"),
    "image_size": Entry(None, "section 4.1.1"),
    "test_examples": Entry(None, "section 4"),
    "padding": Entry(4, "section 4.1.1, which names no flip"),
    "teacher": Entry("resnet26", "tables 1 and 3"),
    "model": Entry("resnet8", "table 3"),
    "width": Entry(OPEN, why="as the ResNets of He et al. 2016 for CIFAR"),
    "batch_size": Entry(OPEN, why="as the recipe of He et al. 2016"),
    "teacher_phase.steps": Entry(64_000, _FAST),
    "teacher_phase.rate": Entry(0.1, _FAST),
    "teacher_phase.drops": Entry((32_000, 48_000), _FAST),
    "fast_phase.steps": Entry(21_000, _FAST),
    "fast_phase.rate": Entry(0.1, _FAST),
    "fast_phase.drops": Entry((11_000, 16_000), _FAST),
    "fsp_phase.steps": Entry(21_000, _FAST),
    "fsp_phase.rate": Entry(0.001, _FAST),
    "fsp_phase.drops": Entry((11_000, 16_000), _FAST),
    "hint_phase.steps": Entry(35_000, "section 4, FitNet"),
    "hint_phase.rate": Entry(0.0001, "section 4, FitNet"),
    "hint_phase.drops": Entry((25_000,), "section 4, FitNet"),
    "drop_factor": Entry(0.1, "section 4"),
    "momentum": Entry(0.9, _FAST),
    "weight_decay": Entry(0.0001, _FAST),
    "clip_norm": Entry(None, "not mentioned"),
    "pair_weight": Entry(OPEN, "section 3: equal for all pairs", "the sum as it is"),
    "temperature": Entry(3.0, "section 4, FitNet"),
    "fast": Entry(True, "tables 1 and 2"),
    "small": Entry(True, "tables 3 and 4"),
    "transfer": Entry(
        False, "table 5 is of CUB alone", "half of the classes stand in for ImageNet"
    ),
    "input_batch_norm": Entry(True, "section 4"),
    "transfer_phase.steps": Entry(30_000, "section 4.3"),
    "transfer_phase.rate": Entry(0.1, "section 4.3"),
    "transfer_phase.drops": Entry((10_000, 20_000), "section 4.3"),
    "transfer_fsp_phase.steps": Entry(21_000, "section 4.3"),
    "transfer_fsp_phase.rate": Entry(0.1, "section 4.3"),
    "transfer_fsp_phase.drops": Entry((11_000, 16_000), "section 4.3"),
    "paper_tables": Entry(
        "table1, table3",
        "section 4",
        "table 5 is named too, and shown beside the transfer to birds alone",
    ),
}
_CIFAR100 = {
    **_CIFAR10,
    "dataset": Entry("cifar100", "tables 2 and 4"),
    "padding": Entry(0, "section 4.1: no augmentation"),
    "nets": Entry(3, "table 2"),
    "teacher": Entry("resnet32", "tables 2 and 4"),
    "model": Entry("resnet14", "table 4"),
    "width": Entry(4.0, "section 4.1: 4 times the channels of the CIFAR-10 net"),
    "fsp_phase.steps": Entry(32_000, "section 4.1"),
    "fsp_phase.drops": Entry((16_000, 24_000), "section 4.1"),
    "paper_tables": Entry("table2, table4", "section 4", _CIFAR10["paper_tables"].why),
}
_PHASES = ("teacher_phase", "fast_phase", "fsp_phase")
# By table 5 with a teacher of ImageNet.
_UNUSED = ["nets", *(name for name in _CIFAR10 if name.startswith(_PHASES))]
_CUB = {
    **_CIFAR10,
    **ours(*_UNUSED),
    "dataset": Entry("caltech_birds2011", "section 4.3"),
    "image_size": Entry(OPEN, why="the size of ImageNet's networks"),
    "padding": Entry(OPEN, why="an eighth of the side, as for CIFAR"),
    "teacher": Entry("resnet34_imagenet", "table 5"),
    "model": Entry("resnet20_imagenet", "table 5"),
    "width": Entry(1.0, "section 4.3"),
    "batch_size": Entry(OPEN, why="what one accelerator holds"),
    "momentum": Entry(OPEN, why="as for CIFAR"),
    "weight_decay": Entry(OPEN, why="as for CIFAR"),
    "fast": Entry(False, "table 5"),
    "small": Entry(False, "table 5"),
    "transfer": Entry(True, "table 5"),
    "source_classes": Entry(None, "section 4.3: from ImageNet"),
    "source_weights": Entry(
        "of ImageNet",
        "section 4.3",
        "not shipped; without a file the teacher is trained from scratch",
    ),
    "target_examples": Entry(None, "section 4.3"),
    "input_batch_norm": Entry(OPEN, why="ImageNet's ResNets have none"),
    "paper_tables": Entry(
        "table5", "section 4", "tables 1 and 3 are named too, though not made"
    ),
}
PROTOCOL = {"cifar10": _CIFAR10, "cifar100": _CIFAR100, "cub": _CUB}
