"""A study's jobs by index: for any array scheduler, and for a Ray cluster.

    python -m experiments.funmatch --preset flowers --sweep list     how many, and which
    python -m experiments.funmatch --preset flowers --sweep 17       one of them
    python -m experiments.funmatch --preset flowers --sweep ray      those not done yet
    python -m experiments.funmatch --preset flowers --sweep ray:num_gpus=1
    python -m experiments.funmatch --preset flowers --sweep gather   what came of them

A job is a run of the study in a folder of its own, `<workdir>-sweep/jobs/00017`; the
same index again goes on where it was interrupted, and a finished one returns at once.
Under Slurm, `sbatch --array=0-99 job.sh` with `--sweep $SLURM_ARRAY_TASK_ID` in the
script; under Kubernetes an indexed job with `--sweep $JOB_COMPLETION_INDEX`. The folder
must be one that all machines see. A job that failed leaves its error there, and
`gather` lists it, with the jobs that never ran.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common import running
from experiments.common.study import Job, Study
from kd_heuristics import runs
from kd_heuristics.runs import code_identity, other_code
from kd_heuristics.runtime import compile_cache


def of(
    study: Study, config: Any, root: Path, on_other_code: runs.OnOtherCode = "refuse"
) -> "Sweep":
    """The sweep of a study that has `jobs` and `scores`.

    Args:
      study: whose `jobs(config)` lists them.
      config: whose jobs these are.
      root: the sweep's folder.
      on_other_code: see `Sweep`.
    """
    assert study.jobs is not None
    assert study.scores is not None
    return Sweep(study, study.jobs(config), study.scores, root, on_other_code)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The jobs of a study's config, and where they run.

    Attributes:
      study: run by each job.
      jobs: in an order that stays.
      scores: `results -> (validation score, what to report)` of a finished job.
      root: folder of the sweep.
      on_other_code: what happens to jobs that other code made than the present: see
        `runs.RunFolder`. "accept" counts them as done.
    """

    study: Study
    jobs: Sequence[Job]
    scores: Callable[[dict], tuple[float, Any]]
    root: Path
    on_other_code: runs.OnOtherCode = "refuse"

    def folder(self, index: int) -> Path:
        """Where a job runs."""
        return self.root / "jobs" / f"{index:05d}"

    def state(self, index: int) -> str:
        """Of a job: "done", "failed", "unfinished" (or running), or "missing".

        "outdated": done by other code than the present.
        """
        folder = self.folder(index)
        for file, state in (
            ("error.json", "failed"),
            ("results.json", "done"),
            ("config.json", "unfinished"),
        ):
            if (folder / file).exists():
                return self._age(folder) if state == "done" else state
        return "missing"

    @functools.cached_property
    def _code(self) -> dict[str, str]:
        return code_identity.modules(self.study.compute)

    def _age(self, folder: Path) -> str:
        """Of a finished job: "done" or "outdated"."""
        changed = code_identity.changed(_made_by(folder), self._code)
        return "outdated" if changed and self.on_other_code != "accept" else "done"

    def run(self, index: int) -> Path:
        """Runs a job, or what is left of it; its folder.

        Raises: ValueError for an index that no job has; InUseError where the job is
          running already, which leaves it alone; CodeChangedError where other code did
          it; what the study raises, after the folder has it in error.json.
        """
        if not 0 <= index < len(self.jobs):
            raise ValueError(
                f"the sweep has the jobs 0..{len(self.jobs) - 1}, got {index}; "
                "--sweep list names them"
            )
        folder = self.folder(index)
        state = self.state(index)
        if state == "done":
            return folder
        if state == "outdated":
            rule = other_code.OtherCode(self.on_other_code)
            rule.use(f"job {index} in {folder}", [_made_by(folder)], self._code)
        try:
            config = self.jobs[index].config
            return running.run(self.study, config, folder, self.on_other_code)
        except runs.InUseError:
            raise
        except Exception as error:
            # running.run records what the study raises, but not what comes before it.
            own = runs.RunFolder(folder)
            with contextlib.suppress(runs.RunError), own.lock():
                own.write_json("error.json", running.describe(error))
            raise

    def gather(self) -> dict[str, Any]:
        """Writes and returns `sweep.json`: the best of each group, and what failed."""
        states = [self.state(index) for index in range(len(self.jobs))]
        table = []
        for index, (job, state) in enumerate(zip(self.jobs, states, strict=True)):
            row: dict[str, Any] = {"index": index, "group": job.group, "state": state}
            folder = runs.RunFolder(self.folder(index))
            if state == "done":
                score, report = self.scores(folder.read_json("results.json"))
                row |= {"validation": score, "report": report}
            elif state == "failed":
                row |= folder.read_json("error.json")
            table.append(row)
        done = [row for row in table if row["state"] == "done"]
        groups = dict.fromkeys(job.group for job in self.jobs)
        found = {
            "count": {state: states.count(state) for state in sorted({*states})},
            "best": {
                group: max(
                    (
                        row
                        for row in done
                        if row["group"] == group and row["validation"] is not None
                    ),
                    key=lambda row: row["validation"],
                    default=None,
                )
                for group in groups
            },
            "jobs": table,
        }
        self.root.mkdir(parents=True, exist_ok=True)
        runs.RunFolder(self.root).write_json("sweep.json", found)
        return found


def _made_by(folder: Path) -> dict[str, str]:
    """The code of a finished job; {} where it was not recorded."""
    known = (folder / running.CODE).exists()
    return runs.RunFolder(folder).read_json(running.CODE) if known else {}


def on_ray(
    make: Callable[[], Sweep], address: str | None = None, **resources: Any
) -> dict[str, Any]:
    """Runs all jobs that are not done on a Ray cluster, then gathers.

    A job that fails leaves its error in its folder, and the others go on.

    Args:
      make: makes the sweep anew on each worker; a module's function.
      address: of the cluster; None: RAY_ADDRESS, or a cluster on this machine.
      **resources: of each job, as `ray.remote` takes them: num_cpus, num_gpus.

    Returns: as `Sweep.gather`.

    Raises: ImportError without the extra `sweep`.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "--sweep ray needs Ray: install kd_heuristics[sweep]"
        ) from error
    sweep = make()
    if not ray.is_initialized():
        ray.init(address=address)
    options: dict[str, Any] = {"num_cpus": 1, **resources}
    work: Any = ray.remote(**options)(_work)
    waiting = [
        work.remote(make, index)
        for index in range(len(sweep.jobs))
        if sweep.state(index) != "done"
    ]
    while waiting:
        (first, *_), waiting = ray.wait(waiting, num_returns=1)
        try:
            print(ray.get(first), flush=True)
        except ray.exceptions.RayError as error:  # a worker died with its job
            print(f"a worker was lost: {error}", flush=True)
    return sweep.gather()


def _work(make: Callable[[], Sweep], index: int) -> str:
    """A job on a worker; its state in words, whatever happened."""
    compile_cache.use()
    sweep = make()
    try:
        sweep.run(index)
    except runs.InUseError as error:
        return f"job {index} is left alone: {error}"
    except Exception as error:
        return f"job {index} failed: {error}"
    return f"job {index} is done"


def command(make: Callable[[], Sweep], word: str) -> None:
    """What `--sweep word` does.

    Raises: ValueError for a word that is neither a number nor one of the others.
    """
    sweep = make()
    if word == "list":
        print(f"{len(sweep.jobs)} jobs, in {sweep.root}")
        for index, job in enumerate(sweep.jobs):
            print(f"{index:5d} {sweep.state(index):10s} {job.group}")
    elif word == "gather" or word.split(":")[0] == "ray":
        found = sweep.gather() if word == "gather" else on_ray(make, **_resources(word))
        print(json.dumps(found["count"]))
        for row in found["jobs"]:
            if row["state"] == "failed":
                print(f"job {row['index']} failed: {row['error']}: {row['message']}")
            elif row["state"] == "outdated":
                print(
                    f"job {row['index']} was done by other code than the present: run "
                    "it with --recompute, or gather with --accept-code"
                )
        print(f"results: {sweep.root / 'sweep.json'}")
        if set(found["count"]) != {"done"}:
            raise SystemExit(running.FAILED)
    elif word.isdigit():
        print(f"results: {sweep.run(int(word)) / 'results.json'}")
    else:
        raise ValueError(
            f"--sweep takes list, gather, ray or the index of a job, got {word!r}"
        )


def _resources(word: str) -> dict[str, Any]:
    """Of each job, from "ray:num_gpus=1,num_cpus=4".

    >>> _resources("ray:num_gpus=0.5"), _resources("ray")
    ({'num_gpus': 0.5}, {})
    """
    pairs = [pair.split("=") for pair in word.partition(":")[2].split(",") if pair]
    return {key: float(value) for key, value in pairs}
