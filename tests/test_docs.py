"""The blocks of docs/own_models.md run as they stand there."""

import pathlib
import re

import numpy as np
import pytest

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "own_models.md").read_text()
*NETWORKS, REST = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(
    "index", range(4), ids=["linen", "nnx", "equinox", "functions"]
)
def test_a_model_of_ones_own(index, capsys):
    scope: dict = {"__name__": "own_models"}
    exec(compile(NETWORKS[index], "own_models.md", "exec"), scope)
    exec(compile(REST, "own_models.md", "exec"), scope)
    accuracies = np.array(capsys.readouterr().out.strip("[]\n").split(), float)
    assert len(NETWORKS) == 4
    assert len(accuracies) == 3
    assert accuracies[0] > 0.85, accuracies  # 0.1 by chance
