"""A study's jobs by index, for any array scheduler or a Ray cluster.

    python -m experiments.funmatch --preset flowers --sweep list     lists the jobs
    python -m experiments.funmatch --preset flowers --sweep 17       runs one job
    python -m experiments.funmatch --preset flowers --sweep ray      runs the others
    python -m experiments.funmatch --preset flowers --sweep ray:num_gpus=1
    python -m experiments.funmatch --preset flowers --sweep gather   collects results

A job is a run of the study in its own folder, `<workdir>-sweep/jobs/00017`. The same
index resumes an interrupted job; a finished job returns at once. On Slurm, use
`sbatch --array=0-99 job.sh` with `--sweep $SLURM_ARRAY_TASK_ID` in the script; on
Kubernetes, an indexed job with `--sweep $JOB_COMPLETION_INDEX`. All machines must see
the folder. A failed job leaves its error there; `gather` lists failed jobs and jobs
that never ran.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common import records, running
from experiments.common.study import Job, Study
from kd_heuristics import runs
from kd_heuristics.runs import code_identity, other_code
from kd_heuristics.runtime import compile_cache


def of(
    study: Study, config: Any, root: Path, on_other_code: runs.OnOtherCode = "refuse"
) -> "Sweep":
    """Makes the sweep of a study that has `jobs` and `scores`.

    Args:
      study: study whose `jobs(config)` lists the jobs.
      config: config of the sweep.
      root: folder of the sweep.
      on_other_code: see `Sweep`.
    """
    assert study.jobs is not None
    assert study.scores is not None
    return Sweep(study, study.jobs(config), study.scores, root, on_other_code)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Jobs of a study's config, and their folders.

    Attributes:
      study: study that each job runs.
      jobs: jobs in a fixed order.
      scores: `results -> (validation score, values to report)` of a finished job.
      root: folder of the sweep.
      on_other_code: treatment of jobs that other code made, see `runs.RunFolder`.
        "accept" counts them as done.
    """

    study: Study
    jobs: Sequence[Job]
    scores: Callable[[dict], tuple[float, Any]]
    root: Path
    on_other_code: runs.OnOtherCode = "refuse"

    def folder(self, index: int) -> Path:
        """Returns the folder of a job."""
        return self.root / "jobs" / f"{index:05d}"

    def state(self, index: int) -> str:
        """Returns a job's state.

        One of "done", "outdated" (done by other code), "failed", "unfinished" (or
        running) and "missing".
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
        """The present code of the study."""
        return code_identity.modules(self.study.compute)

    def _age(self, folder: Path) -> str:
        """Returns "done" or "outdated" for a finished job."""
        changed = code_identity.changed(_made_by(folder), self._code)
        return "outdated" if changed and self.on_other_code != "accept" else "done"

    def config(self, index: int) -> Any:
        """Returns the config of a job; raises ValueError if no job has the index."""
        if not 0 <= index < len(self.jobs):
            raise ValueError(
                f"the sweep has the jobs 0..{len(self.jobs) - 1}, got {index}; "
                "--sweep list names them"
            )
        return self.jobs[index].config

    def run(self, index: int) -> Path:
        """Runs or resumes a job; returns its folder.

        Raises: ValueError if no job has the index; InUseError if the job is already
          running; CodeChangedError if other code ran it; what the study raises, after
          writing it to error.json.
        """
        config = self.config(index)
        folder = self.folder(index)
        state = self.state(index)
        if state == "done":
            return folder
        if state == "outdated":
            rule = other_code.OtherCode(self.on_other_code)
            rule.use(f"job {index} in {folder}", [_made_by(folder)], self._code)
        try:
            return running.run(self.study, config, folder, self.on_other_code)
        except runs.InUseError:
            raise
        except Exception as error:
            # running.run records what the study raises, but not earlier errors.
            own = runs.RunFolder(folder)
            with contextlib.suppress(runs.RunError), own.lock():
                own.write_json("error.json", running.describe(error))
            raise

    def gather(self) -> dict[str, Any]:
        """Writes and returns `sweep.json`: the best job of each group, and failures."""
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
    """Returns the code of a finished job, {} if it was not recorded."""
    known = (folder / records.CODE).exists()
    return runs.RunFolder(folder).read_json(records.CODE) if known else {}


def on_ray(
    make: Callable[[], Sweep], address: str | None = None, **resources: Any
) -> dict[str, Any]:
    """Runs all unfinished jobs on a Ray cluster, then gathers.

    A failed job leaves its error in its folder; the others continue.

    Args:
      make: makes the sweep on each worker; must be a function of a module.
      address: address of the cluster; `None` uses RAY_ADDRESS, or a cluster on this
        machine.
      **resources: resources of each job, see `ray.remote`: num_cpus, num_gpus.

    Returns: see `Sweep.gather`.

    Raises: ImportError if the extra `sweep` is not installed.
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
    """Runs a job on a worker; returns its state in words, also after an error."""
    compile_cache.use()
    sweep = make()
    try:
        sweep.run(index)
    except runs.InUseError as error:
        return f"job {index} is left alone: {error}"
    except Exception as error:
        return f"job {index} failed: {error}"
    return f"job {index} is done"


def planned(make: Callable[[], Sweep], word: str) -> Any:
    """Returns the config that `--plan --sweep word` plans.

    Raises: ValueError if the word is no index of a job.
    """
    if not word.isdigit():
        raise ValueError(
            f"--plan takes --sweep with the index of a job, got {word!r}; leave "
            "--sweep out for the plan of the preset"
        )
    return make().config(int(word))


def command(make: Callable[[], Sweep], word: str) -> None:
    """Runs `--sweep word`.

    Raises: ValueError if the word is neither an index nor a known command.
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
                    f"job {row['index']} was done by other code than the present; run "
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
    """Parses the resources of each job from "ray:num_gpus=1,num_cpus=4".

    >>> _resources("ray:num_gpus=0.5"), _resources("ray")
    ({'num_gpus': 0.5}, {})
    """
    pairs = [pair.split("=") for pair in word.partition(":")[2].split(",") if pair]
    return {key: float(value) for key, value in pairs}
