"""The README's snippet runs as it stands there."""

import pathlib
import re


def test_the_snippet_for_ones_own_network_gives_its_verdict(capsys):
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 1
    (said,) = re.findall(r"\)\[\"verdict\"\]\)  # (.*)\n", snippets[0])
    exec(compile(snippets[0], "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == f"{said}\n"
