"""Collects finished seeds, judges them, and writes the pages that show them.

Command: python -m experiments.results [--workdir runs] [--presets digits fashion]

Seeds of finished runs below WORKDIR/PRESET/STUDY go to docs/results/runs/; from those
it writes docs/results/STUDY-PRESET.json, docs/results.md and the README's table.
Without runs it judges the seeds that are kept.
"""

import dataclasses
import json
from pathlib import Path

import tyro

from experiments import reproduce
from experiments.common import kept, launch, results_page
from kd_heuristics.runtime import pipes

ROOT = Path(__file__).parents[1]
_BEGIN, _END = "<!-- results: make results -->\n", "<!-- end of results -->\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Collects finished seeds, judges them, and writes the pages that show them."""

    workdir: Path = Path("runs")
    """folder of <preset>/<study>/"""
    presets: tuple[str, ...] = ("digits", "fashion")
    """presets to collect"""
    root: Path = ROOT
    """checkout whose docs/ and README.md are written"""


def collect(workdir: Path, presets: tuple[str, ...], root: Path) -> None:
    """Copies finished seeds of run folders into docs/results/runs/."""
    for preset in presets:
        for study in reproduce.STUDIES:
            run, name = workdir / preset / study.name, f"{study.name}-{preset}"
            if run.exists():
                seeds = kept.collect(run, root / "docs/results/runs" / name)
                print(f"{name}: seeds {', '.join(map(str, seeds)) or 'none finished'}")


def judge(root: Path) -> None:
    """Judges the kept seeds and writes a JSON file for each study's preset."""
    folder = root / "docs/results"
    for study in reproduce.STUDIES:
        for preset in study.presets:
            name = f"{study.name}-{preset}"
            if (folder / "runs" / name / "run.json").exists():
                found = kept.judged(study, preset, folder / "runs" / name)
                kept.write(folder / f"{name}.json", found)
            else:
                (folder / f"{name}.json").unlink(missing_ok=True)


def pages(root: Path) -> dict[Path, str]:
    """The texts of docs/results.md and README.md, from docs/results/*.json."""
    files = sorted((root / "docs/results").glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    studies = [
        study.opening | {"presets": [*study.presets]} for study in reproduce.STUDIES
    ]
    readme = (root / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(_BEGIN)
    after = rest.split(_END)[1]
    table = results_page.readme(studies, found)
    return {
        root / "docs/results.md": results_page.page(studies, found),
        root / "README.md": f"{before}{_BEGIN}{table}{_END}{after}",
    }


@pipes.unread_ends_quietly()
def main() -> None:
    """Runs the command line."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.results")
    with launch.usage_errors(), launch.explained_errors():
        collect(arguments.workdir, arguments.presets, arguments.root)
        judge(arguments.root)
        for path, text in pages(arguments.root).items():
            path.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
