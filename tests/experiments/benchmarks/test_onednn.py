"""The benchmark of oneDNN compares two programs that agree."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import onednn as benchmark
from kd_heuristics import models
from kd_heuristics.runtime import onednn


@pytest.mark.skipif(onednn.asked() == "off", reason="no known oneDNN here")
def test_a_row():
    network = models.create("shallow", 10, width=0.05)
    images = jnp.ones((2, 32, 32, 3))
    variables = network.init(jax.random.key(0), images)
    for setting, calls in (("off", False), ("inference", True)):
        program = benchmark.compiled(network, setting, variables, images)
        assert ("__onednn$convolution" in program.as_text()) == calls
    row = benchmark.row(benchmark.Config(batch=2, repeats=1), "small", network)
    name, *_, apart = row.strip("| ").split(" | ")
    assert name == "small"
    assert float(apart) < 1e-4
    assert onednn.setting() == onednn.asked()


def test_off_is_said(monkeypatch):
    monkeypatch.setattr(onednn, "setting", lambda: "off")
    with pytest.raises(SystemExit, match="oneDNN is off here"):
        benchmark.main(benchmark.Config())
    jax.clear_caches()
