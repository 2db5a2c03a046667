"""A map of a few networks from their distances: t-SNE without a seed."""

import numpy as np


def map_2d(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of points known by their distances.

    It starts from classical scaling instead of random places, so that it has no seed.
    Only neighbourhoods mean something, not lengths or axes.

    Args:
      distances: [points, points], symmetric, 0 on the diagonal.
      perplexity: about how many neighbours count; below the number of points.

    Returns: float64 [points, 2].

    Raises: ValueError for distances that are no finite square matrix, or a perplexity
      that the points do not allow.

    >>> line = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    >>> map_2d(line, perplexity=2.0).shape
    (6, 2)
    """
    from sklearn.manifold import TSNE  # a second of import, for this figure only

    distances = np.asarray(distances, np.float64)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances must be a square matrix, got {distances.shape}")
    if not np.isfinite(distances).all():
        raise ValueError("distances must be finite; a network has diverged")
    if not 0 < perplexity < len(distances):
        raise ValueError(
            f"perplexity must be between 0 and the number of points, {len(distances)}, "
            f"got {perplexity}"
        )
    start = scaled(distances)
    tsne = TSNE(
        metric="precomputed",
        perplexity=perplexity,
        # As small as scikit-learn makes its own starts.
        init=(1e-4 * start / start[:, 0].std()).astype(np.float32),
        method="exact",
    )
    # A copy: scikit-learn squares the distances where they lie.
    return tsne.fit_transform(distances.copy()).astype(np.float64)


def scaled(distances: np.ndarray) -> np.ndarray:
    """Classical multidimensional scaling to two axes, float64 [points, 2].

    The leading eigenvectors of -J D^2 J / 2, J the centring matrix, each times the root
    of its eigenvalue; the first point has no negative coordinate.

    >>> scaled(np.array([[0.0, 3.0], [3.0, 0.0]])).round(6).tolist()
    [[1.5, 0.0], [-1.5, 0.0]]
    """
    squares = np.asarray(distances, np.float64) ** 2
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    found = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    return found * np.where(found[0] < 0, -1, 1)
