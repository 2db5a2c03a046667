"""A study that draws a number for each seed, for blocks of seeds and kept results."""

import dataclasses

import numpy as np

from experiments.common import config
from experiments.common.study import Study
from kd_heuristics import plots, runs
from kd_heuristics.runs import Claim

RULE = {"kind": "difference", "smallest_effect": 1.0, "unit": "points", "main": True}
RAN: list[list[int]] = []
KILLED_AT: set[int] = set()  # seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Common):
    """Of a study that draws a number for each seed."""

    dataset: str = "digits_photo"
    looks: tuple[int, ...] = (4, 6, 9)
    noise: float = 0.5


def value(seed, noise):
    return 3 + noise * np.random.default_rng(seed).normal()


def compute(config, folder, progress):
    seeds = [config.first_seed + place for place in range(config.seeds)]
    if KILLED_AT & {*seeds}:
        raise RuntimeError(f"seeds {KILLED_AT} made it fail")
    RAN.append(seeds)
    found = np.array([value(seed, config.noise) for seed in seeds])
    arrays = {"gain": found[:, None] * np.ones(2), "x": np.arange(2)}
    numbers = {"accuracy": runs.summary(found), "lowest": float(found.min())}
    return {
        "seeds": seeds,
        "statistics": {"gain": found},
        "numbers_of": numbers,
    }, arrays


def claims(config):
    return [Claim(key="gain", words="it gains", **RULE)]


def figures(config, results, arrays):
    series = plots.Series(x=arrays["x"], y=arrays["gain"], name="measured")
    axis = plots.Axis(label="x")
    chart = plots.Chart(title="line", x=axis, y=axis, series=(series,))
    words = {"title": "Line", "caption": f"{len(arrays['gain'])} seeds"}
    return {"line": plots.Figure(**words, panels=(chart,), columns=1)}


STUDY = Study(
    name="gains",
    headline="Does it gain?",
    question="Does it?",
    paper="Nobody 2020",
    answers=("gain",),
    figure="line",
    presets={"smoke": Config(seeds=1), "cifar10": Config()},
    compute=compute,
    figures=figures,
    claims=claims,
    shared=("x",),
)
