import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import data
from kd_heuristics.data import order


def numbered(count, side=4):
    """A set whose images hold their own number, and are nowhere 0."""
    numbers = np.arange(1, count + 1, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (count, side, side, 1))
    return data.Dataset(images.copy(), np.arange(count, dtype=np.int32), count)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def indices_of(seed, steps, num_examples, batch_size, remainder="drop"):
    """Indices of several steps, [steps, batch_size]."""
    return jax.vmap(
        lambda step: data.batch_indices(seed, step, num_examples, batch_size, remainder)
    )(steps)


@jax.jit
def call(batches, seed, step):
    return batches(seed, step)


def epoch_of(seed, epoch, num_examples, batch_size):
    steps = data.steps_per_epoch(num_examples, batch_size)
    found = indices_of(
        seed, epoch * steps + jnp.arange(steps), num_examples, batch_size
    )
    return np.asarray(found).reshape(-1)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    sizes=st.sampled_from([(1, 1), (12, 12), (40, 10), (12, 5)]),  # each is compiled
    epoch=st.integers(0, 1000),
    seed=st.integers(-(2**31), 2**31 - 1),
)
def test_an_epoch_has_each_example_at_most_once(sizes, epoch, seed):
    num_examples, batch_size = sizes
    found = epoch_of(seed, epoch, num_examples, batch_size)
    assert len(found) == num_examples // batch_size * batch_size
    assert len(set(found.tolist())) == len(found)
    assert set(found.tolist()) <= set(range(num_examples))


def test_epochs_and_seeds_differ():
    epochs = [epoch_of(seed, epoch, 40, 10) for seed in (0, 1) for epoch in (0, 1, 2)]
    for i, first in enumerate(epochs):
        assert sorted(first) == list(range(40))
        # Two random orders of 40 agree in about one place.
        assert all((first == other).sum() < 8 for other in epochs[:i])


def test_the_examples_that_an_epoch_leaves_out_change():
    left_out = [set(range(12)) - set(epoch_of(0, epoch, 12, 5)) for epoch in range(60)]
    # 60 draws of two of 12; each missed with probability 2e-5.
    assert set.union(*left_out) == set(range(12))


def test_the_first_indices_stay_what_they_are():
    first = data.batch_indices(0, 0, 50_000, 8)
    assert first.dtype == jnp.int32
    assert first.tolist() == [33043, 11386, 39514, 21453, 16837, 45800, 40002, 4249]
    later = data.batch_indices(7, 6250, 50_000, 8)
    assert later.tolist() == [7755, 37380, 34142, 49429, 16841, 13390, 43273, 22305]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    sizes=st.sampled_from([(1, 1), (7, 7), (7, 6), (12, 5), (40, 12), (17, 2)]),
    epochs=st.integers(1, 6),
    seed=st.integers(-(2**31), 2**31 - 1),
)
def test_carried_batches_are_those_of_the_repeated_set(sizes, epochs, seed):
    """The oracle repeats the shuffled set and then cuts it into batches."""
    num_examples, batch_size = sizes
    steps = jnp.arange(40)
    found = np.asarray(indices_of(seed, steps, *sizes, "carry"))
    flat = found.reshape(-1)
    last = epochs * num_examples
    if last <= len(flat):
        counts = np.bincount(flat[:last], minlength=num_examples)
        np.testing.assert_array_equal(counts, epochs)
    for start in range(0, len(flat) - num_examples + 1, num_examples):
        epoch = flat[start : start + num_examples]
        assert sorted(epoch) == list(range(num_examples))
        # The order of the epoch is the one that batches of all examples have.
        whole = indices_of(
            seed, jnp.array([start // num_examples]), num_examples, num_examples
        )
        np.testing.assert_array_equal(epoch, whole[0])
    for step, batch in enumerate(found):
        first, end = step * batch_size, (step + 1) * batch_size - 1
        if first // num_examples == end // num_examples:
            assert len({*batch.tolist()}) == batch_size
    if num_examples % batch_size == 0:
        np.testing.assert_array_equal(found, indices_of(seed, steps, *sizes))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    sizes=st.sampled_from([(1_255_544, 4096), (1020, 512), (45_000, 511)]),
    step=st.integers(0, 2**31 - 1),
    seed=st.integers(0, 9),
)
def test_late_steps_do_not_overflow(sizes, step, seed):
    """Python's integers say where a step begins, far beyond 2^31 examples too."""
    num_examples, batch_size = sizes
    epoch, place = divmod(step * batch_size, num_examples)
    places = place + np.arange(batch_size)
    key = jax.random.fold_in(jax.random.key(seed), np.uint32(2**32 - 1))
    one, two = (
        order.permute(
            jax.random.fold_in(key, number), jnp.int32(places) % num_examples, sizes[0]
        )
        for number in (epoch, epoch + 1)
    )
    expected = np.where(places < num_examples, one, two)
    (found,) = indices_of(seed, jnp.array([step]), *sizes, "carry")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("num_examples", "size"), [(10, 4), (9, 4), (12, 4), (5, 5)])
def test_kept_batches_hold_what_is_left_repeated(num_examples, size):
    """Each epoch: whole batches as with "drop", then the others, equally often."""
    epoch = -(-num_examples // size)
    assert data.steps_per_epoch(num_examples, size, "keep") == epoch
    assert data.num_steps(3, num_examples, size, "keep") == 3 * epoch
    found = np.asarray(indices_of(1, jnp.arange(3 * epoch), num_examples, size, "keep"))
    whole = num_examples // size
    dropped = np.asarray(indices_of(1, jnp.arange(3 * whole), num_examples, size))
    left = num_examples % size
    for number in range(3):
        own = found[number * epoch : (number + 1) * epoch]
        np.testing.assert_array_equal(
            own[:whole], dropped[number * whole : (number + 1) * whole]
        )
        if left:
            seen = sorted({*range(num_examples)} - {*own[:whole].ravel().tolist()})
            counts = np.bincount(own[-1], minlength=num_examples)[seen]
            assert counts.sum() == size
            assert counts.max() - counts.min() == (size % left > 0)


@pytest.mark.parametrize(
    ("epochs", "num_examples", "batch_size", "expected"),
    [
        # The step counts of the paper's training lengths.
        (1_000, 1_020, 512, 1_992),
        (10_000, 1_020, 512, 19_922),
        (100_000, 1_020, 512, 199_219),
        (1_000_000, 1_020, 512, 1_992_188),
        (300, 3_312, 512, 1_941),
        (1_000, 3_312, 512, 6_469),
        (3_000, 3_312, 512, 19_406),
        (10_000, 3_312, 512, 64_688),
        (30_000, 3_312, 512, 194_062),  # 194,062.5
        (100, 68_175, 512, 13_315),
        (300, 1_255_544, 4_096, 91_959),
        (0, 10, 3, 0),
        (1, 10, 4, 2),  # 2.5, to the even one
    ],
)
def test_carried_epochs_are_rounded_to_the_nearest_step(
    epochs, num_examples, batch_size, expected
):
    assert data.num_steps(epochs, num_examples, batch_size, "carry") == expected
    dropped = data.num_steps(epochs, num_examples, batch_size)
    assert dropped == epochs * (num_examples // batch_size)


@pytest.mark.parametrize("remainder", ["drop", "carry", "keep"])
def test_batches_hold_the_examples_of_their_indices(remainder):
    dataset = numbered(30)
    batches = data.train_batches(dataset, 7, remainder=remainder)
    for seed, step in ((0, 0), (0, 4), (0, 5), (3, 1234)):
        indices = np.asarray(indices_of(seed, jnp.array([step]), 30, 7, remainder))[0]
        batch = call(batches, seed, step)
        np.testing.assert_array_equal(batch["images"], dataset.images[indices])
        np.testing.assert_array_equal(batch["labels"], dataset.labels[indices])
        assert batch["images"].dtype == jnp.uint8
        assert batch["labels"].dtype == jnp.int32


def test_batches_can_hold_the_places_of_their_examples():
    batches = data.train_batches(numbered(30), 7, index=True)
    batch = call(batches, 3, 5)
    np.testing.assert_array_equal(batch["index"], batch["labels"])


def test_augmented_batches():
    dataset = numbered(30, side=8)
    batches = data.train_batches(dataset, 10, padding=2, flip=True)
    batch = call(batches, 0, 3)
    numbers = np.asarray(batch["images"]).max((1, 2, 3))
    np.testing.assert_array_equal(numbers, batch["labels"] + 1)
    shifted = (np.asarray(batch["images"]) == 0).any((1, 2, 3))
    assert shifted.sum() > 5  # a crop stays in place with probability 1 / 25
    assert not np.array_equal(batch["images"], call(batches, 1, 3)["images"])


def test_flipped_batches():
    images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    dataset = data.Dataset(images, np.arange(2, dtype=np.int32), 2)
    batches = data.train_batches(dataset, 2, flip=True)
    kept = []
    for step in range(10):
        batch = call(batches, 0, step)
        for image, label in zip(*map(np.asarray, batch.values()), strict=True):
            kept.append(np.array_equal(image, images[label]))
            assert kept[-1] or np.array_equal(image, images[label][:, ::-1])
    assert 2 < sum(kept) < 18  # of 20


def test_augmentation_is_drawn_anew_at_each_step():
    # One example: every batch is the same but for its crop.
    batches = data.train_batches(numbered(1, side=8), 1, padding=3)

    def crops(pairs):
        return {np.asarray(call(batches, *pair)["images"]).tobytes() for pair in pairs}

    # Of 49 places, 20 draws meet about 16, and 9 about 8.
    assert len(crops((0, step) for step in range(20))) > 10
    assert len(crops((seed, 0) for seed in range(9))) > 5


def test_under_jit_scan_and_vmap():
    batches = data.train_batches(numbered(12), 5, padding=2, flip=True)
    pairs = [(seed, step) for seed in (0, 9) for step in range(5)]
    expected = jax.tree.map(
        lambda *leaves: np.stack(leaves), *[call(batches, *pair) for pair in pairs]
    )
    seeds, steps = jnp.array(pairs).T
    mapped = jax.jit(lambda b, *a: jax.vmap(b)(*a))(batches, seeds, steps)
    scanned = jax.jit(
        lambda b, *a: jax.lax.scan(lambda _, pair: (None, b(*pair)), None, a)[1]
    )(batches, seeds, steps)
    for found in (mapped, scanned):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_set_is_an_argument_and_streams_share_a_program():
    traces = []

    @jax.jit
    def first(batches, seed):
        traces.append(None)
        return jax.tree.leaves(batches)[0].sum() + seed

    small, other = numbered(20), numbered(20).take(20)
    first(data.train_batches(small, 5, padding=1), 0)
    first(data.train_batches(other, 5, padding=1), 1)
    assert len(traces) == 1
    first(data.train_batches(other, 5), 1)
    assert len(traces) == 2
    assert [leaf.shape for leaf in jax.tree.leaves(data.train_batches(small, 5))] == [
        (20, 4, 4, 1),
        (20,),
    ]


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "expected"),
    [(10, 3, 3), (10, 10, 1), (1, 1, 1), (50_000, 128, 390)],
)
def test_steps_per_epoch(num_examples, batch_size, expected):
    assert data.steps_per_epoch(num_examples, batch_size) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.train_batches(numbered(3), 4), "batch of 4 .* set of 3"),
        (lambda: data.batch_indices(0, 0, 3, 4), "batch of 4 .* set of 3"),
        (lambda: data.batch_indices(0, 0, 3, 4, "carry"), "batch of 4 .* set of 3"),
        (lambda: data.num_steps(1, 3, 4, "carry"), "batch of 4 .* set of 3"),
        (lambda: data.num_steps(-1, 3, 2), "epochs must be at least 0, got -1"),
        (lambda: data.num_steps(1, 3, 2, "cary"), "remainder 'cary'.* 'carry'"),
        (lambda: data.batch_indices(0, 0, 3, 2, "kept"), "remainder 'kept'"),
        (
            lambda: data.train_batches(numbered(3), 2, remainder="kept"),
            "remainder 'kept'",
        ),
        (lambda: data.steps_per_epoch(3, 0), "at least 1, got 0"),
        (lambda: data.eval_batches(numbered(3), 0), "at least 1, got 0"),
        (
            lambda: data.train_batches(numbered(3), 2, padding=-1),
            "padding must be at least 0, got -1",
        ),
    ],
)
def test_impossible_batches(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "num_batches"),
    [(1, 1, 1), (10, 5, 2), (11, 5, 3), (3, 5, 1)],
)
def test_evaluation_counts_each_example_once(num_examples, batch_size, num_batches):
    dataset = numbered(num_examples)
    batches = data.eval_batches(dataset, batch_size)
    shapes = {name: (array.shape, array.dtype) for name, array in batches.items()}
    assert shapes == {
        "images": ((num_batches, batch_size, 4, 4, 1), jnp.uint8),
        "labels": ((num_batches, batch_size), jnp.int32),
        "mask": ((num_batches, batch_size), bool),
    }
    mask = np.asarray(batches["mask"])
    np.testing.assert_array_equal(np.asarray(batches["images"])[mask], dataset.images)
    np.testing.assert_array_equal(np.asarray(batches["labels"])[mask], dataset.labels)
    assert not np.asarray(batches["images"])[~mask].any()
    assert not np.asarray(batches["labels"])[~mask].any()
