"""Do warm restarts carry SGD from one minimum to another? (Figure 2 and section 3)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.sgdr --preset demo | digits | cifar10

Three schedules train the same network from the same start: SGDR, step decay, and one
cosine over the whole budget (the paper's footnote 4). Pairs of iterates of each run
are joined by the straight segment and by a fitted chain with one bend; the losses along
both say whether the run crossed a barrier. The weight distance stands beside each
barrier, and the cosine's pairs have SGDR's epochs, because a longer way meets a higher
barrier with or without a restart.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch, paths
from kd_heuristics import checkpoints, curves, data, models, nearest, points
from kd_heuristics import plots, schedules, training
from kd_heuristics.report import Claim, judge_all, summary

ARMS = ("sgdr", "step", "cosine")
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A preset of this study. Epochs in pairs count from 0: w_n is after epoch n."""

    seeds: int = 3
    first_seed: int = 0
    dataset: str = "cifar10"
    train_examples: int | None = None  # the first so many; None: all
    model: str = "vgg16"
    width: float = 1.0
    classifier_width: int = 512  # open in the paper; Garipov et al. 2018 have 512
    dropout_rate: float = 0.5
    batch_size: int = 100
    peak_rate: float = 0.05
    end_rate: float = 1e-6
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    epochs: int = 200
    period_epochs: int = 10
    mult: int = 2
    # "epoch": the rate is set once an epoch and each cycle also holds its end value for
    # one, as the paper ran it; "step": exact restarts, the rate set every step.
    restarts: Literal["epoch", "step"] = "epoch"
    drops_epochs: tuple[int, ...] = (60, 150)
    drop_factor: float = 0.2
    sgdr_pairs: tuple[Pair, ...] = ((30, 70), (70, 150), (30, 150))
    step_pairs: tuple[Pair, ...] = ((55, 65), (145, 155), (55, 155))
    # Rate, drops and length are open in the paper: these are its author's later code's.
    chain: paths.Chain = paths.Chain(epochs=101, rate=0.1, drops_epochs=(45, 80))
    intervals: int = 29
    eval_batch_size: int = 500
    # A barrier counts from 5 % of the worse end's loss on; the paper calls 5 % marginal.
    smallest_effect: float = 0.05
    margin: float = 0.05

    def __post_init__(self):
        nearest.choose(self.dataset, data.names(), "dataset")
        options = self.model_options
        models.check(self.model, 10, **options)
        for name in ("seeds", "batch_size", "epochs", "period_epochs", "intervals"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for pair in self.sgdr_pairs + self.step_pairs:
            if not 0 <= pair[0] < pair[1] < self.epochs:
                raise ValueError(
                    f"a pair must be ascending within epochs 0..{self.epochs - 1}, "
                    f"got {pair}"
                )

    @property
    def model_options(self) -> dict[str, Any]:
        """What `models.create` takes beside the name."""
        return {
            "width": self.width,
            "classifier_width": self.classifier_width,
            "dropout_rate": self.dropout_rate,
        }

    def pairs(self, arm: str) -> tuple[Pair, ...]:
        """The pairs of an arm; the cosine's have SGDR's epochs."""
        return self.step_pairs if arm == "step" else self.sgdr_pairs

    def schedule(self, arm: str, steps_per_epoch: int):
        """The learning rate of an arm, a function of the step."""
        steps = self.epochs * steps_per_epoch
        if arm == "cosine":
            return schedules.cosine_decay(self.peak_rate, steps, self.end_rate)
        if arm == "step":
            drops = [epoch * steps_per_epoch for epoch in self.drops_epochs]
            return schedules.step_decay(self.peak_rate, drops, self.drop_factor)
        if self.restarts == "step":
            period = self.period_epochs * steps_per_epoch
            return schedules.sgdr(self.peak_rate, period, self.mult, self.end_rate)
        by_epoch = schedules.sgdr(
            self.peak_rate, self.period_epochs, self.mult, self.end_rate, inclusive=True
        )
        return schedules.per_epoch(by_epoch, steps_per_epoch)


# 30 epochs are SGDR cycles of 2, 4, 8 and 16; the drops lie where they do in the paper,
# at 30 % and 75 % of the budget.
_SMALL = Config(
    dataset="digits_photo",
    model="vgg11",
    width=0.25,
    classifier_width=128,
    peak_rate=0.02,
    epochs=30,
    period_epochs=2,
    restarts="step",
    drops_epochs=(9, 22),
    sgdr_pairs=((5, 13), (13, 29), (5, 29)),
    step_pairs=((7, 10), (20, 23), (7, 23)),
    chain=paths.Chain(epochs=10, rate=0.02, drops_epochs=(7,), momentum=0.9),
)
PRESETS = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=200,
        width=0.05,
        classifier_width=16,
        epochs=3,
        period_epochs=1,
        drops_epochs=(1,),
        sgdr_pairs=((0, 2),),
        step_pairs=((0, 1),),
        chain=paths.Chain(epochs=1, rate=0.02, drops_epochs=()),
        intervals=4,
    ),
    "demo": dataclasses.replace(_SMALL, seeds=1, train_examples=1200),
    "digits": _SMALL,
    "cifar10": Config(),
}


def claims(config: Config) -> tuple[Claim, ...]:
    """What the paper says of this study, as numbers that a run can contradict."""
    rules = {"smallest_effect": config.smallest_effect, "margin": config.margin}
    relative = "of the worse end's train loss"
    paper = {"sgdr 30-70": 0.05, "sgdr 70-150": 1.8, "sgdr 30-150": 2.2}
    barriers = [
        Claim(
            statement=f"{words} between epochs {a} and {b}",
            statistic=f"barrier {arm} {a}-{b}",
            direction=direction,
            unit=relative,
            paper=paper.get(f"{arm} {a}-{b}"),
            **rules,
        )
        for arm, words, direction in (
            ("sgdr", "SGDR crosses a barrier", "above"),
            ("step", "step decay crosses no barrier", "below"),
        )
        for a, b in config.pairs(arm)
    ]
    return (
        *barriers,
        Claim(
            statement="every fitted chain has a lower mean train loss than its segment",
            statistic="least gain of a chain over its segment",
            direction="above",
            unit="of the segment's mean train loss",
            **rules,
        ),
        Claim(
            statement="one cosine over the whole budget does as well as SGDR",
            statistic="final test accuracy, cosine minus SGDR",
            direction="above",
            smallest_effect=0.0,
            margin=0.01,
            unit="accuracy",
        ),
    )


class Laboratory:
    """What all seeds of a run share: data, network, objective, compiled programs."""

    def __init__(self, config: Config, folder, progress):
        self.config, self.folder, self.progress = config, folder, progress
        train = data.load(config.dataset, "train").take(config.train_examples)
        test = data.load(config.dataset, "test")
        network = models.create(config.model, train.num_classes, **config.model_options)
        mean, std = data.channel_stats(train)
        self.classifier = training.Classifier(network, mean, std)
        self.batches = data.train_batches(
            train, config.batch_size, **data.default_augmentation(config.dataset)
        )
        self.sets = {
            "train": data.eval_batches(train, config.eval_batch_size),
            "test": data.eval_batches(test, config.eval_batch_size),
        }
        self.steps_per_epoch = data.steps_per_epoch(len(train), config.batch_size)
        self.example = jnp.zeros((1, *train.images.shape[1:]))
        self.metrics = training.MetricsFile(folder.path / "metrics.jsonl")
        self.schedules = {a: config.schedule(a, self.steps_per_epoch) for a in ARMS}
        self.optimizers = {
            arm: training.sgd(
                schedule, config.momentum, config.weight_decay, config.clip_norm
            )
            for arm, schedule in self.schedules.items()
        }
        self.chain_optimizer = config.chain.optimizer(self.steps_per_epoch)
        self.t = paths.paper_t(config.intervals)

    def train(self, arm: str, seed: int) -> dict[str, np.ndarray]:
        """Trains one arm; its test accuracy an epoch, [epochs]."""
        stage = f"{arm}-seed{seed}"
        self.progress.stage(f"seed {seed}: {arm}")

        def test(state):
            values = training.evaluate(
                self.classifier.metric,
                state.params,
                state.batch_stats,
                self.sets["test"],
            )
            rate = float(self.schedules[arm](state.step - 1))
            return {"learning_rate": rate} | {f"test_{k}": v for k, v in values.items()}

        training.fit(
            self.classifier.supervised,
            *self.start(seed),
            self.optimizers[arm],
            self.batches,
            num_steps=self.config.epochs * self.steps_per_epoch,
            seed=seed,
            log_every_steps=self.steps_per_epoch,
            evaluate=test,
            stage=stage,
            metrics=self.metrics,
            directory=self.folder.checkpoints(stage),
            keep_steps={self.step_of(n) for p in self.config.pairs(arm) for n in p},
            progress=self.progress.advance,
        )
        lines = self.metrics.read(stage)
        names = ("loss", "accuracy", "test_loss", "test_accuracy", "learning_rate")
        return {name: np.array([line[name] for line in lines], float) for name in names}

    def start(self, seed: int):
        """Initial parameters and statistics: the same for all arms of a seed."""
        variables = self.classifier.network.init(jax.random.key(seed), self.example)
        return variables["params"], variables.get("batch_stats", {})

    def step_of(self, epoch: int) -> int:
        """The step at which w_epoch is saved: after that epoch, counted from 0."""
        return (epoch + 1) * self.steps_per_epoch

    def iterate(self, arm: str, seed: int, epoch: int):
        """The parameters w_epoch of an arm."""
        params, batch_stats = self.start(seed)
        like = training.TrainState(
            jnp.int32(0), params, batch_stats, self.optimizers[arm].init(params)
        )
        directory = self.folder.checkpoints(f"{arm}-seed{seed}")
        return checkpoints.restore(directory, like, self.step_of(epoch)).params

    def connect(self, arm: str, seed: int, pair: Pair) -> dict[str, np.ndarray]:
        """Losses and accuracies between two iterates, on the segment and the chain."""
        stage = f"{arm}-{pair[0]}-{pair[1]}-seed{seed}"
        self.progress.stage(f"seed {seed}: {arm} {pair[0]}-{pair[1]}")
        ends = tuple(self.iterate(arm, seed, epoch) for epoch in pair)
        state = training.fit(
            jax.tree_util.Partial(
                paths.chain_objective,
                ends,
                jax.tree_util.Partial(self.classifier.supervised),
            ),
            curves.line(*ends).at(0.5),
            {},
            self.chain_optimizer,
            self.batches,
            num_steps=self.config.chain.epochs * self.steps_per_epoch,
            seed=seed,
            log_every_steps=self.steps_per_epoch,
            stage=stage,
            metrics=self.metrics,
            directory=self.folder.checkpoints(stage),
            progress=self.progress.advance,
        )
        lines = {
            "segment": curves.line(*ends),
            "chain": curves.polychain([ends[0], state.params, ends[1]]),
        }
        values = {
            f"{path}/{name}": array
            for path, curve in lines.items()
            for name, array in paths.evaluate(
                curve, self.t, self.sets, self.classifier.metric, self._advance_points
            ).items()
        }
        return values | {"distance": np.float64(curves.distance(*ends))}

    def _advance_points(self, count: int) -> None:
        self.progress.advance(count)


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, connects and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    found: dict[str, list] = {}

    def collect(prefix, stage, function, *arguments):
        arrays = folder.stage(stage, lambda: function(*arguments))
        for name, array in arrays.items():
            found.setdefault(f"{prefix}/{name}", []).append(array)

    for seed in seeds:
        for arm in ARMS:
            collect(arm, f"{arm}-seed{seed}", lab.train, arm, seed)
        for arm in ARMS:
            for a, b in config.pairs(arm):
                name = f"{arm}/{a}-{b}"
                stage = f"{arm}-{a}-{b}-seed{seed}"
                collect(name, stage, lab.connect, arm, seed, (a, b))
    arrays = {name: np.stack(values) for name, values in found.items()}
    arrays["t"] = lab.t
    return results(config, arrays, list(seeds)), arrays


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    statistics: dict[str, np.ndarray] = {}
    pairs, gains = [], []
    for arm in ARMS:
        for a, b in config.pairs(arm):
            name = f"{arm}/{a}-{b}"
            row = _pair(arrays, name)
            statistics[f"barrier {arm} {a}-{b}"] = row.pop("relative_barrier")
            gains.append(row.pop("gain"))
            pairs.append(
                {"arm": arm, "epochs": [a, b]}
                | {"relative_barrier": summary(statistics[f"barrier {arm} {a}-{b}"])}
                | {key: summary(value) for key, value in row.items()}
            )
    final = {arm: arrays[f"{arm}/test_accuracy"][:, -1] for arm in ARMS}
    statistics["least gain of a chain over its segment"] = np.min(gains, axis=0)
    statistics["final test accuracy, cosine minus SGDR"] = (
        final["cosine"] - final["sgdr"]
    )
    return {
        "seeds": seeds,
        "final_test_accuracy": {arm: summary(value) for arm, value in final.items()},
        "pairs": pairs,
        "claims": judge_all(claims(config), statistics),
    }


def _pair(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """The numbers of one pair, [seeds] each."""
    segment = arrays[f"{name}/segment/train_loss"]
    chain = arrays[f"{name}/chain/train_loss"]
    worse_end = np.maximum(segment[:, 0], segment[:, -1])
    barrier = np.array([points.crossing(values) for values in segment])
    mean = {
        key: np.trapezoid(values, arrays["t"], axis=1)
        for key, values in (("segment", segment), ("chain", chain))
    }
    bend = int(np.searchsorted(arrays["t"], 0.5))
    return {
        "relative_barrier": barrier / worse_end,
        "gain": 1 - mean["chain"] / mean["segment"],
        "barrier_nats": barrier,
        "weight_distance": arrays[f"{name}/distance"],
        "start_train_loss": segment[:, 0],
        "end_train_loss": segment[:, -1],
        "segment_mean_train_loss": mean["segment"],
        "chain_mean_train_loss": mean["chain"],
        "chain_maximum_train_loss": chain.max(axis=1),
        "bend_train_loss": chain[:, bend],
        "bend_test_loss": arrays[f"{name}/chain/test_loss"][:, bend],
        "end_test_loss": arrays[f"{name}/segment/test_loss"][:, -1],
        "least_segment_test_accuracy": arrays[f"{name}/segment/test_accuracy"].min(1),
        "least_chain_test_accuracy": arrays[f"{name}/chain/test_accuracy"].min(1),
    }


STUDY = launch.Study(
    name="sgdr",
    question="Do warm restarts carry SGD from one minimum to another?",
    presets=PRESETS,
    compute=compute,
    draw=plots.sgdr,
    claims=claims,
)

if __name__ == "__main__":
    launch.main(STUDY)
