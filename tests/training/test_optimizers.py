"""Adam with its own decay, its schedule, and Shampoo, against float64 NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import training
from tests.models.oracles import doubles
from tests.modes import enable_x64

RNG = np.random.default_rng(0)
PARAMS = {
    "conv": {"kernel": jnp.asarray(RNG.normal(size=(1, 2, 3, 3)), jnp.float32)},
    "fc": {
        "kernel": jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32),
        "bias": jnp.asarray(RNG.normal(size=4), jnp.float32),
    },
}
STEPS, WARMUP = 6, 2
RATE, DECAY = 0.01, 0.003


def gradients(step):
    """Of norms on both sides of 1."""
    rng = np.random.default_rng(step)
    scale = 0.1 if step % 2 else 2.0
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32),
        PARAMS,
    )


def trajectory(optimizer, steps=STEPS):
    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for number in range(steps):
        params, state = step(params, state, gradients(number))
    return params, state


def factor(step):
    """The paper's schedule: s(0) = 0, s(2) = 1, s(6) = 0."""
    if step < WARMUP:
        return step / WARMUP
    return (1 + np.cos(np.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def clipped(step):
    tree = doubles(gradients(step))
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))
    return jax.tree.map(lambda leaf: leaf / max(norm, 1.0), tree)


def is_kernel(path):
    return path[-1].key == "kernel"


def descend(path, w, direction, step):
    decay = DECAY * w if is_kernel(path) else 0.0
    return w - factor(step) * (RATE * direction + decay)


def close(found, expected, atol=2e-6):
    """Float32 numbers of about 1 through six steps, of about 0.01 each."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected
    )


def test_adam_equals_numpy():
    def leaf(path, w):
        m, v = np.zeros_like(w), np.zeros_like(w)
        for step in range(STEPS):
            g = clipped(step)
            for key in path:
                g = g[key.key]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            corrected = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            w = descend(path, w, corrected[0] / (np.sqrt(corrected[1]) + 1e-8), step)
        return w

    schedule = training.warmup_cosine(STEPS, WARMUP)
    found, _ = trajectory(training.adam(RATE, schedule, DECAY, 1.0))
    close(found, jax.tree_util.tree_map_with_path(leaf, doubles(PARAMS)))


def test_adamw_is_the_same_with_the_decay_over_the_rate():
    schedule = training.warmup_cosine(STEPS, WARMUP)
    ours, _ = trajectory(training.adam(RATE, schedule, DECAY, 1.0))
    adamw = optax.adamw(
        lambda step: RATE * schedule(step),
        weight_decay=DECAY / RATE,
        mask=training.kernels,
    )
    theirs, _ = trajectory(optax.chain(optax.clip_by_global_norm(1.0), adamw))
    close(ours, theirs)
    # The same number for both is another optimiser, and no decay a third.
    other, _ = trajectory(
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(
                lambda step: RATE * schedule(step),
                weight_decay=DECAY,
                mask=training.kernels,
            ),
        )
    )
    assert np.abs(other["fc"]["kernel"] - ours["fc"]["kernel"]).max() > 1e-3


def test_the_first_moment_may_be_bfloat16():
    schedule = training.warmup_cosine(STEPS, WARMUP)
    exact, _ = trajectory(training.adam(RATE, schedule, DECAY, 1.0))
    rounded, state = trajectory(
        training.adam(RATE, schedule, DECAY, 1.0, moment_dtype=jnp.bfloat16)
    )
    adam = state[1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(adam.mu)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(adam.nu)} == {"float32"}
    # bfloat16 keeps 8 bits: six steps of at most 0.01 each, to 2^-8 of them
    close(rounded, exact, atol=6 * RATE * 2**-8)


@pytest.mark.parametrize("make", [training.sgd, training.adam, training.shampoo])
def test_nothing_is_clipped_unless_asked(make):
    large = {"kernel": 1e3 * jnp.eye(2)}
    states = [one.init(large) for one in (make(0.5), make(0.5, clip_norm=1.0))]
    # An optimiser that clips has a state of its own for it.
    assert len(states[0]) == len(states[1]) - 1


def test_nesterov_momentum_of_sgd_equals_numpy():
    def leaf(path, w):
        m = np.zeros_like(w)
        for step in range(STEPS):
            g = doubles(gradients(step))
            for key in path:
                g = g[key.key]
            m = 0.5 * m + g
            w = w - RATE * (g + 0.5 * m)
        return w

    found, _ = trajectory(training.sgd(RATE, 0.5, nesterov=True))
    close(found, jax.tree_util.tree_map_with_path(leaf, doubles(PARAMS)))


def test_nesterov_momentum_of_adam_equals_numpy():
    """Dozat 2016, whose step has the next momentum and this gradient in it."""

    def leaf(path, w):
        m, v = np.zeros_like(w), np.zeros_like(w)
        for step in range(STEPS):
            g = doubles(gradients(step))
            for key in path:
                g = g[key.key]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            ahead = 0.9 * m / (1 - 0.9 ** (step + 2)) + 0.1 * g / (
                1 - 0.9 ** (step + 1)
            )
            w = w - RATE * ahead / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
        return w

    found, _ = trajectory(training.adam(RATE, nesterov=True))
    close(found, jax.tree_util.tree_map_with_path(leaf, doubles(PARAMS)))


def test_members_differ_in_their_numbers():
    def make(rates, decay):
        return training.adam(1.0, lambda step: rates[step], decay)

    table = jnp.asarray([factor(step) for step in range(STEPS)], jnp.float32)
    found, _ = trajectory(training.bind(make, RATE * table, jnp.float32(0.0)))
    expected, _ = trajectory(
        training.adam(RATE, training.warmup_cosine(STEPS, WARMUP), 0.0)
    )
    close(found, expected)


@pytest.mark.parametrize("warmup", [-1, 6, 9])
def test_a_warmup_that_leaves_no_step_is_refused(warmup):
    with pytest.raises(ValueError, match=rf"0\.\.5 .* 6 steps, got {warmup}"):
        training.warmup_cosine(6, warmup)


def root(matrix, epsilon=1e-6):
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, 0) + epsilon * max(values[-1], 1e-30)
    return (vectors * values**-0.25) @ vectors.T


def blocks_of(shape, size):
    """Slices of the equal blocks of a matrix."""
    parts = []
    for side in shape:
        count = -(-side // size)
        step = -(-side // count)
        parts.append([slice(i * step, min(side, (i + 1) * step)) for i in range(count)])
    return [(rows, columns) for rows in parts[0] for columns in parts[1]]


@pytest.mark.parametrize("every", [1, 2])
def test_shampoo_equals_numpy(every):
    size, beta, steps = 3, 0.9, 3

    def leaf(path, w):
        shape = (-1, w.shape[-1])
        square, moments, roots, out = np.zeros_like(w), {}, {}, None
        for step in range(steps):
            g = doubles(gradients(step))
            for key in path:
                g = g[key.key]
            correction = 1 - beta ** (step + 1)
            square = beta * square + (1 - beta) * g**2
            plain = g / (np.sqrt(square / correction) + 1e-8)
            if w.ndim < 2:
                out = plain
                continue
            matrix = g.reshape(shape)
            found = np.zeros_like(matrix)
            for block in blocks_of(matrix.shape, size):
                part = matrix[block]
                name = (block[0].start, block[1].start)
                left, right = moments.get(name, (0, 0))
                left = beta * left + (1 - beta) * part @ part.T
                right = beta * right + (1 - beta) * part.T @ part
                moments[name] = left, right
                if step % every == 0:
                    roots[name] = root(left / correction), root(right / correction)
                found[block] = roots[name][0] @ part @ roots[name][1]
            norms = [np.sqrt((x**2).sum()) for x in (plain, found)]
            out = (found * norms[0] / norms[1]).reshape(w.shape)
        return out

    transform = training.scale_by_shampoo(
        block_size=size, decay=beta, every_steps=every
    )
    update = jax.jit(transform.update)
    state = transform.init(PARAMS)
    for step in range(steps):
        found, state = update(gradients(step), state)
    expected = jax.tree_util.tree_map_with_path(leaf, doubles(PARAMS))
    # Roots of rank-deficient moments with a ridge of 1e-6 of the largest eigenvalue,
    # which float32 eigenvalues miss by 1e-7 of it: a tenth, to the power of 1/4.
    close(found, expected, atol=0.03)
    assert state.moments[0][0].shape == (2, 1, 3, 3)  # [6, 3] in blocks of 3


def test_shampoo_of_full_rank_equals_numpy_closely():
    """Square blocks have full rank moments: float32 throughout."""
    gradient = {"kernel": jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)}
    transform = training.scale_by_shampoo()
    found, _ = transform.update(gradient, transform.init(gradient))
    g = np.asarray(gradient["kernel"], np.float64)
    expected = root(g @ g.T) @ g @ root(g.T @ g)
    # One step: RMSProp's has 16 entries of 1, so the norm 4; the direction is twice an
    # orthogonal matrix, but for the ridge.
    expected *= 4 / np.sqrt((expected**2).sum())
    np.testing.assert_allclose(found["kernel"], expected, atol=1e-3)
    np.testing.assert_allclose(expected @ expected.T, 4 * np.eye(4), atol=0.2)


def test_no_batch_of_decompositions_reaches_the_cpu_thread_pool():
    # Two batches at once can block all threads for ever, see `decompositions`.
    params = {"a": jnp.zeros((6, 6)), "b": jnp.zeros((5, 7))}
    optimizer = training.shampoo(0.1, block_size=3)
    state = optimizer.init(params)
    text = jax.jit(optimizer.update).lower(params, state, params).compile().as_text()
    calls = re.findall(r"= \(?\w+\[([\d,]*)\].*custom_call_target=\"lapack", text)
    assert len(calls) >= 4
    assert all(len(shape.split(",")) == 2 for shape in calls), calls


def test_shampoo_descends_with_decay_and_schedule():
    """One step, from rest: (1 - m) (1 + m) of the direction."""
    direction = training.scale_by_shampoo()
    gradient = clipped(0)
    gradient = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradient)
    a, _ = direction.update(gradient, direction.init(PARAMS))
    optimizer = training.shampoo(RATE, None, DECAY, 1.0, momentum=0.5)
    updates, _ = optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS)

    def expected(path, w, a):
        decay = DECAY * w if is_kernel(path) else 0.0
        return -(RATE * 0.75 * a + decay)

    close(
        updates,
        jax.tree_util.tree_map_with_path(expected, doubles(PARAMS), doubles(a)),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"every_steps": 0}, "every_steps must be at least 1, got 0"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0.0"),
    ],
)
def test_bad_shampoo(options, words):
    with pytest.raises(ValueError, match=words):
        training.scale_by_shampoo(**options)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "optimizer",
    [
        training.shampoo(RATE),
        training.bind(training.sgd, jnp.float32(RATE), jnp.float32(0.9)),
        training.ema(training.sgd(RATE), 0.9),
    ],
    ids=["shampoo", "bound sgd", "ema"],
)
def test_a_training_keeps_its_types(optimizer, dtype, x64):
    def objective(params, batch_stats, batch, key):
        return (params["kernel"] ** 2).sum(), (batch_stats, {})

    with enable_x64(x64):
        params = {"kernel": jnp.ones((3, 2), dtype)}
        before = jax.eval_shape(optimizer.init, params)
        state = training.fit(
            objective, params, {}, optimizer, lambda seed, step: (), num_steps=2
        )
    assert state.params["kernel"].dtype == dtype
    assert (np.asarray(state.params["kernel"], np.float32) < 1).all()
    types = [
        [leaf.dtype for leaf in jax.tree.leaves(x)] for x in (before, state.opt_state)
    ]
    assert types[0] == types[1]


def test_shampoo_of_bfloat16_has_statistics_in_float32():
    transform = training.scale_by_shampoo()
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), gradients(0))
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), rounded)
    found, state = transform.update(rounded, transform.init(rounded))
    expected, _ = transform.update(exact, transform.init(exact))
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))
    floats = {leaf.dtype.name for leaf in jax.tree.leaves(state[1:])}
    assert floats == {"float32"}
