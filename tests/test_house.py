"""Where modules stand: no import runs upward or in a circle; rooms have their files."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"distillation", "fsp", "funmatch", "mode_connectivity", "sgdr", "warmup"}
# From the lowest. A part imports parts of lower floors alone, beside its own modules.
FLOORS: tuple[set[str], ...] = (
    {"kd_heuristics.runtime"},
    {"kd_heuristics.hosts", "kd_heuristics.parallel", "kd_heuristics.schedules"},
    {"kd_heuristics.pytrees"},
    {
        "kd_heuristics.checkpoints",
        "kd_heuristics.curves",
        "kd_heuristics.freezing",
        "kd_heuristics.runs",
    },
    {
        "kd_heuristics.averaging",
        "kd_heuristics.data",
        "kd_heuristics.distill",
        "kd_heuristics.landscape",
        "kd_heuristics.plots",
        "kd_heuristics.points",
        "kd_heuristics.similarity",
    },
    {
        "kd_heuristics.alignment",
        "kd_heuristics.models",
        "kd_heuristics.report",
        "kd_heuristics.sharpness",
        "kd_heuristics.surfaces",
    },
    {"kd_heuristics.training"},
    {"kd_heuristics.cli", "experiments.common"},
    {f"experiments.{room}" for room in ROOMS},
    {"experiments.benchmarks", "experiments.reproduce"},
    {"experiments.protocols", "experiments.results"},
)


def modules():
    """The files of the project's modules, by dotted name."""
    found = {}
    for top in ("kd_heuristics", "experiments"):
        for file in (ROOT / top).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = file
    return found


def imports(file, known):
    """The modules of ours that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are by full name"
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for path in paths:
            while path and path not in known:
                path = path.rpartition(".")[0]
            if path:
                yield path


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: {*imports(file, known)} - {name} for name, file in known.items()}


def part(module):
    return ".".join(module.split(".")[:2])


def upward(graph):
    """Imports of a part that does not stand lower: (importer, imported)."""
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    return {
        (name, path)
        for name, paths in graph.items()
        for path in paths
        if part(path) != part(name)
        and "." in path  # the package itself imports nothing
        and floor[part(path)] >= floor[part(name)]
    }


def test_every_part_stands_on_a_floor(graph):
    parts = {part(name) for name in graph if "." in name}
    assert parts == {name for floor in FLOORS for name in floor}
    assert len(parts) == sum(map(len, FLOORS))


def test_no_import_runs_upward(graph):
    assert upward(graph) == set()
    wrong = graph | {"kd_heuristics.curves.arc": {"kd_heuristics.training.fit"}}
    assert upward(wrong) == {("kd_heuristics.curves.arc", "kd_heuristics.training.fit")}


def test_no_import_runs_in_a_circle(graph):
    [*graphlib.TopologicalSorter(graph).static_order()]
    wrong = graph | {"kd_heuristics.curves.trees": {"kd_heuristics.curves.curve"}}
    with pytest.raises(graphlib.CycleError):
        [*graphlib.TopologicalSorter(wrong).static_order()]


FILES = {
    "__init__.py",
    "__main__.py",
    "claims.py",
    "config.py",
    "figures.py",
    "paper",
    "protocol.py",
    "study.py",
}


def test_every_study_has_the_same_files():
    found = {file.parent.name for file in (ROOT / "experiments").glob("*/__main__.py")}
    assert found == ROOMS
    for room in ROOMS:
        names = {file.name for file in (ROOT / "experiments" / room).iterdir()}
        assert names >= FILES, room


def test_no_file_and_no_function_is_long():
    """At most 350 lines a file, 70 a function without its docstring."""
    long = []
    for name, file in modules().items():
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > 350:
            long.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                said = node.body[0] if ast.get_docstring(node) else None
                words = said.end_lineno - said.lineno + 1 if said else 0
                if node.end_lineno - node.lineno + 1 - words > 70:
                    long.append(f"{name}.{node.name}")
    assert long == []
