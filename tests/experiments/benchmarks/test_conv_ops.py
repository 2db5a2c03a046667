"""The benchmark of single convolutions: the contenders compute the same."""

import numpy as np
import pytest

from experiments.benchmarks import conv_ops


def test_the_table_fills(capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(conv_ops, "SHAPES", ((8, 3, 4, 2),))
    config = conv_ops.Config(batch=2, repeats=1)
    run, products = conv_ops.contenders(config, torch, *conv_ops.SHAPES[0])
    assert products == 2 * 4 * 4 * 4 * 9 * 3
    ours = run["forward"]()
    theirs = run["PyTorch forward"]().detach().permute(0, 2, 3, 1)
    assert ours.shape == theirs.shape
    assert [part.shape for part in run["in the kernel"]()] == [(3, 3, 3, 4)]
    assert [part.shape for part in run["in the input"]()] == [(2, 8, 8, 3)]
    conv_ops.main(config)
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 8×8, 3 to 4, 2 |")
    assert np.isfinite(float(row.split("|")[5]))
