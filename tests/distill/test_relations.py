"""Losses between features against float64 NumPy, as the papers' formulas stand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.modes import enable_x64

BATCH, SIZE, ROWS = 5, 4, 9
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, BATCH, SIZE)).astype(np.float32)
MAPS = [oracles.pairs(seed)[0] for seed in (0, 1)]
STUDENT_MAPS, TEACHER_MAPS = MAPS[0][0], MAPS[1][1]  # of 2 and 3 channels
INDEX = np.array([3, 8, 0, 5, 1])
NEGATIVES = RNG.integers(0, ROWS, (BATCH, 6))


def attention(student, teacher):
    maps = [
        (np.float64(x) ** 2).sum(-1).reshape(len(x), -1) for x in (student, teacher)
    ]
    s, t = (m / np.sqrt((m**2).sum(1, keepdims=True)) for m in maps)
    return np.sqrt(((s - t) ** 2).sum(1))


def huber(error):
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5


def relations(x):
    """Distances over their mean, and cosines of (i, vertex, k), one by one."""
    x, examples = np.float64(x), range(len(x))
    lengths = {
        (i, j): np.sqrt(((x[i] - x[j]) ** 2).sum())
        for i, j in itertools.permutations(examples, 2)
    }
    mean = np.mean(list(lengths.values()))
    cosines = {
        (i, j, k): (x[i] - x[j]) @ (x[k] - x[j]) / lengths[i, j] / lengths[k, j]
        for i, j, k in itertools.permutations(examples, 3)
    }
    return {pair: length / mean for pair, length in lengths.items()}, cosines


def rkd(student, teacher, distance=1.0, angle=2.0):
    (lengths, cosines), (of_teacher, cosines_of_teacher) = map(
        relations, (student, teacher)
    )
    found = []
    for b in range(len(student)):
        pairs = [huber(lengths[p] - of_teacher[p]) for p in lengths if p[0] == b]
        triples = [
            huber(cosines[p] - cosines_of_teacher[p]) for p in cosines if p[1] == b
        ]
        found.append(distance * np.mean(pairs) + angle * np.mean(triples))
    return np.array(found)


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def contrastive(student, teacher, bank, temperature=0.07, momentum=0.5, z=(1.0, 1.0)):
    student, teacher = unit(np.float64(student)), unit(np.float64(teacher))
    kept = [np.float64(bank.student), np.float64(bank.teacher)]
    noise = NEGATIVES.shape[1] / len(kept[0])
    values = np.zeros(BATCH)

    def h(anchor, partner, z):
        e = np.exp(anchor @ partner / temperature) / z
        return e / (e + noise)

    for b in range(BATCH):
        for anchors, partners, own in (
            (student, kept[1], z[0]),
            (teacher, kept[0], z[1]),
        ):
            values[b] -= np.log(h(anchors[b], partners[INDEX[b]], own))
            for n in NEGATIVES[b]:
                values[b] -= np.log(1 - h(anchors[b], partners[n], own))
    new = [rows.copy() for rows in kept]
    for rows, embeddings in zip(new, (student, teacher), strict=True):
        rows[INDEX] = unit(momentum * rows[INDEX] + (1 - momentum) * embeddings)
    return values, new


@functools.cache
def bank():
    return distill.init_bank(jax.random.key(0), ROWS, SIZE)


@pytest.mark.parametrize(
    ("ours", "oracle", "arguments"),
    [
        (distill.attention, attention, (STUDENT_MAPS, TEACHER_MAPS)),
        (
            functools.partial(distill.attention, reduction="mean"),
            lambda s, t: attention(s, t) ** 2 / 16,
            (STUDENT_MAPS, TEACHER_MAPS),
        ),
        (distill.rkd, rkd, (X, Y)),
        (
            functools.partial(distill.rkd, distance=3.0, angle=0.5),
            functools.partial(rkd, distance=3.0, angle=0.5),
            (100 * X, Y[:, :3]),
        ),
        (
            functools.partial(distill.rkd, angle=0),
            functools.partial(rkd, angle=0.0),
            (X, Y),
        ),
    ],
    ids=["attention", "attention, mean", "rkd", "rkd, weighted", "rkd, distances"],
)
def test_the_papers_formulas(ours, oracle, arguments):
    expected = oracle(*arguments)
    np.testing.assert_allclose(quick(ours)(*arguments), expected, rtol=1e-5, atol=1e-6)
    with enable_x64(True):
        found = quick(ours)(*(jnp.float64(x) for x in arguments))
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.5, "momentum": 0.9, "normalizers": (40.0, 0.3)}],
    ids=["paper", "with constants"],
)
@pytest.mark.parametrize("num_rows", [ROWS, 400])  # fewer than draws, and more
def test_contrastive(options, num_rows):
    names = {"normalizers": "z"}
    given = {names.get(name, name): value for name, value in options.items()}
    own = distill.init_bank(jax.random.key(0), num_rows, SIZE)
    expected, rows = contrastive(X, Y, own, **given)
    loss = quick(functools.partial(distill.contrastive, **options))
    found, new = loss(X, Y, INDEX, own, NEGATIVES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(new.student, rows[0], atol=1e-6)
    np.testing.assert_allclose(new.teacher, rows[1], atol=1e-6)
    with enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), own)
        found, _ = loss(jnp.float64(X), jnp.float64(Y), INDEX, wide, NEGATIVES)
        assert found.dtype == jnp.float64
        # The bank was scaled to unit length in float32.
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_contrastive_trains_both_projections_and_no_bank():
    def loss(student, teacher, kept):
        values, new = distill.contrastive(student, teacher, INDEX, kept, NEGATIVES)
        return values.sum() + sum(leaf.sum() for leaf in jax.tree.leaves(new))

    student, teacher, kept = jax.grad(loss, (0, 1, 2))(
        jnp.array(X), jnp.array(Y), bank()
    )
    assert student.any()
    assert teacher.any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(kept))
    with enable_x64(True):
        x, y = jnp.float64(X), jnp.float64(Y)
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), bank())

        def values(x):
            return distill.contrastive(x, y, INDEX, wide, NEGATIVES)[0].sum()

        step = 1e-6 * jnp.float64(Y)
        slope = (values(x + step) - values(x - step)) / 2e-6
        np.testing.assert_allclose((jax.grad(values)(x) * Y).sum(), slope, rtol=1e-6)


def test_rows_of_other_examples_stay_and_rows_have_unit_length():
    _, new = distill.contrastive(X, Y, INDEX, bank(), NEGATIVES)
    others = np.setdiff1d(np.arange(ROWS), INDEX)
    for old, found in zip(*map(jax.tree.leaves, (bank(), new)), strict=True):
        assert (np.asarray(old)[others] == np.asarray(found)[others]).all()
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


def test_traced_indices_outside_the_bank_give_nan_and_change_nothing():
    wrong = np.array([3, -1, ROWS, 5, 1])
    negatives = NEGATIVES.copy()
    negatives[4, 2] = ROWS
    found, new = jax.jit(distill.contrastive)(X, Y, wrong, bank(), negatives)
    assert np.isnan(found).tolist() == [False, True, True, False, True]
    for old, changed in zip(*map(jax.tree.leaves, (bank(), new)), strict=True):
        same = (np.asarray(old) == np.asarray(changed)).all(1)
        assert np.flatnonzero(~same).tolist() == [1, 3, 5]


def test_rkd_sees_no_rotation_shift_or_factor():
    turn = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0].astype(np.float32)
    found = distill.rkd(X, Y)
    for moved in (X @ turn, 1e-3 * X, X + 2, 1e3 * X @ turn - 5):
        np.testing.assert_allclose(distill.rkd(moved, Y), found, rtol=1e-4)
    np.testing.assert_allclose(distill.rkd(3 * X @ turn, X), 0, atol=1e-9)


def test_attention_sees_no_factor_and_no_order_of_channels():
    found = distill.attention(STUDENT_MAPS, TEACHER_MAPS)
    for moved in (1e-12 * STUDENT_MAPS, 1e12 * STUDENT_MAPS, STUDENT_MAPS[..., ::-1]):
        np.testing.assert_allclose(
            distill.attention(moved, TEACHER_MAPS), found, rtol=1e-5
        )
    assert not distill.attention(STUDENT_MAPS, 2 * STUDENT_MAPS).any()
    assert (found <= 2**0.5).all()  # of vectors without negative entries


LOSSES = {
    "attention": distill.attention,
    "attention, mean": functools.partial(distill.attention, reduction="mean"),
    "rkd": distill.rkd,
    "contrastive": lambda s, t: distill.contrastive(s, t, INDEX, bank(), NEGATIVES)[0],
}
ARGUMENTS = {
    name: (STUDENT_MAPS, TEACHER_MAPS) if "attention" in name else (X, Y)
    for name in LOSSES
}


@functools.cache
def compiled(name):
    def run(student, teacher):
        gradients = jax.grad(lambda *x: LOSSES[name](*x).sum(), (0, 1))
        return LOSSES[name](student, teacher), *gradients(student, teacher)

    return quick(run)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_features_give_finite_values_and_gradients(name, dtype):
    student, teacher = (jnp.asarray(x, dtype) for x in ARGUMENTS[name])
    same = jnp.broadcast_to(student[:1], student.shape)
    twice = student.at[1].set(student[0])
    cases = [
        (0 * student, teacher),
        (student, 0 * teacher),
        (0 * student, 0 * teacher),
        (student, student),
        (same, teacher),
        (same, same),
        (twice, teacher),
        (1e30 * student, 1e-30 * teacher),
        (1e-36 * student, 1e36 * teacher),
    ]
    for case in cases:
        value, *gradients = compiled(name)(*case)
        assert value.shape == (BATCH,)
        assert value.dtype == jnp.float32
        assert np.isfinite(value).all()
        assert all(np.isfinite(np.float32(g)).all() for g in gradients)
    if name != "contrastive":
        assert not compiled(name)(student, teacher)[2].any()
        assert not compiled(name)(same, same)[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_is_computed_in_float32(name):
    student, teacher = (jnp.asarray(x, jnp.bfloat16) for x in ARGUMENTS[name])
    found, gradient, _ = compiled(name)(student, teacher)
    assert gradient.dtype == jnp.bfloat16
    exact = compiled(name)(student.astype(jnp.float32), teacher.astype(jnp.float32))
    np.testing.assert_allclose(found, exact[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_population_is_vmapped(name):
    student, teacher = ARGUMENTS[name]
    stacked = np.stack([student, 2 * student + 1])
    found = quick(jax.vmap(LOSSES[name], (0, None)))(stacked, teacher)
    expected = [compiled(name)(s, teacher)[0] for s in stacked]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)


def given(student=X, teacher=Y, index=INDEX, kept=None, negatives=NEGATIVES, **options):
    kept = bank() if kept is None else kept
    return lambda: distill.contrastive(
        student, teacher, index, kept, negatives, **options
    )


SMALL = distill.Bank(jnp.ones((4, SIZE)), jnp.ones((4, SIZE)))
BAD = [
    (lambda: distill.attention(X, Y), r"wanted \[batch, h, w, channels\]"),
    (lambda: distill.attention(MAPS[0][0], MAPS[0][0][:, :2]), r"\(5, 2, 4, 2\)"),
    (lambda: distill.attention(*MAPS[0], reduction="sum"), r"reduction.*'sum'"),
    (lambda: distill.attention(MAPS[0][0], INDEX), r"teacher maps holds int"),
    (lambda: distill.rkd(X, Y[:4]), r"\(5, 4\) and \(4, 4\); wanted \[batch, d\]"),
    (lambda: distill.rkd(*MAPS[0]), r"pool or flatten"),
    (lambda: distill.rkd(X[:2], Y[:2]), r"has 2 examples; rkd needs at least 3"),
    (lambda: distill.rkd(X[:1], Y[:1], angle=0), r"has 1 examples.* at least 2"),
    (lambda: distill.rkd(X, Y, distance=-1), r"distance must be at least 0"),
    (lambda: distill.rkd(X, Y, angle=np.inf), r"angle must be finite"),
    (given(teacher=Y[:, :3]), r"\(5, 4\) and \(5, 3\) do not fit a bank of \(9, 4\)"),
    (given(student=X[:, :3], teacher=Y[:, :3]), r"init_bank"),
    (given(index=INDEX % 4, negatives=NEGATIVES % 4, kept=SMALL), r"4 rows for a bat"),
    (given(index=INDEX[:4]), r"index are int\d+\[4\]; wanted integers \[5\]"),
    (given(index=X[:, 0]), r"index are float32\[5\]"),
    (given(index=INDEX + 1), r"index must lie in \[0, 9\), got 9; the bank has 9 rows"),
    (given(index=INDEX - 1), r"index must lie in \[0, 9\), got -1"),
    (given(negatives=NEGATIVES + ROWS), r"negatives must lie in \[0, 9\)"),
    (given(negatives=NEGATIVES[:, :0]), r"\[5, 0\]; wanted integers \[5, at least 1"),
    (given(negatives=NEGATIVES[0]), r"negatives are int\d+\[6\]"),
    (given(temperature=0), r"temperature must be above 0"),
    (given(momentum=1.0), r"momentum must lie in \[0, 1\), got 1"),
    (given(normalizers=(1.0, 0.0)), r"normalizers must be above 0"),
    (lambda: distill.init_bank(jax.random.key(0), 0, 4), r"num_examples must be at"),
    (lambda: distill.init_bank(jax.random.key(0), 4, 0), r"size must be at least 1"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
