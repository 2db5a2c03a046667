"""A user's own network and images, in place of those that a config names."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import data, models
from kd_heuristics.plots import Chart, Figure
from kd_heuristics.pytrees import leaf_names

SPLITS = ("train", "validation", "test")
Role = Literal["model", "teacher"]  # also the config's field of its name


@dataclasses.dataclass(frozen=True, eq=False)
class Own:
    """What a user gives from Python; `None` leaves it to the config.

    Attributes:
      network: used in place of `config.model`.
      dataset: of each split, used in place of `config.dataset`.
      teacher: used in place of `config.teacher`.
    """

    network: models.Network | None = None
    dataset: Mapping[str, data.Dataset] | None = None
    teacher: models.Network | None = None

    @classmethod
    def of(cls, network: Any, dataset: Any, teacher: Any = None) -> "Own":
        """Checks what `run` of a study takes.

        Args:
          network: a `models.Network`, or None.
          dataset: a `data.Dataset`, which `data.split` splits; `{"train": ..., "test":
            ...}`, with "validation" if the config's `test_split` is that; or None.
          teacher: a `models.Network`, or None.

        Raises: ValueError if they are something else, or the splits differ in kind.
        """
        for name, given in (("network", network), ("teacher", teacher)):
            if given is not None and not isinstance(given, models.Network):
                raise ValueError(
                    f"{name} must be a models.Network, got a {type(given).__name__}; "
                    "make one with models.from_nnx, from_equinox, from_linen or "
                    "from_functions"
                )
        if isinstance(dataset, data.Dataset):
            dataset = data.split(dataset)
        if dataset is not None:
            _check(dataset)
        return cls(network, dataset, teacher)

    @property
    def given(self) -> bool:
        """Whether there is anything of the user's."""
        return any(value is not None for value in vars(self).values())

    def load(self, config: Any, split: str) -> data.Dataset:
        """A split of the user's images, or of the config's set."""
        if self.dataset is None:
            size = getattr(config, "image_size", None)
            return data.load(config.dataset, split, size)
        if split not in self.dataset:
            raise ValueError(
                f"dataset has no split {split!r}, which this config measures on; it "
                f"has {', '.join(self.dataset)}: add it, or change test_split"
            )
        return self.dataset[split]

    def augmentation(self, config: Any, side: int) -> dict[str, Any]:
        """Of training images; a user's are shifted and never mirrored."""
        if self.dataset is None:
            return dict(data.default_augmentation(config.dataset, side))
        return {"padding": side // 8, "flip": False}

    def network_for(
        self, config: Any, num_classes: int, role: Role = "model"
    ) -> models.Network:
        """The user's network of a role, with its layers marked, or the config's.

        Args:
          config: of a study, with the fields `ROLE` and `ROLE_options`.
          num_classes: number of logits.
          role: what the network is for.
        """
        given = self.network if role == "model" else self.teacher
        if given is not None:
            return marked(given)
        name = getattr(config, role)
        made = models.create(name, num_classes, **getattr(config, f"{role}_options"))
        return marked(made) if models.is_own(name) else made


def described(config: Any, own: Own) -> dict[str, Any]:
    """What is the user's, for config.json; {} if nothing is.

    A network from Python stands with its number of parameters and a hash of their names
    and shapes, images with their number and a hash of pixels and labels.
    """
    found: dict[str, Any] = {}
    dataset = getattr(config, "dataset", "")
    for role, network in (("model", own.network), ("teacher", own.teacher)):
        name = str(getattr(config, role, ""))
        if network is not None:
            shape = own.load(config, "train").images.shape[1:]
            if (side := getattr(config, "student_size", None)) is not None:
                shape = (side, side, shape[-1])  # crops of any size
            found[role] = {"name": f"own network {network.name}"}
            found[role] |= _fingerprint(network, shape)
        elif models.is_own(name):
            found[role] = {"name": name}
    if own.dataset is not None:
        name = own.dataset["train"].name
        found["dataset"] = {"name": f"own dataset {name}".rstrip()}
        found["dataset"] |= {k: _of_images(v) for k, v in own.dataset.items()}
    elif dataset and dataset not in data.names():
        found["dataset"] = {"name": dataset}
    return found


def functions(config: Any) -> list[Any]:
    """The user's functions that a config names, for the identity of their code."""
    names = [str(getattr(config, role, "")) for role in get_args(Role)]
    return [models.function(name) for name in names if models.is_own(name)]


def check(study: Any, config: Any, own: Own) -> None:
    """Raises ValueError if a study is given a user's network or images in vain."""
    if own.teacher is not None and not hasattr(config, "teacher"):
        raise ValueError(
            f"{study.name} has no teacher; give its network as network alone"
        )
    if study.own is not None:
        return
    named = [
        f"{field}={value}"
        for field, value in vars(config).items()
        if isinstance(value, str) and models.is_own(value) and "dataset" not in field
    ]
    given = [*named, *(f.name for f in dataclasses.fields(own) if vars(own)[f.name])]
    if given:
        raise ValueError(
            f"{study.name} takes no network or images of your own, got {given[0]}; "
            "all other studies do"
        )


def without_papers(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures without the papers' series and panels."""
    found = {}
    for name, figure in figures.items():
        panels = [_own_series(panel) for panel in figure.panels if not panel.paper]
        if any(panel.still for panel in panels):
            found[name] = dataclasses.replace(figure, panels=panels)
    return found


def _own_series(panel: Any) -> Any:
    if not isinstance(panel, Chart):
        return panel
    series = [series for series in panel.series if not series.paper]
    return dataclasses.replace(panel, series=series)


@functools.cache
def marked(network: models.Network) -> models.Network:
    """A network whose features are named as the studies look for them.

    Studies compare "convolutions", features whose names end in "_conv", and the
    classifier's, which end in "_fc". If no name does, the features of more than two
    axes count as the first, and those of two axes after them as the second.
    """

    def named(found):
        names = sorted(found)
        maps = [name for name in names if found[name].ndim > 2]
        last = names.index(maps[-1]) if maps else -1
        flat = [name for name in names[last + 1 :] if found[name].ndim == 2]
        kinds = {"_conv": maps, "_fc": flat}
        ends = {
            name: kind
            for kind, of in kinds.items()
            if not any(name.endswith(kind) for name in names)
            for name in of
        }
        return {f"{name}{ends.get(name, '')}": found[name] for name in names}

    def features(variables, images):
        return named(network.features(variables, images))

    def train_features(variables, images, key):
        found, batch_stats = network.train_features(variables, images, key)
        return named(found), batch_stats

    return dataclasses.replace(
        network, features=features, train_features=train_features
    )


def _check(dataset: Any) -> None:
    """Raises ValueError unless these are splits of one kind of images."""
    form = 'give a data.Dataset, or {"train": ..., "validation": ..., "test": ...}'
    if not isinstance(dataset, Mapping):
        raise ValueError(f"dataset is a {type(dataset).__name__}; {form}")
    for name, split in dataset.items():
        if name not in SPLITS or not isinstance(split, data.Dataset):
            raise ValueError(f"dataset has {name!r}: {type(split).__name__}; {form}")
    if "train" not in dataset or len(dataset) < 2:
        raise ValueError(f"dataset has the splits {', '.join(dataset)} only; {form}")
    train = dataset["train"]
    for name, split in dataset.items():
        ours = split.images.shape[1:], split.num_classes
        theirs = train.images.shape[1:], train.num_classes
        if ours != theirs:
            raise ValueError(
                f"split {name!r} of dataset has images {ours[0]} of {ours[1]} classes, "
                f"but train has {theirs[0]} of {theirs[1]}; make them alike"
            )


def _fingerprint(network: models.Network, shape: tuple[int, ...]) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = leaf_names.flat(variables["params"])
    words = [f"{name} {leaf.shape} {leaf.dtype}" for name, leaf in leaves.items()]
    return {
        "parameters": sum(math.prod(leaf.shape) for leaf in leaves.values()),
        "sha256": hashlib.sha256("\n".join(words).encode()).hexdigest(),
    }


def _of_images(dataset: data.Dataset) -> dict[str, Any]:
    digest = hashlib.sha256(np.ascontiguousarray(dataset.labels).tobytes())
    digest.update(np.ascontiguousarray(dataset.images).tobytes())
    return {
        "images": len(dataset),
        "shape": [*dataset.images.shape[1:]],
        "classes": dataset.num_classes,
        "sha256": digest.hexdigest(),
    }
