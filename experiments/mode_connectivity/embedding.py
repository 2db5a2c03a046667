"""t-SNE without a seed: maps a few networks from their distances."""

import numpy as np


def map_2d(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) from a matrix of distances.

    Starts from classical scaling instead of random positions, so it needs no seed. Only
    neighbourhoods are meaningful; lengths and axes are not.

    Args:
      distances: [points, points], symmetric, 0 on the diagonal.
      perplexity: effective number of neighbours; below the number of points.

    Returns: float64 [points, 2].

    Raises:
      ValueError: the distances are not a finite square matrix, or the perplexity is not
        between 0 and the number of points.

    >>> line = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    >>> map_2d(line, perplexity=2.0).shape
    (6, 2)
    """
    from sklearn.manifold import TSNE  # imports for a second

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
        # The scale of scikit-learn's own starts.
        init=(1e-4 * start / start[:, 0].std()).astype(np.float32),
        method="exact",
    )
    # A copy: scikit-learn squares the distances in place.
    return tsne.fit_transform(distances.copy()).astype(np.float64)


def scaled(distances: np.ndarray) -> np.ndarray:
    """Classical multidimensional scaling to two axes, float64 [points, 2].

    Columns are the leading eigenvectors of -J D^2 J / 2, with the centring matrix J and
    distances D, each multiplied by the root of its eigenvalue. Signs are chosen so that
    the first point has no negative coordinate.

    >>> scaled(np.array([[0.0, 3.0], [3.0, 0.0]])).round(6).tolist()
    [[1.5, 0.0], [-1.5, 0.0]]
    """
    squares = np.asarray(distances, np.float64) ** 2
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    found = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    return found * np.where(found[0] < 0, -1, 1) + 0.0  # 0.0 for -0.0
