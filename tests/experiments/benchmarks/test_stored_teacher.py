"""The benchmark of stored flow matrices: both forms take the same steps."""

import numpy as np
import pytest

from experiments.benchmarks import stored_teacher


@pytest.mark.long
def test_both_teachers_give_the_same_losses(capsys):
    config = stored_teacher.Config(
        pairs=("resnet8 resnet8",),
        width=0.25,
        batch=4,
        batches=2,
        size=8,
        repeats=1,
        seconds=0.0,
    )
    stage = stored_teacher.Stage(config, "resnet8", "resnet8")
    running, stored = (stage.steps(t, 4) for t in (stage.running, stage.stored))
    # the same sums in two programs, float32
    np.testing.assert_allclose(running, stored, rtol=1e-4)
    assert running[0] != running[1]  # two batches
    assert (running[:2] > running[2:]).all()
    stored_teacher.main(config)
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| resnet8, resnet8 | ")
