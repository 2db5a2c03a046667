"""The t-SNE map: its start, that it is the same again, what it refuses."""

import numpy as np
import pytest

from experiments.mode_connectivity import embedding


def distances_of(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_the_start_keeps_the_distances_of_points_in_a_plane():
    points = np.random.RandomState(0).randn(7, 2) * [3.0, 1.0]
    distances = distances_of(points)
    found = embedding.scaled(distances)
    np.testing.assert_allclose(distances_of(found), distances, atol=1e-12)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    assert (found[0] >= 0).all()


def test_two_clusters_stay_apart_and_the_map_is_the_same_again():
    noise = np.random.RandomState(1).randn(12, 5)
    points = noise + np.repeat([[0.0], [100.0]], 6, axis=0)
    distances = distances_of(points)
    found = embedding.map_2d(distances, perplexity=3.0)
    np.testing.assert_array_equal(distances, distances_of(points))  # left as they were
    np.testing.assert_array_equal(found, embedding.map_2d(distances, perplexity=3.0))
    between = distances_of(found)
    nearest = np.where(np.eye(12, dtype=bool), np.inf, between).argmin(1)
    np.testing.assert_array_equal(nearest // 6, np.arange(12) // 6)


@pytest.mark.parametrize(
    ("distances", "perplexity", "words"),
    [
        (np.zeros((3, 2)), 1.0, "square matrix, got \\(3, 2\\)"),
        (np.full((3, 3), np.nan), 1.0, "finite"),
        (np.ones((3, 3)), 3.0, "number of points, 3, got 3.0"),
    ],
)
def test_bad_input(distances, perplexity, words):
    with pytest.raises(ValueError, match=words):
        embedding.map_2d(distances, perplexity)
