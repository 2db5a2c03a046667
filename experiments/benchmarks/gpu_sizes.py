"""Sizes of the tables of `gpu`: for a measurement, and in miniature."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the tables.

    Attributes:
      networks: rows of the first table, from `train_step.CASES`, most wanted first.
      batch: images per step.
      turn: seconds of a turn.
      repeats: turns of each contender.
      curve, points, examples: network, points, and images of each of the two sets.
      layers, units, activations, pairs: sizes of the map, and pairs that run one by
        one.
      members, steps: members of the population, and steps of each member per turn.
      widths: widths of the networks whose strategies are compared.
    """

    networks: tuple[str, ...]
    batch: int
    turn: float
    repeats: int
    curve: str
    points: int
    examples: int
    layers: int
    units: int
    activations: int
    pairs: int
    members: int
    steps: int
    widths: tuple[float, ...]


FULL = Sizes(
    networks=("vgg16", "resnet18", "vgg16_quarter", "vgg11", "resnet20"),
    batch=128,
    turn=0.5,
    repeats=5,
    curve="vgg16_bn",
    points=61,
    examples=1024,
    layers=16,
    units=512,
    activations=10_000,
    pairs=4,
    members=8,
    steps=50,
    widths=(0.25, 1.0),
)
QUICK = Sizes(
    networks=("tiny",),
    batch=2,
    turn=0.001,
    repeats=1,
    curve="vgg11_bn",
    points=3,
    examples=4,
    layers=2,
    units=6,
    activations=40,
    pairs=2,
    members=2,
    steps=1,
    widths=(0.05,),
)
