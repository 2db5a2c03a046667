"""The long form of the fault tests: kills, damage and bad input for so many minutes.

    python -m tests.faults.soak --minutes 30 [--studies sgdr warmup ...] [--seed 0]

Half of the time goes to SIGKILLs of the studies' smoke presets, each a process of its
own, by the clock and before changes to files; the rest to deaths of the small recipes
at each of their changes, damage to every file of their checkpoints, and random configs,
archives and run folders. Prints a table; the exit status is 1 where anything failed.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from experiments import reproduce
from kd_heuristics import checkpoints, report, runs
from tests.faults import compare, damage, moments, recipes

ROOT = Path(__file__).parents[2]
STUDIES = tuple(study.name for study in reproduce.STUDIES)
COLUMNS = ("kills", "resumes", "files damaged", "inputs", "failures")


class Table:
    """Figures by recipe, and what failed."""

    def __init__(self):
        self.rows = collections.defaultdict(collections.Counter)
        self.failures = []

    def count(self, row, column, number=1):
        self.rows[row][column] += number

    @contextlib.contextmanager
    def attempt(self, row, words):
        """Anything but a death or an interruption inside is a failure."""
        try:
            yield
        except (moments.Death, KeyboardInterrupt):
            raise
        except BaseException:
            self.count(row, "failures")
            self.failures.append(f"{row}, {words}:\n{traceback.format_exc()}")

    def lines(self):
        total = sum(self.rows.values(), collections.Counter())
        yield f"| recipe | {' | '.join(COLUMNS)} |"
        yield "|---" * (len(COLUMNS) + 1) + "|"
        for name, row in [*self.rows.items(), ("all", total)]:
            yield f"| {name} | {' | '.join(str(row[c]) for c in COLUMNS)} |"


def kill_small(table, changes, name, root, draws, until):
    """Deaths at a recipe's changes, in a random order, until the time is up."""
    changes.watch(root / "whole")
    whole, count = recipes.run(name, root / "whole"), changes.count
    changes.watch(None)
    order = draws.sample(range(2, count + 1), count - 1)
    for tried, at in enumerate(order):
        if tried and time.monotonic() > until:
            break
        folder = root / f"{at}"
        with table.attempt(name, f"death before change {at} of {count}"):
            changes.watch(folder, at)
            try:
                recipes.run(name, folder)
            except moments.Death:
                table.count(name, "kills")
            finally:
                changes.watch(None)
            recipes.run(name, folder)
            table.count(name, "resumes", compare.assert_same(whole, folder))
        shutil.rmtree(folder, ignore_errors=True)
    return whole


def damage_all(table, name, whole, root):
    """Every damage to every file of the last checkpoint of each training."""
    for training in sorted((whole / "checkpoints").iterdir()):
        *_, before, last = checkpoints.steps(training)
        places = [training / f"{step:08d}" for step in (last, before)]
        for file in damage.files(places[0]):
            for kind, apply in damage.KINDS.items():
                if not damage.changes(kind, *(place / file for place in places)):
                    continue
                folder = root / "damaged"
                shutil.copytree(whole, folder)
                own = [folder / place.relative_to(whole) for place in places]
                apply(*(place / file for place in own))
                table.count(name, "files damaged")
                with table.attempt(name, f"{kind} of {training.name}/{file}"):
                    refuse(own[0].parent, last)
                    none_left = kind == "swap" and len(checkpoints.steps(training)) == 2
                    run_damaged(name, whole, folder, own[0], none_left)
                shutil.rmtree(folder)


def run_damaged(name, whole, folder, place, none_left):
    """The damage is said; the run ends the same, or refuses where nothing is left."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if none_left:
            try:
                recipes.run(name, folder)
            except checkpoints.CheckpointError:
                return
            raise AssertionError("nothing was whole, and it did not refuse")
        recipes.run(name, folder)
    assert any(str(place) in str(warning.message) for warning in said)
    # A training that was made again has its lines after those of the later ones.
    compare.assert_same(whole, folder, ordered=False)


def refuse(directory, step):
    """The damaged checkpoint is not read."""
    try:
        checkpoints.restore(directory, step=step)
    except checkpoints.DamagedError:
        return
    raise AssertionError("a damaged checkpoint was read")


def kill_study(table, name, root, draws, until):
    """SIGKILLs of a study until it ends; then whether it ended the same."""
    row = f"study {name}"
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(root / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(folder, change):
        words = [f"experiments.{name}", "--preset", "smoke", "--workdir", str(folder)]
        own = [sys.executable, "-m", "tests.faults.child", str(folder), str(change)]
        own.append("KILL")
        with (root / "log").open("a") as log:
            return subprocess.Popen(
                [*own, *words], env=environment, cwd=ROOT, stdout=log, stderr=log
            )

    whole = root / "whole"
    with table.attempt(row, "uninterrupted"):
        assert start(whole, 0).wait() == 0, (root / "log").read_text()[-2000:]
    begun = time.monotonic()
    with table.attempt(row, "again, finished"):
        assert start(whole, 0).wait() == 0
    shortest = time.monotonic() - begun  # to start, restore and draw
    round_number = 0
    while round_number == 0 or time.monotonic() < until:
        round_number += 1
        folder = root / f"{round_number}"
        with table.attempt(row, f"round {round_number}"):
            killed = 0
            for _ in range(40):
                change = draws.choice([0, draws.randint(2, 100)])
                process = start(folder, change)
                seconds = shortest * draws.uniform(0.4, 1.6)
                try:
                    process.wait(None if change else seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.returncode == 0 and not killed:
                    shutil.rmtree(folder)  # it was done before the kill
                    continue
                if process.returncode == 0:
                    break
                assert process.returncode == -9, (root / "log").read_text()[-2000:]
                table.count(row, "kills")
                killed += 1
                shortest *= 1.1  # the next gets further
            else:
                assert start(folder, 0).wait() == 0
            table.count(row, "resumes", compare.assert_same(whole, folder))
        shutil.rmtree(folder, ignore_errors=True)


def bad_input(table, root, draws, until):
    """Random configs, archives and run folders until the time is up."""
    values = [None, True, -1, 0, 3, 2**70, -0.5, float("nan"), "", "x", (), (1, 0), {}]
    content = None
    while time.monotonic() < until:
        study = draws.choice(reproduce.STUDIES)
        base = vars(study.presets["smoke"])
        changes = {name: draws.choice(values) for name in draws.sample([*base], 2)}
        table.count("configs", "inputs")
        with table.attempt("configs", str(changes)), contextlib.suppress(ValueError):
            type(study.presets["smoke"])(**(base | changes))
        folder = runs.RunFolder(root / "npz")
        if content is None:
            folder.save_arrays("a.npz", {"x": np.arange(9.0), "y": np.array(["a"])})
            content = (root / "npz" / "a.npz").read_bytes()
        table.count("archives", "inputs")
        with table.attempt("archives", "read"):
            check_archive(folder, mangle(content, draws))
        table.count("run folders", "inputs")
        with table.attempt("run folders", "report"):
            check_report(root / "report", draws)


def mangle(content, draws):
    """A few bytes changed, perhaps the end cut off."""
    own = bytearray(content)
    for _ in range(draws.randint(1, 3)):
        own[draws.randrange(len(own))] = draws.randrange(256)
    return bytes(own[: draws.choice([len(own), draws.randrange(len(own))])])


def check_archive(folder, content):
    (folder.path / "a.npz").write_bytes(content)
    try:
        found = folder.load_arrays("a.npz")
    except runs.RunError:
        return
    expected = {"x": np.arange(9.0), "y": np.array(["a"])}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def check_report(root, draws):
    good = json.dumps(
        {"study": "s", "question": "<script>", "config": {"a": 1}, "claims": []}
    )
    folder = root / "study"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "results.json", "environment.json", "error.json"):
        content = draws.choice([good, "[]", "{}", "7", "null", '{"claims": [{}]}'])
        (folder / name).write_bytes(mangle(content.encode() + b" ", draws))
        if draws.random() < 0.3:
            (folder / name).unlink()
    (folder / "config.json").touch()
    assert "<script" not in report.write(root).read_text(encoding="utf-8")


def soak(minutes, studies, seed) -> Table:
    """All of it."""
    table, draws, changes = Table(), random.Random(seed), moments.Changes()
    begun, seconds = time.monotonic(), 60 * minutes
    changes.spare_orbax()
    with tempfile.TemporaryDirectory() as path:
        root = Path(path)
        for number, name in enumerate(recipes.RECIPES, 1):
            until = begun + 0.4 * seconds * number / len(recipes.RECIPES)
            with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
                own = kill_small(table, changes, name, root / name, draws, until)
                damage_all(table, name, own, root / name)
        bad_input(table, root / "inputs", draws, begun + 0.5 * seconds)
        for number, name in enumerate(studies, 1):
            until = begun + (0.5 + 0.5 * number / len(studies)) * seconds
            own = root / "studies" / name
            own.mkdir(parents=True)
            kill_study(table, name, own, draws, until)
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--studies", nargs="*", default=STUDIES, choices=STUDIES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = soak(arguments.minutes, arguments.studies, arguments.seed)
    for words in table.failures:
        print(words, file=sys.stderr)
    print("\n".join(table.lines()))
    raise SystemExit(bool(table.failures))


if __name__ == "__main__":
    main()
