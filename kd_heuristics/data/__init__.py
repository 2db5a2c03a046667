"""Loads labelled image sets, batches them and augments them.

    from kd_heuristics import data

    train = data.load("digits_photo", "train")
    batches = data.train_batches(train, 128, **data.default_augmentation(train.name))
    batch = batches(seed, step)  # pure: the same arguments, the same batch

`load` also takes a path to your own images, `from_arrays` arrays in memory; `split`
makes the three splits of a set that has none.

`stream` reads large sets of images of any size from disk. A view defines what the
teacher and the student see of each image:

    view = data.views.create("mix", teacher_size=224)
    batches = data.stream("imagenet2012", "train", 4096, seed, view=view, workers=32)
"""

from kd_heuristics.data import views
from kd_heuristics.data.augment import (
    augment,
    augment_batches,
    channel_stats,
    normalize,
    random_crop,
    random_flip,
)
from kd_heuristics.data.batches import (
    batch_indices,
    eval_batches,
    num_steps,
    steps_per_epoch,
    train_batches,
)
from kd_heuristics.data.dataset import UNLABELLED, Dataset
from kd_heuristics.data.described import is_prepared
from kd_heuristics.data.original_targets import ensemble_targets_of_originals
from kd_heuristics.data.own import from_arrays, split
from kd_heuristics.data.records import BadRecordError
from kd_heuristics.data.sets import (
    Description,
    default_augmentation,
    describe,
    find,
    load,
    names,
)
from kd_heuristics.data.splits import BadDataError
from kd_heuristics.data.streaming import Stream, batch_metrics, stream
from kd_heuristics.data.targets import TargetsError, ensemble_targets
from kd_heuristics.data.tfds import MissingDatasetError

__all__ = [
    "UNLABELLED",
    "BadDataError",
    "BadRecordError",
    "Dataset",
    "Description",
    "MissingDatasetError",
    "Stream",
    "TargetsError",
    "augment",
    "augment_batches",
    "batch_indices",
    "batch_metrics",
    "channel_stats",
    "default_augmentation",
    "describe",
    "ensemble_targets",
    "ensemble_targets_of_originals",
    "eval_batches",
    "find",
    "from_arrays",
    "is_prepared",
    "load",
    "names",
    "normalize",
    "num_steps",
    "random_crop",
    "random_flip",
    "split",
    "steps_per_epoch",
    "stream",
    "train_batches",
    "views",
]
