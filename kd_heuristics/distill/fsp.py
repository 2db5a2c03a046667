"""The flow of a solution procedure: how one layer's channels go with another's.

Yim, Joo, Bae and Kim, "A Gift from Knowledge Distillation", CVPR 2017. The first stage
of the method fits the student's flow matrices to the teacher's with `fsp_loss` alone;
the second trains on the labels alone. Which layers: `pairs`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.curves.trees import safe_sqrt
from kd_heuristics.distill import checks
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.precision import common_type, widened

Pair = Sequence[ArrayLike]


def fsp_matrix(
    f1: ArrayLike, f2: ArrayLike, *, pool: str = "max", windows: str = "tiles"
) -> jax.Array:
    """Flow matrix between two feature maps (Yim et al. 2017, eq. 1).

    G[b, i, j] = sum over s, t of f1[b, s, t, i] * f2[b, s, t, j] / (h * w)

    Args:
      f1: float [batch, h, w, m].
      f2: float [batch, h', w', n]; the larger of the two maps is pooled, axis by axis,
        to the size of the smaller, whose h and w the formula means.
      pool: "max", as the paper; "mean", as RepDistiller and others have it.
      windows: of the pooling. "tiles", equal ones that do not overlap, for sizes that
        divide; "adaptive" for all sizes, such as 33 and 17: window i of n over N rows
        has rows floor(i N / n) to ceil((i + 1) N / n), so neighbours may share a row,
        and columns likewise. They are equal tiles for sizes that divide.

    Returns: [batch, m, n], in at least float32.

    Raises: ValueError for tiles if one size does not divide the other, for arrays that
      are no maps or not of one batch, and for an unknown `pool` or `windows`.

    >>> f1 = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])  # h = 1, w = 2, m = 2
    >>> fsp_matrix(f1, jnp.array([[[[5.0], [7.0]]]]))[0].tolist()
    [[13.0], [19.0]]
    """
    nearest.choose(pool, _POOLS, "pool")
    nearest.choose(windows, ("tiles", "adaptive"), "windows")
    f1, f2 = checks.floats("f1", f1), checks.floats("f2", f2)
    dtype = common_type(f1.dtype, f2.dtype, jnp.float32)
    _check_maps(f1, f2, windows)
    size = [min(sizes) for sizes in zip(f1.shape[1:3], f2.shape[1:3], strict=True)]
    f1, f2 = (_pooled(array, size, pool) for array in (f1, f2))
    total = jnp.einsum(
        "bsi,bsj->bij",
        *(array.reshape(len(array), -1, array.shape[-1]) for array in (f1, f2)),
        precision="highest",
        preferred_element_type=dtype,
    )
    return total / (size[0] * size[1])


def fsp_matrices(
    pairs: Sequence[Pair], *, pool: str = "max", windows: str = "tiles"
) -> tuple[jax.Array, ...]:
    """`fsp_matrix` of each pair of maps, as a stored teacher keeps for each example.

    Args:
      pairs: of maps (f1, f2), first and last layer of a section.
      pool: as of `fsp_matrix`.
      windows: as of `fsp_matrix`.

    Returns: a matrix [batch, m_i, n_i] a pair.

    Raises: ValueError as `fsp_matrix`, with the pair's number, and where there is none.
    """
    if not pairs:
        raise ValueError("there is no pair of maps; FSP needs at least one")
    matrices = []
    for number, pair in enumerate(pairs):
        try:
            f1, f2 = pair
            matrices.append(fsp_matrix(f1, f2, pool=pool, windows=windows))
        except ValueError as error:
            raise ValueError(f"pair {number}: {error}") from error
    return tuple(matrices)


def fsp_distance(
    student_matrices: Sequence[ArrayLike],
    teacher_matrices: Sequence[ArrayLike],
    *,
    weights: ArrayLike | Sequence[ArrayLike] = 1.0,
    reduction: str = "sum",
) -> jax.Array:
    """Distance of flow matrices (Yim et al. 2017, eq. 2), one value an example.

    sum_i weights_i * sum over j, k of (student_i[b, j, k] - teacher_i[b, j, k])^2

    With the teacher's matrices computed beforehand this is the paper's faster form.

    Args:
      student_matrices: [batch, m_i, n_i] each, of `fsp_matrices`.
      teacher_matrices: of the same shapes; no gradient goes to them.
      weights: lambda_i, one for all or one each. The paper has all equal and does not
        say what they are.
      reduction: of a matrix. "sum" of squares, as the paper; "mean" of squares
        (RepDistiller and others); "column_norms", the sum of the columns' norms, not
        squared (torchdistill).

    Returns: [batch], in at least float32.

    Raises: ValueError where the numbers or shapes of the matrices differ, as they do
      for pairs of other channel counts, or `weights` or `reduction` is invalid.

    >>> student, teacher = [jnp.zeros((1, 2, 2))], [jnp.full((1, 2, 2), 3.0)]
    >>> float(fsp_distance(student, teacher)[0])
    36.0
    """
    nearest.choose(reduction, _REDUCTIONS, "reduction")
    _check_count(student_matrices, teacher_matrices)
    total = jnp.float32(0)
    rows = zip(
        _weights(weights, len(student_matrices)),
        student_matrices,
        teacher_matrices,
        strict=True,
    )
    for number, (weight, student, teacher) in enumerate(rows):
        student, teacher = checks.alike(
            student,
            teacher,
            f"matrices of pair {number}",
            "pairs need the same channels on both sides: choose other layers or widths",
        )
        if student.ndim != 3:
            raise ValueError(
                f"matrices of pair {number} have shape {student.shape}; wanted "
                "[batch, m, n], of fsp_matrix"
            )
        total = total + weight * _REDUCTIONS[reduction](student - teacher)
    return total


def fsp_loss(
    student_pairs: Sequence[Pair],
    teacher_pairs: Sequence[Pair],
    *,
    weights: ArrayLike | Sequence[ArrayLike] = 1.0,
    reduction: str = "sum",
    pool: str = "max",
    windows: str = "tiles",
) -> jax.Array:
    """The FSP loss of pairs of maps, one value an example (Yim et al. 2017, eq. 2).

    fsp_distance(fsp_matrices(student_pairs), fsp_matrices(teacher_pairs)): the squared
    Frobenius distance summed over elements and pairs. The maps of student and teacher
    may differ in size, not in channels.

    Args:
      student_pairs: (f1, f2) each, float [batch, h, w, channels]: first and last layer
        of a section.
      teacher_pairs: as many, with the same channels; no gradient goes to them.
      weights: of the pairs, as of `fsp_distance`.
      reduction: of a matrix, as of `fsp_distance`.
      pool: where the two maps of a pair differ in size, as of `fsp_matrix`.
      windows: likewise.

    Returns: [batch], in at least float32.

    Raises: ValueError as `fsp_matrices` and `fsp_distance`.

    >>> one, two = jnp.ones((1, 4, 4, 2)), jnp.full((1, 2, 2, 2), 2.0)
    >>> float(fsp_loss([(one, one)], [(one, two)])[0])  # four elements, 1 - 2 each
    4.0
    """
    _check_count(student_pairs, teacher_pairs)
    return fsp_distance(
        fsp_matrices(student_pairs, pool=pool, windows=windows),
        fsp_matrices(jax.lax.stop_gradient(teacher_pairs), pool=pool, windows=windows),
        weights=weights,
        reduction=reduction,
    )


def _largest(windows, axis):
    """The maximum, pair by pair.

    The derivative of `jnp.max` divides by the number of entries that equal the maximum.
    XLA may compute the entries twice, rounded differently, so that none does: NaN.
    """
    for place in sorted(axis, reverse=True):
        count = windows.shape[place]
        parts = [jax.lax.index_in_dim(windows, i, place, False) for i in range(count)]
        windows = functools.reduce(jnp.maximum, parts)
    return windows


_POOLS = {
    "max": _largest,
    # Half precision holds a maximum, but no mean.
    "mean": lambda windows, axis: widened(windows).mean(axis),
}

_REDUCTIONS = {
    "sum": lambda difference: jnp.square(difference).sum((1, 2)),
    "mean": lambda difference: jnp.square(difference).mean((1, 2)),
    "column_norms": lambda difference: safe_sqrt(jnp.square(difference).sum(1)).sum(-1),
}


def _check_count(student, teacher):
    if len(student) != len(teacher) or not student:
        raise ValueError(
            f"the student has {len(student)} pairs and the teacher {len(teacher)}; "
            "give both the same sections, at least one"
        )


def _check_maps(f1, f2, windows):
    for name, array in (("f1", f1), ("f2", f2)):
        if array.ndim != 4 or 0 in array.shape:
            raise ValueError(
                f"{name} has shape {array.shape}; wanted [batch, h, w, channels]"
            )
    if len(f1) != len(f2):
        raise ValueError(f"f1 has {len(f1)} examples and f2 {len(f2)}")
    for sizes in zip(f1.shape[1:3], f2.shape[1:3], strict=True):
        if windows == "tiles" and max(sizes) % min(sizes):
            raise ValueError(
                f"maps of {_size(f1)} and {_size(f2)} cannot be pooled to one size: "
                f"{max(sizes)} is no multiple of {min(sizes)}; pass "
                "windows='adaptive', choose layers whose sizes divide, or resize the "
                "images"
            )


def _size(maps):
    return f"{maps.shape[1]}x{maps.shape[2]}"


def _pooled(maps, size, pool):
    """Maps reduced to `size`, over tiles where they fit."""
    batch, height, width, channels = maps.shape
    if (height, width) == tuple(size):
        return maps
    if height % size[0] or width % size[1]:
        for axis, number in zip((1, 2), size, strict=True):
            maps = _adaptive(maps, axis, number, pool)
        return maps
    windows = maps.reshape(
        batch, size[0], height // size[0], size[1], width // size[1], channels
    )
    return _POOLS[pool](windows, axis=(2, 4))


def _adaptive(maps, axis, number, pool):
    """Maps reduced along an axis to `number` windows that may overlap."""
    length = maps.shape[axis]
    ends = [
        (i * length // number, -(-(i + 1) * length // number)) for i in range(number)
    ]
    parts = [
        _POOLS[pool](jax.lax.slice_in_dim(maps, *end, axis=axis), (axis,))
        for end in ends
    ]
    return jnp.stack(parts, axis)


def _weights(weights, count) -> list[ArrayLike]:
    """One weight a pair."""
    if not isinstance(weights, Sequence) and jnp.ndim(weights) == 0:
        weights = [weights] * count
    weights = list(weights)
    if len(weights) != count:
        raise ValueError(
            f"weights are {len(weights)} for {count} pairs; give one for all, or one a "
            "pair"
        )
    for number, weight in enumerate(weights):
        checks.weight(f"weights[{number}]", weight)
    return weights
