"""The blocks of docs/guides/verdicts.md run as they stand there, in order."""

import pathlib
import re


def test_the_examples_of_the_rules_hold():
    text = pathlib.Path(__file__).parents[1] / "docs" / "guides" / "verdicts.md"
    blocks = re.findall(r"```python\n(.*?)```", text.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    scope: dict = {}
    for block in blocks:
        exec(compile(block, text.name, "exec"), scope)
