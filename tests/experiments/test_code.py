"""Every study knows its checkpoints by its code, and takes the flags for other code."""

import ast
import inspect
import sys

import pytest

from experiments import reproduce
from experiments.common import launch
from kd_heuristics.runs import code_identity

STUDIES = {study.name: study for study in reproduce.STUDIES}
studies = pytest.mark.parametrize("name", STUDIES)


def sources(study):
    """The modules of `experiments` that a study's numbers come from."""
    names = code_identity.modules(study.compute)
    return [sys.modules[name] for name in names if name.startswith("experiments.")]


@studies
def test_each_training_asks_for_its_folder_by_its_code(name):
    calls = [
        node
        for module in sources(STUDIES[name])
        if not module.__name__.endswith((".plan", ".timing"))  # these time steps only
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("training.fit", "training.population")
    ]
    assert calls
    for call in calls:
        (saving,) = [k.value for k in call.keywords if k.arg == "checkpoints"]
        words = ast.unparse(saving).replace("self.folder", "run.folder")
        assert words.startswith("training.Checkpoints(run.folder.training(")


@studies
def test_what_decides_its_numbers_is_known_and_what_shows_them_is_not(name):
    known = {*code_identity.modules(STUDIES[name].compute)}
    assert {f"experiments.{name}.study", "kd_heuristics.training.step"} <= known
    parts = ("plots", "report", "cli", "progress", "launch")
    assert not [module for module in known if {*module.split(".")} & {*parts}]


@pytest.mark.parametrize("name", [*STUDIES, "reproduce"])
@pytest.mark.parametrize(
    ("flags", "rule"),
    [([], "refuse"), (["--recompute"], "recompute"), (["--accept-code"], "accept")],
)
def test_the_flags_reach_the_run(name, flags, rule, monkeypatch, tmp_path):
    got = []

    def run(study, config, workdir, on_other_code="refuse"):
        got.append(on_other_code)
        return tmp_path

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(reproduce.report, "write", lambda root, expected: tmp_path)
    main(name, [*flags, "--preset", "smoke", "--workdir", str(tmp_path)], monkeypatch)
    assert {*got} == {rule}


@pytest.mark.parametrize("name", [*STUDIES, "reproduce"])
def test_both_flags_are_wrong_usage(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        main(name, ["--recompute", "--accept-code"], monkeypatch)
    assert stop.value.code == launch.USAGE
    assert "exclude each other" in capsys.readouterr().err


def main(name, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr("kd_heuristics.runtime.compile_cache.use", lambda: None)
    if name == "reproduce":
        try:
            reproduce.main()
        except SystemExit as stop:
            if stop.code:
                raise
    else:
        launch.main(STUDIES[name])
