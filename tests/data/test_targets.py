import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import data, distill
from kd_heuristics.data import rectangles, targets

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
SET = data.Dataset(IMAGES, np.zeros(5, np.int32), 3)
VIEW = data.views.create("fix/ic_ens", teacher_size=4)
TEACHER = distill.Teacher(
    lambda weights, images: images.reshape(len(images), -1) @ weights,
    jnp.asarray(np.random.default_rng(1).normal(size=(16, 3)) / 100, jnp.float32),
)


def compute(teacher=TEACHER, path=None, **options):
    options = {"crops": 4, "batch_size": 3, "temperature": 2.0} | options
    return data.ensemble_targets(teacher, SET, VIEW, path=path, **options)


def test_the_mean_prediction():
    found = compute()
    assert (found.shape, found.dtype) == ((5, 3), np.float32)
    looks_of = jax.jit(VIEW.looks, static_argnums=(1, 2, 3))
    cut = jax.jit(rectangles.cut, static_argnums=2)
    expected = []
    for start in (0, 3):
        images = jnp.asarray(IMAGES[start : start + 3])
        key = jax.random.fold_in(jax.random.key(0), start)
        total = 0.0
        for crop in range(4):
            box, flip = looks_of(jax.random.fold_in(key, crop), len(images), 8, 8)[
                "student"
            ]
            pixels = cut(images, box, 4, flip)
            logits = np.asarray(TEACHER(pixels), np.float64) / 2.0
            odds = np.exp(logits)
            total += odds / odds.sum(1, keepdims=True)
        expected.append(total / 4)
    softened = np.asarray(jax.nn.softmax(found / 2.0))
    np.testing.assert_allclose(softened, np.concatenate(expected), rtol=1e-5)


def test_they_are_stored_and_reused(tmp_path):
    path = tmp_path / "deep" / "targets.npz"
    calls = []

    def teacher(images):
        calls.append(None)
        return TEACHER(images)

    first = compute(teacher, path)
    assert calls
    calls.clear()
    np.testing.assert_array_equal(compute(teacher, path), first)
    assert not calls
    assert [each.name for each in path.parent.iterdir()] == ["targets.npz"]


def test_other_targets_are_refused(tmp_path):
    path = tmp_path / "targets.npz"
    compute(path=path)
    other = distill.Teacher(TEACHER.apply, TEACHER.variables + 1)
    with pytest.raises(data.TargetsError, match=r"other targets:\n  teacher: .* there"):
        compute(other, path)
    with pytest.raises(data.TargetsError, match="crops: 4 there, 8 asked for"):
        compute(path=path, crops=8)


def test_damage_is_found(tmp_path):
    path = tmp_path / "targets.npz"
    compute(path=path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["targets"][0, 0] += 1
    np.savez(path, **arrays)
    with pytest.raises(data.TargetsError, match=r"hash .* delete the file"):
        compute(path=path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(data.TargetsError, match=r"cannot be read .* delete the file"):
        compute(path=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 0}, "crops must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_impossible_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        compute(**options)


def test_the_digest_has_types_and_shapes():
    zeros = np.zeros(4, np.float32)
    found = {targets.digest(a) for a in (zeros, zeros.reshape(2, 2), zeros.view("i4"))}
    assert len(found) == 3
