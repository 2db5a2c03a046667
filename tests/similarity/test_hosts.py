"""Merging over processes, with two of them on this machine."""

import socket
import subprocess
import sys

import pytest

_PROCESS = """
import sys
import jax
import numpy as np

port, rank = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
from kd_heuristics import similarity

x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) + 100
y = x[:, :3] + np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
mine = slice(0, 20) if rank == "0" else slice(20, 60)
acc = similarity.Accumulator.init(x, y).update(x[mine], y[mine])
acc = acc.merge_hosts()
assert acc.count == 60, acc.count
whole = similarity.matrix({"": x}, {"": y}, "cca")[0, 0]
np.testing.assert_allclose(acc.result("cca"), whole, atol=1e-5)
print("merged", rank)
"""


@pytest.mark.long
def test_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, port, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank, run in enumerate(runs):
        out, err = run.communicate(timeout=300)
        assert f"merged {rank}" in out, err
