"""The benchmark of similarity maps: the contenders find the same; the table fills."""

import numpy as np
import pytest

from experiments.benchmarks import similarity as benchmark

CONFIG = benchmark.Config(layers=2, units=40, examples=300, pairs=3)
PAIRS = benchmark.some_pairs(CONFIG)


@pytest.fixture(scope="module")
def networks():
    arrays = benchmark.layers(CONFIG)
    return tuple(
        {str(i): layer for i, layer in enumerate(part)}
        for part in (arrays[:2], arrays[2:])
    )


@pytest.fixture(scope="module")
def found(networks):
    """What all contenders find, those that are not installed left out."""
    values = {}
    for name, (function, measure, _) in benchmark.CONTENDERS.items():
        try:
            values[name] = function(networks, PAIRS, measure)
        except ModuleNotFoundError:
            assert "zoo" in name
    return values


def test_contenders_agree(found):
    at = tuple(np.array(PAIRS).T)
    for name, values in found.items():
        ours = found[f"{benchmark.CONTENDERS[name][1]}, ours"]
        assert ours.shape == (2, 2)
        if np.ndim(values) == 1:
            # Ours, and cca-zoo's, are float32.
            np.testing.assert_allclose(values, ours[at], atol=1e-4, err_msg=name)
    # Fewer directions, other values.
    assert np.abs(found["cca, ours"] - found["svcca, ours"]).max() > 0.01


def test_the_table_scales_the_pairs_to_the_map(found):
    def turn(name, seconds):
        return benchmark.Turn(seconds, 2 * seconds, 10.0, found[name], "some 1.0")

    names = [name for name in found if name.startswith("cca")]
    turns = {name: [turn(name, 3.0), turn(name, 6.0)] for name in names}
    first = {name: turn(name, 9.0) for name in names}
    lines = benchmark.table(CONFIG, PAIRS, first, turns).splitlines()
    assert len(lines) == 2 + len(names)
    ours, numpy = (line.split(" | ") for line in lines[2:4])
    assert ours[1:3] == ["4.5 (3.0 to 6.0)", "9.0"]
    # 4 pairs in all, 3 measured.
    assert numpy[1:4] == ["6.0 (4.0 to 8.0)", "12.0", "1.3, CPU 1.3"]


def test_pairs_are_different_ones():
    many = benchmark.some_pairs(benchmark.Config(layers=3, pairs=100))
    assert sorted(set(many)) == [(i, j) for i in range(3) for j in range(3)]
