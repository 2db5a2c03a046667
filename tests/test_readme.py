"""The README's snippet runs as it stands there."""

import pathlib
import re


def test_the_snippet_for_ones_own_code_runs(capsys):
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 1
    exec(compile(snippets[0], "README.md", "exec"), {})
    # (w . x - y)^2 with x = (1, 1), y = 1: zero all along the segment
    assert capsys.readouterr().out == "[0. 0. 0.] 0.0\n"
