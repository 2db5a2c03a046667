"""Mutation testing with cosmic-ray: do the tests see a changed operator or number?

    python -m tests.mutation schedules | curves | similarity | losses [--sample 40]

Works on a copy of the package and the tests. Each mutant, one at a time, runs the tests
of its module until the first fails; those that survive are printed as a difference.
`docs/robustness.md` says what was made of them.
"""

import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile

from cosmic_ray import commands, config, work_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = pathlib.Path(__file__).parents[2]
# What is mutated, and the tests that are to see it.
MODULES = {
    "schedules": (["kd_heuristics/schedules"], ["tests/test_schedules.py"]),
    "curves": (["kd_heuristics/curves"], ["tests/curves"]),
    "similarity": (["kd_heuristics/similarity"], ["tests/similarity"]),
    "losses": (
        [
            f"kd_heuristics/distill/{name}.py"
            for name in ("losses", "hints", "fsp", "checks")
        ],
        [
            f"tests/distill/test_{name}.py"
            for name in ("losses", "hints", "fsp", "table", "properties")
        ],
    ),
}
# Types and names of arguments are not what the tests are about.
LEFT_OUT = ("core/ReplaceBinaryOperator_BitOr", "core/RemoveDecorator")


def run(module: str, sample: int, seed: int, timeout: float) -> int:
    """Tries `sample` mutants of a module; the number that survived."""
    sources, tests = MODULES[module]
    with tempfile.TemporaryDirectory() as path:
        copy = pathlib.Path(path)
        for name in ("kd_heuristics", "tests", "experiments"):
            ignored = shutil.ignore_patterns("__pycache__", "fixtures")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, copy / name)
        os.chdir(copy)
        settings = config.ConfigDict(
            {
                "timeout": timeout,
                "test-command": " ".join(
                    [f"{sys.executable} -B -m pytest -x -q -p no:cacheprovider", *tests]
                ),
                "distributor": {"name": "local"},
            }
        )
        os.environ["PYTHONPATH"] = str(copy)
        files = [
            file
            for source in sources
            for file in (
                [pathlib.Path(source)]
                if source.endswith(".py")
                else sorted(pathlib.Path(source).rglob("*.py"))
            )
        ]
        with work_db.use_db("session.sqlite") as session:
            commands.init(files, session, {})
            items = list(session.work_items)
            jobs = [
                item.job_id
                for item in items
                if not item.mutations[0].operator_name.startswith(LEFT_OUT)
            ]
            random.Random(seed).shuffle(jobs)
            left_out = WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
            for job in {item.job_id for item in items} - {*jobs[:sample]}:
                session.set_result(job, left_out)
            print(f"{module}: {min(sample, len(jobs))} of {len(jobs)} mutants")
            commands.execute(session, settings)
            survived = [
                (session_result.diff, job)
                for job, session_result in session.results
                if session_result.test_outcome == TestOutcome.SURVIVED
            ]
    for difference, job in survived:
        print(f"\nsurvived, {job}:\n{difference}")
    print(f"{module}: {len(survived)} survived")
    return len(survived)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds")
    arguments = parser.parse_args()
    run(arguments.module, arguments.sample, arguments.seed, arguments.timeout)


if __name__ == "__main__":
    main()
