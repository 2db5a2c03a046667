"""A study that computes nothing, for sweeps: value 3 fails, value 5 is best."""

import dataclasses
import functools
import os
import pathlib

from experiments.common import sweep
from experiments.common.study import Job, Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Of a study that computes nothing."""

    value: int = 0
    fails: bool = False


def compute(config, folder, progress):
    progress.start(1)
    if config.fails:
        raise RuntimeError(f"value {config.value} made it fail")
    (folder.path / "computed").touch(exist_ok=False)
    return {"score": -abs(config.value - 5), "claims": []}, {}


STUDY = Study(
    name="none",
    headline="",
    question="",
    paper="",
    presets={"cifar10": Config()},
    compute=compute,
    figures=lambda config, results, arrays: {},
    claims=lambda config: (),
)


def jobs(count, failing):
    return [
        Job(
            "even" if value % 2 == 0 else "odd",
            Config(value=value, fails=value == failing),
        )
        for value in range(count)
    ]


def scores(results):
    return results["score"], results["score"]


def make(root, count=8, failing=3):
    return sweep.Sweep(STUDY, jobs(count, failing), scores, root)


def on_ray(root):
    """All jobs on a cluster of this machine. For a process where JAX has no threads."""
    import ray  # of the extra `sweep`, which `make test-all` installs

    paths = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # of the workers
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    sweep.on_ray(functools.partial(make, pathlib.Path(root)))
    ray.shutdown()
