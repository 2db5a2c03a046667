"""The measures once more, in float64 NumPy and by other routes than the library's."""

import numpy as np
import scipy.linalg
import scipy.spatial
import scipy.stats


def basis(x, rtol=1e-10):
    """Orthonormal basis of the centred columns by SVD."""
    x = x - x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, s > rtol * max(s[0], 1e-300)]


def cca(x, y):
    rho = np.linalg.svd(basis(x).conj().T @ basis(y), compute_uv=False)
    return np.pad(rho, (0, min(x.shape[1], y.shape[1]) - len(rho)))


def mean_cca(x, y):
    return cca(x, y).mean()


def svcca(x, y, variance=0.99):
    reduced = []
    for layer in (x, y):
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(layer, rowvar=False)))
        share = np.cumsum(values[::-1]) / values.sum()
        count = int(np.argmax(share >= variance * (1 - 1e-12))) + 1
        reduced.append(layer @ vectors[:, ::-1][:, :count])
    return cca(*reduced).mean()


def pwcca(x, y):
    qx, qy = basis(x), basis(y)
    u, s, _ = np.linalg.svd(qx.conj().T @ qy, full_matrices=False)
    variates = qx @ u
    weights = np.abs(variates.conj().T @ (x - x.mean(0))).sum(1)
    return (weights * s).sum() / weights.sum()


def cka(x, y):
    kernels = [layer @ layer.conj().T for layer in (x, y)]
    n = len(x)
    centring = np.eye(n) - 1 / n
    k, m = (centring @ kernel @ centring for kernel in kernels)
    return np.real(np.vdot(k, m)) / np.sqrt(np.vdot(k, k).real * np.vdot(m, m).real)


def debiased_cka(x, y):
    """Song et al. 2012, eq. 5, written with the n x n kernels."""
    kernels = [layer @ layer.T for layer in (x, y)]
    for kernel in kernels:
        np.fill_diagonal(kernel, 0)

    def hsic(k, m):
        n = len(k)
        cross = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (cross - 2 * (k @ m).sum() / (n - 2)) / (n * (n - 3))

    k, m = kernels
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def google_mean(x, y, epsilon=1e-6):
    """The published steps of google/svcca, in its order."""
    p = x.shape[1]
    both = np.cov(np.concatenate([x, y], axis=1).T)
    xx, xy, yy = both[:p, :p], both[:p, p:], both[p:, p:]
    top_x, top_y = np.abs(xx).max(), np.abs(yy).max()
    xx, yy, xy = xx / top_x, yy / top_y, xy / np.sqrt(top_x * top_y)
    left_x = np.abs(np.diag(xx)) >= epsilon
    left_y = np.abs(np.diag(yy)) >= epsilon
    xx, yy = xx[left_x][:, left_x], yy[left_y][:, left_y]
    xy = xy[left_x][:, left_y]
    roots = []
    for covariance in (xx, yy):
        inverse = np.linalg.pinv(covariance + epsilon * np.eye(len(covariance)))
        values, vectors = np.linalg.eigh(inverse)
        roots.append((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.conj().T)
    rho = np.abs(np.linalg.svd(roots[0] @ xy @ roots[1])[1])
    for count in range(len(rho) + 1):
        if rho[:count].sum() / rho.sum() >= 0.98:
            return rho[:count].mean()
    return rho.mean()


def procrustes(x, y):
    """From the squared distance after the best rotation, found by SciPy."""
    layers = [layer - layer.mean(0) for layer in (x, y)]
    width = max(layer.shape[1] for layer in layers)
    a, b = (
        np.pad(layer / np.linalg.norm(layer), ((0, 0), (0, width - layer.shape[1])))
        for layer in layers
    )
    turn, _ = scipy.linalg.orthogonal_procrustes(a, b)
    return 1 - np.linalg.norm(a @ turn - b) ** 2 / 2


def knn(x, y, k=3, distance="cosine"):
    """Overlap of the sets of neighbours, example by example."""
    sets = []
    for layer in (x, y):
        apart = scipy.spatial.distance.cdist(layer, layer, distance)
        np.fill_diagonal(apart, np.inf)
        order = np.argsort(apart, axis=1, kind="stable")
        sets.append([set(row[:k]) for row in order.tolist()])
    return np.mean([len(a & b) / k for a, b in zip(*sets, strict=True)])


def rsa(x, y, outer=scipy.stats.spearmanr, distance="correlation"):
    pairs = (scipy.spatial.distance.pdist(layer, distance) for layer in (x, y))
    return outer(*pairs).statistic


def over_frequencies(measure, x, y):
    """Mean over the frequencies of the smaller map of a measure of the spectra."""
    h, w = min(x.shape[1], y.shape[1]), min(x.shape[2], y.shape[2])
    spectra = [np.fft.fft2(maps, axes=(1, 2)) for maps in (x, y)]
    values = []
    for f in np.fft.fftfreq(h, 1 / h).astype(int):
        for g in np.fft.fftfreq(w, 1 / w).astype(int):
            values.append(measure(*(spectrum[:, f, g] for spectrum in spectra)))
    return np.mean(values)


def area_mean(maps, size):
    """Maps averaged down by way of their least common multiple."""
    for axis, target in zip((1, 2), size, strict=True):
        source = maps.shape[axis]
        fine = np.repeat(maps, target, axis)
        shape = (*fine.shape[:axis], target, source, *fine.shape[axis + 1 :])
        maps = fine.reshape(shape).mean(axis + 1)
    return maps


def related(rng, n, p, q, shared=3, noise=0.7):
    """Two well-conditioned layers that share some directions."""
    latent = rng.normal(size=(n, shared))
    x = latent @ rng.normal(size=(shared, p)) + noise * rng.normal(size=(n, p))
    y = latent @ rng.normal(size=(shared, q)) + noise * rng.normal(size=(n, q))
    return x + rng.normal(size=p), y + rng.normal(size=q)
