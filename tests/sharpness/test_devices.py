"""Curvature with batches split over several devices: that of one device."""

import jax
import numpy as np
import pytest

from kd_heuristics import sharpness
from kd_heuristics.runtime import parallel
from tests.sharpness import nets

CALLS = {
    "top": lambda *given, key: sharpness.top(*given, 2, key=key, num_products=10)[0],
    "trace": lambda *given, key: sharpness.trace(*given, key=key, num_samples=3)["all"],
}


@pytest.mark.parametrize("name", CALLS)
def test_devices_find_what_one_finds(name):
    params = nets.mlp(1, units=3, dtype=np.float32)
    batches = nets.batches(2, 32)
    split = parallel.split_batches(batches, parallel.mesh(4))
    assert len(split["x"].sharding.device_set) == 4
    alone, shared = (
        CALLS[name](nets.loss, params, given, key=jax.random.key(0))
        for given in (batches, split)
    )
    np.testing.assert_allclose(shared, alone, rtol=1e-5)
