"""Losses between features: attention maps, relations in a batch, contrast to a bank.

Each returns one value per example, in at least float32, without NaN for zero vectors.
The features of student and teacher may differ in size.
"""

import dataclasses
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from kd_heuristics.curves.trees import safe_sqrt
from kd_heuristics.distill import checks, units
from kd_heuristics.runtime import nearest, values
from kd_heuristics.runtime.precision import common_type, widened


def attention(
    student: ArrayLike, teacher: ArrayLike, *, reduction: str = "norm"
) -> jax.Array:
    """Distance between attention maps (Zagoruyko and Komodakis 2017, eq. 2, p = 2).

    || Q^S / ||Q^S|| - Q^T / ||Q^T|| ||, Q[b, position] = sum over channels of the
    squared activations; norms are over the positions. The caller sums over pairs of
    layers and applies the paper's factor beta / 2. A map of zeros stays 0 when
    normalised.

    Args:
      student: float [batch, h, w, channels], or with other axes of positions.
      teacher: the same positions; the number of channels may differ. It gets no
        gradient.
      reduction: "norm" as in the paper, or "mean" of squares as in its authors' code.

    Returns: [batch].

    Raises: ValueError if batch or positions differ, an array has no positions or holds
      integers, or the reduction is unknown.

    >>> one, two = jnp.ones((1, 1, 2, 1)), jnp.zeros((1, 1, 2, 3)).at[:, :, 1].set(5)
    >>> round(float(attention(one, two, reduction="mean")[0]), 4)  # 1 - sqrt(1/2)
    0.2929
    """
    nearest.choose(reduction, ("norm", "mean"), "reduction")
    student, teacher = _both(student, teacher, "maps")
    if student.ndim < 3 or student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"student and teacher maps have shapes {student.shape} and "
            f"{teacher.shape}; wanted [batch, h, w, channels] with equal batch, h and "
            "w: choose layers of one size, or resize one with jax.image.resize"
        )
    difference = _attention_map(student) - _attention_map(
        jax.lax.stop_gradient(teacher)
    )
    square = jnp.square(difference)
    return safe_sqrt(square.sum(-1)) if reduction == "norm" else square.mean(-1)


def rkd(
    student: ArrayLike,
    teacher: ArrayLike,
    *,
    distance: ArrayLike = 1.0,
    angle: ArrayLike = 2.0,
) -> jax.Array:
    """Relations between the examples of a batch (Park et al. 2019, sec. 3.2).

    distance * mean over j of h(d^S_bj - d^T_bj)
    + angle * mean over i != k of h(cos^S_ibk - cos^T_ibk)

    d_bj is ||x_b - x_j|| divided by its mean over all pairs, cos_ibk the cosine of the
    angle at x_b between x_i and x_k, and h Huber's loss: e^2 / 2 for |e| <= 1, else
    |e| - 1/2. i, j and k run over the other examples. The batch mean is the mean over
    all pairs and all triples, in place of the paper's sums. The defaults are the
    paper's weights for both terms. Both are invariant to rotation, translation and
    scaling of the embeddings. The cosines of a pair at distance 0 are 0.

    An example's value depends on the rest of its batch; NaN in one makes all NaN.
    Memory grows as batch^2 * (d + batch).

    Args:
      student: float [batch, d].
      teacher: float [batch, d'], of the same examples; it gets no gradient.
      distance: weight of the distances, at least 0.
      angle: weight of the angles, at least 0; a known 0 skips their computation.

    Returns: [batch].

    Raises: ValueError for arrays of other shapes, a negative weight, and a batch of
      fewer than three examples (two if angle is 0).

    >>> student = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> float(rkd(student, 3 * student + 1).max())
    0.0
    """
    student, teacher = _both(student, teacher, "embeddings")
    checks.weight("distance", distance)
    checks.weight("angle", angle)
    angles = isinstance(angle, jax.core.Tracer) or bool(np.any(angle))
    _check_embeddings(student, teacher)
    batch, least = len(student), 3 if angles else 2
    if batch < least:
        raise ValueError(
            f"the batch has {batch} examples; rkd needs at least {least}: give more, "
            "or set angle=0 for two"
        )
    pairs = [_differences(x) for x in (student, jax.lax.stop_gradient(teacher))]
    error = optax.huber_loss(*map(_distances, pairs))
    value = checks.weighted(distance, error.sum(1) / (batch - 1))
    if angles:
        # The cosine at x_b is 0 if i = b or k = b, and 1 for both networks if i = k.
        error = optax.huber_loss(*map(_cosines, pairs))
        error = jnp.where(jnp.eye(batch, dtype=bool)[None], 0, error)
        count = (batch - 1) * (batch - 2)
        value = value + checks.weighted(angle, error.sum((1, 2)) / count)
    return value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bank:
    """Latest embeddings of every example of a set, for `contrastive`.

    Attributes:
      student: float [examples, d], unit vectors.
      teacher: float [examples, d], unit vectors.
    """

    student: Any  # arrays, or their shapes while a training is planned
    teacher: Any


def init_bank(key: jax.Array, num_examples: SupportsIndex, size: SupportsIndex) -> Bank:
    """Returns a bank of random unit vectors.

    Args:
      key: a key of `jax.random`.
      num_examples: number of examples in the whole set; `index` of `contrastive` counts
        them from 0.
      size: dimension d of the embeddings.

    Raises: ValueError for a number below 1.

    >>> init_bank(jax.random.key(0), 10, 4).student.shape
    (10, 4)
    """
    remedy = "give the sizes of the set and of the embeddings"
    num_examples = values.integer("num_examples", num_examples, 1, remedy=remedy)
    shape = num_examples, values.integer("size", size, 1, remedy=remedy)
    keys = jax.random.split(key)
    return Bank(*(units.unit(jax.random.normal(k, shape, jnp.float32)) for k in keys))


def contrastive(
    student: ArrayLike,
    teacher: ArrayLike,
    index: ArrayLike,
    bank: Bank,
    negatives: ArrayLike,
    *,
    temperature: ArrayLike = 0.07,
    momentum: ArrayLike = 0.5,
    normalizers: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> tuple[jax.Array, Bank]:
    """Contrastive representation distillation (CRD, Tian et al. 2020, sec. 3.2).

    - log h(s_b, t'_b) - N * mean over n of log(1 - h(s_b, t'_n)), plus the same for the
    teacher's t_b and the bank's s', where

    h(s, t) = e / (e + N / M), e = exp(s . t / temperature) / Z, for N negatives per
    example and M examples in the bank. Each expectation of the paper is the mean over
    the example's pairs. As in the authors' code, all partners of an anchor come from
    the given bank, the positive t'_b included. Embeddings are scaled to unit length.
    There is no factor T^2.

    Row index_b of the new bank is unit(momentum * old + (1 - momentum) * s_b), and
    likewise for the teacher; it has no gradient. If an index occurs twice in a batch,
    one of the two embeddings is kept.

    Args:
      student: float [batch, d], a learned projection of the student's features.
      teacher: float [batch, d], a learned projection of the teacher's features. Unlike
        in other losses it gets a gradient, which trains the projection; `Teacher` stops
        it at the features.
      index: integers [batch], the examples' rows in the bank, such as the "index" of
        a batch. A traced index outside the bank gives NaN and changes no row.
      bank: from `init_bank`, or from the previous call.
      negatives: integers [batch, N], rows of other examples, such as
        `jax.random.randint(key, (batch, 4096), 0, M)`.
      temperature: positive.
      momentum: weight of the old row, in [0, 1).
      normalizers: Z for the student's and for the teacher's anchors, positive. 1 is the
        paper's formula; the authors' code uses M times the mean of
        exp(s . t' / temperature) over the first batch.

    Returns: values [batch], and the updated bank.

    Raises: ValueError for other shapes, integers in place of floats, a bank with fewer
      rows than the batch, indices outside it, and numbers out of range.

    >>> bank, x = init_bank(jax.random.key(0), 10, 4), jnp.ones((2, 4))
    >>> loss, bank = contrastive(x, x, jnp.array([3, 4]), bank, jnp.zeros((2, 5), int))
    >>> loss.shape
    (2,)
    """
    student, teacher = _both(student, teacher, "embeddings")
    checks.temperature(temperature)
    values.require_share("momentum", momentum, "0 keeps only the newest embedding")
    for z in normalizers:
        values.require("normalizers", z, 0, "1 is the paper's formula", strict=True)
    _check_embeddings(student, teacher)
    size = _check_bank(student, teacher, bank)
    index = _rows(index, "index", len(student), 1)
    negatives = _rows(negatives, "negatives", len(student), 2)
    remedy = f"the bank has {size} rows"
    inside = checks.within("index", index, size, remedy)
    others = checks.within("negatives", negatives, size, remedy).all(1)
    old = jax.lax.stop_gradient(bank)
    student, teacher = units.unit(student), units.unit(teacher)
    rows = jnp.concatenate([index[:, None], negatives], 1).clip(0, size - 1)
    value = jnp.zeros(len(student), student.dtype)
    partners = (student, old.teacher), (teacher, old.student)
    for (anchor, kept), z in zip(partners, normalizers, strict=True):
        score = _scores(anchor, kept, rows)
        noise = jnp.log(widened(z).astype(score.dtype) * (negatives.shape[1] / size))
        score = score / jnp.asarray(temperature, score.dtype) - noise
        found = jax.nn.log_sigmoid(score[:, 0]) + jax.nn.log_sigmoid(-score[:, 1:]).sum(
            1
        )
        value = value - found
    where = jnp.where(inside, index, size)  # dropped
    share = jnp.asarray(momentum, student.dtype)
    new = Bank(
        _moved(old.student, where, student, share),
        _moved(old.teacher, where, teacher, share),
    )
    return jnp.where(inside & others, value, jnp.nan), new


def _scores(anchor, kept, rows):
    """Products of each anchor with its rows of a bank, [batch, n]."""
    kept = kept.astype(anchor.dtype)
    if rows.size < len(kept):
        return jnp.einsum("bd,bnd->bn", anchor, kept[rows], precision="highest")
    # With more draws than rows all products are cheaper than copies of rows.
    every = jnp.matmul(anchor, kept.T, precision="highest")
    return jnp.take_along_axis(every, rows, 1)


def _moved(bank, where, embeddings, share):
    embeddings = jax.lax.stop_gradient(embeddings)
    kept = bank.at[where].get(mode="clip").astype(embeddings.dtype)
    rows = units.unit(share * kept + (1 - share) * embeddings)
    return bank.at[where].set(rows.astype(bank.dtype), mode="drop")


def _both(student, teacher, what):
    """Returns both arrays in their common type, at least float32."""
    arrays = (
        checks.floats(f"student {what}", student),
        checks.floats(f"teacher {what}", teacher),
    )
    dtype = common_type(*(array.dtype for array in arrays), jnp.float32)
    return [array.astype(dtype) for array in arrays]


def _check_embeddings(student, teacher):
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(
            f"student and teacher embeddings have shapes {student.shape} and "
            f"{teacher.shape}; wanted [batch, d] of the same examples: pool or flatten "
            "other features"
        )


def _check_bank(student, teacher, bank) -> int:
    """Returns the number of rows of a bank; raises ValueError if it does not fit."""
    shapes = bank.student.shape, bank.teacher.shape
    size = student.shape[1]
    if teacher.shape[1] != size or shapes != ((shapes[0][0], size),) * 2:
        raise ValueError(
            f"embeddings {student.shape} and {teacher.shape} do not fit a bank of "
            f"{shapes[0]} and {shapes[1]}; project both to the size d of init_bank"
        )
    if shapes[0][0] < len(student):
        raise ValueError(
            f"the bank has {shapes[0][0]} rows for a batch of {len(student)}; make it "
            "with init_bank for the whole set"
        )
    return shapes[0][0]


def _rows(value, name, batch, axes):
    """Returns integers [batch] or [batch, n]; raises ValueError for other values."""
    array = checks.integers(value)
    if array is None or array.ndim != axes or len(array) != batch or not array.size:
        wanted = [batch, "at least 1"][:axes]
        raise ValueError(
            f"{name} are {jnp.result_type(value)}{list(np.shape(value))}; wanted "
            f"integers [{', '.join(map(str, wanted))}], rows of the bank"
        )
    return array


def _attention_map(maps):
    """Returns normalised sums of squares over channels, [batch, positions]."""
    maps = units.scaled(maps, range(1, maps.ndim))
    return units.unit(jnp.square(maps).sum(-1).reshape(len(maps), -1))


def _differences(embeddings):
    """Returns x_b - x_i [b, i, d], scaled so that no square overflows or vanishes."""
    embeddings = units.scaled(embeddings, (0, 1))
    return embeddings[:, None] - embeddings[None]


def _distances(differences):
    """Returns lengths [b, j] divided by their mean over all pairs."""
    lengths = safe_sqrt(jnp.square(differences).sum(-1))
    mean = lengths.sum() / (len(lengths) * (len(lengths) - 1))
    return lengths / jnp.where(mean == 0, 1, mean)


def _cosines(differences):
    """Returns the cosine [b, i, k] of the angle at x_b between x_i and x_k."""
    units_of = units.unit(differences)
    return jnp.einsum("bid,bkd->bik", units_of, units_of, precision="highest")
