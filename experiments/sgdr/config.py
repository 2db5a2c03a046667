"""Config and presets of the SGDR study; `cifar10` has the paper's numbers."""

import dataclasses
from typing import Annotated, Any, Literal

from annotated_types import Ge

from experiments.common import config as common
from experiments.common import fields, paths
from experiments.sgdr import derived, rates
from kd_heuristics.runs.claims import LOOKS

ARMS = ("sgdr", "step", "cosine")
More = Literal["wsd", "linear", "fge"]
Pair = tuple[fields.Natural, fields.Natural]
Pairs = tuple[Pair, ...]
Side = Annotated[int, Ge(2)]
# The paper leaves rate and length open; these are from its author's later code, whose
# drops never take effect.
_PAPER_CHAIN = paths.Chain(epochs=101, rate=0.1, drops_epochs=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.WithVgg):
    """A preset of this study. Epochs of pairs count from 0: w_n follows epoch n."""

    eval_examples: fields.Count | None = None
    """Images of each set evaluated along the paths. `None` uses all."""
    augmented: bool = True
    """Whether training images are cropped and mirrored, as the dataset allows."""
    peak_rate: fields.Positive = 0.05
    """Learning rate at the start of each cycle."""
    end_rate: fields.NotNegative = 1e-6
    """Learning rate at the end of each cycle."""
    epochs: fields.Count = 200
    """Length of training in epochs."""
    period_epochs: fields.Length = 1 / 20
    """Epochs of the first cycle. A float is a share of `epochs`."""
    mult: fields.Count = 2
    """Length of each cycle relative to the previous one."""
    warmup_epochs: fields.Length = 0
    """Epochs of a linear warmup from 0 in the first cycle, in all arms.
    A float is a share of that cycle."""
    restarts: Literal["epoch", "step"] = "epoch"
    """When the rate is set: "step" restarts exactly, "epoch" sets it once per epoch.
    With "epoch", as in the paper, each cycle also holds its end value for one epoch."""
    drops_epochs: fields.Drops = (0.3, 0.75)
    """Epochs where step decay drops the rate. Floats are shares of `epochs`."""
    drop_factor: fields.Share = 0.2
    """Factor of the rate at each drop of step decay."""
    sgdr_pairs: fields.Derived[Pairs] = fields.DERIVED
    """Epochs of the iterates of SGDR and the cosine that paths join.
    `None` takes the ends of the last three cycles."""
    step_pairs: fields.Derived[Pairs] = fields.DERIVED
    """Epochs of the iterates of step decay that paths join.
    `None` takes those around the first drop, around the last, and around both."""
    step_span: Literal["drop", "rest"] = "drop"
    """Where the last of those pairs lies: around the last drop, or from after the first
    drop to the end, the longer way."""
    chained: Literal["all", "last"] = "all"
    """Pairs that a chain is fitted between: all, or each arm's last pair."""
    chain: paths.Chain = _PAPER_CHAIN
    """Settings for fitting the chain with one bend."""
    intervals: fields.Count = 29
    """Paths are evaluated at t = k / intervals."""
    stats_examples: fields.Count | None = None
    """Training images, in one batch, that re-estimate batch norm's statistics at each
    point of a path. `None` takes all of them, exactly, in several passes."""
    largest_end_loss: fields.Positive | None = None
    """Validity gate: largest train loss at the last pair's ends with which a seed
    counts in the claims about barriers, since a barrier is a share of that loss; other
    seeds count as failed. `None` disables it."""
    planes: fields.Derived[Pairs] = fields.DERIVED
    """Pairs from sgdr_pairs whose plane with the bend is drawn, for the first seed.
    `None` takes the first two, the later one first (Figures 3, 12, 13)."""
    plane_iterates: tuple[fields.Length, ...] = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
    """Epochs of the iterates projected onto the planes.
    Floats are shares of the first plane's pair. Other planes then use quarters."""
    plane_grid: tuple[Side, Side] = (72, 90)  # approximately the paper's
    """Columns and rows of the planes."""
    plane_margin: fields.NotNegative = 0.25
    """Margin around the networks of a plane, as a share of their extent."""
    map_pairs: fields.Derived[tuple[Pair, Pair]] = fields.DERIVED
    """Epochs compared (Figure 14): before and after a restart, then first and last.
    `None` takes the last restart, then the ends of the first and the last cycle."""
    map_examples: fields.Count = 10_000
    """Training images, without augmentation, on which similarities are measured."""
    map_layers: Literal["all", "kernels"] = "all"
    """Layers in the maps: all, or convolutions and dense layers only."""
    measure: Literal["google_cca", "cca", "svcca", "cka", "debiased_cka"] = "google_cca"
    """Measure of similarity."""
    smallest_effect: fields.Positive = 0.05
    """Smallest barrier that counts, as a share of the worse end's loss."""
    # Not of the paper: what restarts may be good for besides, see docs/designs.md.
    more_arms: tuple[More, ...] = ()
    """Further schedules, ending at SGDR's last minimum: a constant rate and a cooldown
    (wsd), a line (linear), or a fall and then short cycles (fge)."""
    cooldown_epochs: fields.Length = 1 / 5
    """Epochs of the cooldown of wsd. A float is a share of its length."""
    fge_epochs: fields.Length = 1 / 28
    """Epochs of each short cycle of fge. A float is a share of its length."""
    fge_minima: fields.Derived[fields.Count] = fields.DERIVED
    """Minima of the short cycles of fge, whose predictions are averaged.
    `None` takes six, or as many as fit."""
    fge_rates: tuple[fields.Share, fields.Share] = (0.2, 0.01)
    """Highest and lowest rate of these cycles, as shares of `peak_rate`."""
    twin_epochs: fields.Drops = ()
    """Epochs after which a twin branches off each SGDR run and sees other batches; 0
    from its start on. Floats are shares of the length up to the last minimum."""
    averaged: bool = False
    """Whether to average the predictions, and the weights, of SGDR's minima, and the
    predictions of those of fge."""

    def check(self):
        super().check()
        for name in ("sgdr_pairs", "step_pairs", "map_pairs"):
            for pair in getattr(self, name):
                if not pair[0] < pair[1] < self.epochs:
                    raise ValueError(
                        f"{name} must be ascending pairs within epochs 0.."
                        f"{self.epochs - 1}, got {pair}; None follows from epochs"
                    )
        if self.warmup_epochs > self.period_epochs:
            raise ValueError(
                "warmup_epochs must end within the first cycle, of "
                f"{self.period_epochs} epochs, got {self.warmup_epochs}; give a share "
                "such as 0.5, or a longer period_epochs"
            )
        if len({*self.more_arms}) < len(self.more_arms):
            raise ValueError(f"more_arms must name each once, got {self.more_arms}")
        derived.check_within("cooldown_epochs", self.cooldown_epochs, self.minima[-1])
        if "wsd" in self.more_arms and not self.cooldown_epochs > 0:
            raise ValueError(
                "cooldown_epochs must be above 0 for the arm wsd, got "
                f"{self.cooldown_epochs}; give a share such as 0.2"
            )
        if "fge" in self.more_arms:
            derived.check_short(self)
        for epochs in self.twin_epochs:
            derived.check_within("twin_epochs", epochs, self.minima[-1] - 1)
        for pair in self.planes:
            if pair not in self.joined("sgdr"):
                raise ValueError(
                    f"planes must be among the pairs of SGDR whose chains are fitted, "
                    f"{self.joined('sgdr')}; got {pair}"
                )
        if not all(epoch < self.epochs for epoch in self.plane_iterates):
            raise ValueError(
                f"plane_iterates must be within epochs 0..{self.epochs - 1}, got "
                f"{self.plane_iterates}; give shares such as 0.5"
            )

    def derived(self) -> dict[str, Any]:
        """Returns cycles and drops in epochs, and the iterates derived from them."""
        if self.epochs < 2:
            raise ValueError(
                f"epochs must be at least 2, to have a pair, got {self.epochs}"
            )
        for name in ("sgdr_pairs", "step_pairs"):
            if getattr(self, name) == ():
                raise ValueError(
                    f"{name} must have at least one pair, got none; None follows from "
                    "epochs"
                )
        for name in ("period_epochs", "fge_epochs"):
            if getattr(self, name) == 0:
                raise ValueError(
                    f"{name} must be at least 1, got 0; give a share such as 0.25"
                )
        (period,) = fields.within((self.period_epochs,), self.epochs)
        (warmup,) = fields.within((self.warmup_epochs,), period)
        drops = fields.drops("drops_epochs", self.drops_epochs, self.epochs)
        offset = 1 if self.restarts == "step" else 0
        ends = derived.ends(period, self.mult, self.epochs, offset)
        steps = derived.around(drops, self.epochs, offset)
        if steps and self.step_span == "rest":
            steps = derived.to_the_end(steps[0], self.epochs)
        if not steps and self.step_pairs is None:
            raise ValueError(
                f"step_pairs of None need a drop in epochs 1..{self.epochs - 1}, got "
                f"drops_epochs {drops}; give step_pairs or another drop"
            )
        sgdr = fields.given(self.sgdr_pairs, derived.chained(ends[-3:]))
        drawn = sgdr[1::-1] if self.chained == "all" else (max(sgdr),)
        planes = fields.given(self.planes, drawn)
        compared = derived.compared(ends, self.epochs, offset)
        minima = derived.minima(period, self.mult, self.epochs, offset == 0)
        length = 1 + max(minima, default=self.epochs - 1)
        short, number = derived.short(self.fge_epochs, self.fge_minima, length)
        return {
            "fge_epochs": short,
            "fge_minima": number,
            "cooldown_epochs": fields.within((self.cooldown_epochs,), length)[0],
            "twin_epochs": derived.branches(self.twin_epochs, length),
            "period_epochs": period,
            "warmup_epochs": warmup,
            "drops_epochs": drops,
            "sgdr_pairs": sgdr,
            "step_pairs": fields.given(self.step_pairs, steps),
            "planes": planes,
            "plane_iterates": derived.on_planes(planes, self.plane_iterates),
            "map_pairs": fields.given(self.map_pairs, compared),
        }

    @property
    def minima(self) -> tuple[int, ...]:
        """The epochs, from 0, at whose ends SGDR's rate is at its lowest."""
        cycles = self.resolved.period_epochs, self.mult, self.epochs
        found = derived.minima(*cycles, inclusive=self.restarts == "epoch")
        return found or (self.epochs - 1,)

    @property
    def last_minimum(self) -> int:
        """The last of them, where accuracies are compared: else the rate is high."""
        return self.minima[-1]

    @property
    def short_minima(self) -> tuple[int, ...]:
        """The epochs at whose ends the rate of fge is at its lowest, () without it."""
        config = self.resolved
        before = reversed(range(config.fge_minima if "fge" in self.more_arms else 0))
        last, period = self.last_minimum, config.fge_epochs
        return tuple(last - cycles * period for cycles in before)

    @property
    def arms(self) -> tuple[str, ...]:
        """The schedules that train: the study's, then further ones."""
        return ARMS + self.more_arms

    @property
    def lens_iterates(self) -> tuple[int, ...]:
        """The epochs of iterates that twins and averages need; -1 is the start."""
        minima = self.minima if self.averaged else self.minima[-1:]
        minima = tuple(sorted({*minima, *self.short_minima}))
        starts = tuple(epochs - 1 for epochs in self.twin_epochs)
        return starts + minima if starts or self.averaged else ()

    def pairs(self, arm: str) -> tuple[Pair, ...]:
        """Returns the pairs of an arm; the cosine has SGDR's."""
        config = self.resolved
        return config.step_pairs if arm == "step" else config.sgdr_pairs

    def joined(self, arm: str) -> tuple[Pair, ...]:
        """Returns the pairs of an arm that a chain is fitted between."""
        pairs = self.pairs(arm)
        return pairs if self.chained == "all" else (max(pairs),)

    def schedule(self, arm: str, steps_per_epoch: int):
        """Returns the learning rate of an arm as a function of the step."""
        return rates.of_arm(self.resolved, arm, steps_per_epoch)


_CHAIN = paths.Chain(
    epochs=8,
    rate=0.02,
    schedule="cosine",
    drops_epochs=(),
    momentum=0.9,
    clip_norm=1.0,
)
_SMALL = Config(
    dataset="digits_photo",
    train_examples=2400,
    eval_examples=800,
    augmented=False,
    model="vgg11_bn",
    width=0.125,
    classifier_width=256,
    dropout_rate=0.0,
    decayed="kernels",
    batch_size=50,
    peak_rate=0.3,
    clip_norm=3.0,
    on_nonfinite="record",
    epochs=56,
    period_epochs=1 / 7,
    warmup_epochs=1 / 2,
    restarts="step",
    step_span="rest",
    chained="last",
    chain=_CHAIN,
    intervals=10,
    stats_examples=800,
    largest_end_loss=0.05,
    map_examples=600,
    map_layers="kernels",
    plane_iterates=(1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4),
    plane_grid=(11, 11),
    eval_batch_size=400,
)
PRESETS = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=128,
        eval_examples=64,
        augmented=True,
        model="shallow",  # compiles in a third of the time
        width=0.05,
        classifier_width=16,
        batch_size=32,
        peak_rate=0.02,
        clip_norm=1.0,
        on_nonfinite="raise",
        epochs=3,
        period_epochs=1 / 15,
        warmup_epochs=0,
        drops_epochs=(1 / 3,),
        step_span="drop",
        chained="all",
        chain=paths.Chain(epochs=1, rate=0.02, drops_epochs=()),
        intervals=4,
        stats_examples=None,
        largest_end_loss=None,
        map_examples=128,
        map_layers="all",
        plane_grid=(3, 3),
        eval_batch_size=200,
        more_arms=("wsd", "linear", "fge"),
        twin_epochs=(1 / 3,),
        averaged=True,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=1,
        epochs=14,
        chain=dataclasses.replace(_CHAIN, epochs=2),
        plane_iterates=(1 / 8, 1 / 4, 1 / 2, 3 / 4),
    ),
    "digits": dataclasses.replace(_SMALL, seeds="auto", looks=LOOKS),
    "fashion": dataclasses.replace(
        _SMALL, **common.FASHION, batch_size=100, peak_rate=0.2, warmup_epochs=1 / 4
    ),
    "fashion_full": Config(dataset="fashion_mnist", image_size=32),
    "lenses": dataclasses.replace(
        _SMALL,
        **common.family(4),
        more_arms=("wsd", "linear", "fge"),
        twin_epochs=(0, 1 / 7, 3 / 7),
        averaged=True,
    ),
    "cifar10": Config(),
}
