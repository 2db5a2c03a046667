"""Runs each study's smoke preset in two checkouts and compares their numbers.

    python tests/compare_smoke.py BEFORE AFTER WORKDIR [STUDY...]

BEFORE and AFTER are checkouts; both run with this Python. Prints a line for each study
and exits with 1 where an array or a number of results.json differs in a bit. Keys that
only AFTER has, and claims' fields other than their numbers, are listed, not counted.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

STUDIES = ("sgdr", "mode_connectivity", "warmup", "distillation", "fsp", "funmatch")


def run(checkout: str, study: str, folder: pathlib.Path) -> None:
    if (folder / "results.json").exists():
        return
    command = [sys.executable, "-m", f"experiments.{study}", "--preset", "smoke"]
    subprocess.run(
        [*command, "--workdir", str(folder)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(checkout).resolve())},
        check=True,
    )


def leaves(value, path=""):
    """Each leaf of a results file and where it is; claims by what they measure."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list):
        seen = collections.Counter()
        for place, item in enumerate(value):
            known = isinstance(item, dict) and item.get("statistic")
            seen[known] += 1
            name = f"{known} ({seen[known]})" if known else place
            yield from leaves(item, f"{path}/{name}")
    else:
        yield path, value


def differences(before: pathlib.Path, after: pathlib.Path) -> tuple[list, list]:
    """What differs, and what only AFTER has."""
    old, new = (
        dict(leaves(json.loads((folder / "results.json").read_text())))
        for folder in (before, after)
    )
    wrong = [f"results{k}: {old[k]} {new.get(k)}" for k in old if old[k] != new.get(k)]
    added = [f"results{key}" for key in new if key not in old]
    with np.load(before / "arrays.npz") as a, np.load(after / "arrays.npz") as b:
        for name in a.files:
            same = name in b.files and a[name].tobytes() == b[name].tobytes()
            if not (same and a[name].dtype == b[name].dtype):
                wrong.append(f"array {name}")
        added += [f"array {name}" for name in b.files if name not in a.files]
    return wrong, added


def main(before: str, after: str, workdir: str, *studies: str) -> int:
    failed = 0
    for study in studies or STUDIES:
        folders = [pathlib.Path(workdir) / side / study for side in ("before", "after")]
        for checkout, folder in zip((before, after), folders, strict=True):
            run(checkout, study, folder)
        wrong, added = differences(*folders)
        failed += bool(wrong)
        print(f"{study}: {len(wrong)} differ, {len(added)} new")
        for line in [*wrong[:10], *(f"new: {name}" for name in added[:20])]:
            print(f"  {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
