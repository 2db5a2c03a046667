"""What changes a function's identity, and what does not, in packages made here."""

import dataclasses
import functools
import importlib
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from kd_heuristics import curves, points
from kd_heuristics.runs import code_identity

TREE = {
    "mine/__init__.py": "",
    "mine/study.py": """
        import functools
        import numpy as np
        from mine import tools, kinds as forms
        from mine.deep import inner
        from . import relative
        from .tools.second import helper as renamed

        def compute(x):
            from mine.late import late
            return tools.first(x) + forms.KIND + inner.leaf.f(x) + relative.R + late(x)

        class Lab:
            def stage(self, x):
                return renamed(x)
        """,
    "mine/tools/__init__.py": """
        from mine.tools.one import first
        from mine.tools.second import helper
        from mine.tools.unused import never
        """,
    "mine/tools/one.py": "from mine.base import scale\ndef first(x): return scale * x",
    "mine/tools/second.py": "def helper(x):\n    return x + 1",
    "mine/tools/unused.py": "def never(): return 0",
    "mine/base.py": "scale = 2",
    "mine/kinds.py": "KIND = 3",
    "mine/deep/__init__.py": "",
    "mine/deep/inner/__init__.py": "from mine.deep.inner import leaf",
    "mine/deep/inner/leaf.py": "def f(x): return x",
    "mine/relative.py": "R = 1",
    "mine/late.py": "def late(x): return x",
    "mine/apart.py": "def apart(): return 0",
    "other/__init__.py": "",
    "other/closure.py": """
        import functools
        from mine import study, apart
        from other import model

        def make(a):
            return lambda: study.compute(a) + model.Net().width
        bound = functools.partial(print, model.Net())
        """,
    "other/model.py": "class Net:\n    width = 3",
}
REACHED = {
    "mine.study",
    "mine.tools.one",
    "mine.tools.second",
    "mine.base",
    "mine.kinds",
    "mine.deep.inner.leaf",
    "mine.relative",
    "mine.late",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in TREE.items():
        write(tmp_path, name, textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("mine", "other"):
            del sys.modules[name]


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def compute():
    return importlib.import_module("mine.study").compute


def test_it_reaches_the_defining_modules_and_no_others(tree):
    assert {*code_identity.modules(compute())} == REACHED


@pytest.mark.parametrize("module", sorted(REACHED))
def test_a_change_anywhere_below_names_its_module_alone(tree, module):
    before = code_identity.modules(compute())
    path = tree / f"{module.replace('.', '/')}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    now = code_identity.modules(compute())
    assert code_identity.changed(before, now) == [module]


@pytest.mark.parametrize("name", ["mine/tools/unused.py", "mine/apart.py"])
def test_a_change_beside_it_changes_nothing(tree, name):
    before = code_identity.modules(compute())
    write(tree, name, "def never(): return 1")
    assert code_identity.modules(compute()) == before


def test_docstrings_comments_and_layout_change_nothing(tree):
    before = code_identity.modules(compute())
    write(
        tree,
        "mine/tools/second.py",
        '"""A module."""\n# why\n\n\ndef helper(\n    x,  # its argument\n):\n'
        '    """Adds."""\n    return (\n        x + 1\n    )\n"""A last word."""\n',
    )
    assert code_identity.modules(compute()) == before


@pytest.mark.parametrize(
    "text",
    [
        "def helper(x):\n    return x + 2",
        "def helper(x):\n    return x - 1",
        "def helper(x, y=None):\n    return x + 1",
        "def helper(x):\n    return y + 1",
        "def helper(x):\n    return x + 1.0",
        "def helper(x):\n    return x + True",
        "def helper(x):\n    return x + '1'",
        "async def helper(x):\n    return x + 1",
        "def helper(x):\n    return x.y + 1",
        "def helper(x):\n    'y'.strip()\n    return x + 1",
    ],
)
def test_any_other_text_is_another_module(tree, text):
    before = code_identity.modules(compute())
    write(tree, "mine/tools/second.py", text)
    assert code_identity.changed(before, code_identity.modules(compute())) == [
        "mine.tools.second"
    ]


def test_a_name_re_exported_from_elsewhere_is_another_module(tree):
    before = code_identity.modules(compute())
    write(
        tree, "mine/tools/__init__.py", "from mine.tools.unused import never as first"
    )
    changed = code_identity.changed(before, code_identity.modules(compute()))
    assert changed == ["mine.base", "mine.tools.one", "mine.tools.unused"]


def test_what_a_package_itself_defines_counts_with_its_imports(tree):
    write(tree, "mine/kinds.py", "from mine import apart\nKIND = apart.apart()")
    assert "mine.apart" in code_identity.modules(compute())
    write(tree, "mine/tools/__init__.py", "from mine import apart\nfirst = apart.apart")
    assert {"mine.tools", "mine.apart"} <= {*code_identity.modules(compute())}


def test_methods_partials_and_closures_bring_what_they_hold(tree):
    closure = importlib.import_module("other.closure")
    study = importlib.import_module("mine.study")
    lab = study.Lab()
    assert {*code_identity.modules(lab.stage)} == REACHED
    assert {*code_identity.modules(functools.partial(print, lab))} == REACHED
    assert {*code_identity.modules(closure.bound)} == {"other.model"}
    assert {*code_identity.modules(closure.make(study.Lab()))} >= REACHED
    net = importlib.import_module("other.model").Net()
    assert {*code_identity.modules(compute(), net)} == REACHED | {"other.model"}
    assert {*code_identity.modules({"nets": [net]})} == {"other.model"}
    assert {*code_identity.modules(Holder(net))} >= {"other.model"}


@dataclasses.dataclass
class Holder:
    held: Any


def test_it_is_the_same_at_another_place_and_run_as_a_program(tree, tmp_path):
    other = tmp_path / "elsewhere"
    for name, text in TREE.items():
        write(other, name, textwrap.dedent(text))
    program = (
        "if __name__ == '__main__':\n"
        "    from kd_heuristics.runs import code_identity\n"
        "    print(code_identity.modules(compute))\n"
    )
    study = other / "mine/study.py"
    text = study.read_text()
    study.write_text(text + program)
    (tree / "mine/study.py").write_text(text + program)
    command = [sys.executable, "-m", "mine.study"]
    done = subprocess.run(
        command, cwd=other, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(code_identity.modules(compute()))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('    return Claim("another sentence", 1)', True),
        ('    return Claim("a sentence", 2, kind="equal")', True),
        ('    from kd_heuristics import plots\n    return Claim("", 1)', True),
        ('    return str("another sentence")', False),
        ('    return Claim("a sentence", 1) + 1', False),
        ('    y = plots.sgdr("a sentence", 1)', False),
    ],
)
def test_what_is_handed_to_plots_and_claims_changes_nothing(tree, text, same):
    start = "from kd_heuristics.runs import Claim\nKIND = 3\ndef claims(plots):\n"
    write(tree, "mine/kinds.py", f'{start}    return Claim("a sentence", 1)')
    before = code_identity.modules(compute())
    write(tree, "mine/kinds.py", f"{start}{text}\n")
    assert (code_identity.modules(compute()) == before) is same


def test_of_the_library_it_takes_what_is_used():
    found = {*code_identity.modules(curves.line)}
    names = ("curves.curve", "curves.trees", "pytrees.leaf_names")
    names += ("runtime.leaves", "runtime.precision")
    assert found == {f"kd_heuristics.{name}" for name in names}
    found = {*code_identity.modules(points.refit_exact)}
    assert "kd_heuristics.points.moments" in found
    for part in ("plots", "report", "cli", "similarity"):
        assert not any(name.startswith(f"kd_heuristics.{part}") for name in found)


def test_a_function_without_a_file_is_known_by_its_source(tmp_path):
    script = """
        import linecache, sys
        from kd_heuristics.runs import code_identity

        def define(text, file):
            linecache.cache[file] = (len(text), None, text.splitlines(True), file)
            exec(compile(text, file, "exec"), globals())

        define("from kd_heuristics import curves\\n", "<cell 1>")
        define("def helper(a):\\n    return curves.line(a, a)\\n", "<cell 2>")
        define("def stage(a):\\n    return helper(a)\\n", "<cell 3>")
        before = code_identity.modules(stage)
        define("def helper(a):\\n    # so\\n    return curves.line(a, a)\\n", "<4>")
        assert code_identity.modules(stage) == before, before
        define("def helper(a):\\n    return curves.line(a, 2)\\n", "<cell 5>")
        print(*code_identity.changed(before, code_identity.modules(stage)))
        print(*before)
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    changed, names = done.stdout.splitlines()
    assert changed == "__main__.helper"
    assert names.split() == [
        "__main__.helper",
        "__main__.stage",
        "kd_heuristics.curves.curve",
        "kd_heuristics.curves.trees",
        "kd_heuristics.pytrees.leaf_names",
        "kd_heuristics.runtime.leaves",
        "kd_heuristics.runtime.precision",
    ]


OUTSIDE = """
import functools
RATE, NAMES, TEXT, OTHER = 0.5, ("a", 1), "x", 3

def helper(x, by=RATE):
    return x * 7

def stage(x):
    @functools.cache
    def inner(y):
        return y * RATE + len(NAMES) + len(TEXT)
    return helper(inner(x))

class Stage:
    def run(self, x):
        return x * RATE
"""
CHANGES = [  # old, new, whether it changes: stage, Stage, its method
    ("3", "4", [False, False, False]),  # nobody reads it
    ("0.5", "0.25", [True, True, True]),
    ('("a", 1)', '("a", 2)', [True, False, False]),
    ('"x"', '"xy"', [True, False, False]),
    ("x * 7", "x * 8", [True, False, False]),
    ("by=RATE", "by=2", [True, False, False]),
    ("x * RATE", "x * 2 * RATE", [False, True, True]),
]


@pytest.mark.parametrize("place", ["-", "/dev/stdin"])
def test_a_script_from_standard_input_is_known_by_code_and_plain_values(place):
    script = f"""
from kd_heuristics.runs import code_identity

def digests(text):
    exec(compile(text, "<stdin>", "exec"), globals())
    return [code_identity.modules(x) for x in (stage, Stage, Stage().run)]

before = digests({OUTSIDE!r})
assert digests({OUTSIDE!r}) == before
for old, new, expected in {CHANGES!r}:
    now = digests({OUTSIDE!r}.replace(old, new))
    assert [a != b for a, b in zip(before, now)] == expected, (old, now)
"""
    command = [sys.executable, place]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("study", ["sgdr", "fsp", "funmatch", "warmup"])
def test_the_figures_of_a_study_decide_no_number(study):
    module = importlib.import_module(f"experiments.{study}.study")
    names = code_identity.modules(module.compute)
    assert f"experiments.{study}.study" in names
    assert not [name for name in names if "figures" in name or "charts" in name]
    assert not [name for name in names if ".plots" in name or ".report" in name]
