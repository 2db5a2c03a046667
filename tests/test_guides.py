"""The blocks of guides run as they stand there, in order."""

import pathlib
import re

import pytest


def test_the_examples_of_the_rules_hold():
    text = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "verdicts.md"
    blocks = re.findall(r"```python\n(.*?)```", text.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    scope: dict = {}
    for block in blocks:
        exec(compile(block, text.name, "exec"), scope)


LOOP = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "own_loop.md"
_SETUP, *SECTIONS = LOOP.read_text().split("\n## ")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.split("\n")[0])
def test_the_tools_in_ones_own_loop(section):
    scope: dict = {"__name__": "own_loop"}
    for text in (_SETUP, section):
        (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        exec(compile(block, LOOP.name, "exec"), scope)
    straight, fitted = scope["straight"], scope["fitted"]
    for ends in (fitted[[0, -1]], straight[[0, -1]]):
        assert (ends < 0.2).all()  # trained: log 2 is 0.69
    assert fitted[1:-1].max() < straight[1:-1].max()
    assert scope["map_of_layers"].shape[0] >= 2
    # The last layers, which the student was taught to share, are alike.
    assert float(scope["map_of_layers"][-1, -1]) > 0.8
