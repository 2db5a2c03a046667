import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics.data import rectangles, views

SIDE, TEACHER, STUDENT = 12, 6, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3)).astype(np.uint8)
TIED = [name for name, entry in views.VARIANTS.items() if entry[2]]
FREE = ["ind/rc", "ind/ic", "ind/ic+mixup"]


def create(name, **options):
    return views.create(name, teacher_size=TEACHER, student_size=STUDENT, **options)


def as_numpy(tree):
    return {key: np.asarray(value) for key, value in tree.items()}


@functools.cache
def seen(name, number=0, **options):
    return as_numpy(
        compiled(create(name, **options), jnp.asarray(IMAGES), jax.random.key(number))
    )


# Once a view: cheap to compile, and run on six small images.
compiled = jax.jit(
    lambda view, images, key: view(images, key),
    static_argnums=0,
    compiler_options={"xla_backend_optimization_level": 0},
)
cut = jax.jit(rectangles.cut, static_argnums=2)


def test_each_variant_is_of_one_kind():
    fixed = [name for name in views.VARIANTS if create(name).is_fixed]
    assert sorted(TIED + FREE + ["fix/cc", "fix/ic_ens"]) == sorted(views.VARIANTS)
    assert fixed == ["fix/rs", "fix/cc", "fix/ic_ens"]


@pytest.mark.parametrize("name", TIED)
def test_both_see_one_rectangle_at_two_resolutions(name):
    found = seen(name)
    np.testing.assert_array_equal(found["teacher_box"], found["student_box"])
    np.testing.assert_array_equal(found["teacher_flip"], found["student_flip"])
    assert found["teacher"].shape == (6, TEACHER, TEACHER, 3)
    assert found["student"].shape == (6, STUDENT, STUDENT, 3)


@pytest.mark.parametrize("name", FREE)
def test_each_sees_a_rectangle_of_its_own(name):
    found = seen(name)
    apart = np.abs(found["teacher_box"] - found["student_box"]).max(1)
    assert (apart > 1e-3).all()
    flips = [seen(name, number) for number in range(4)]
    assert any((one["teacher_flip"] != one["student_flip"]).any() for one in flips)


@pytest.mark.parametrize("name", ["fix/rs", "fix/cc"])
def test_a_fixed_target_does_not_depend_on_the_step(name):
    first, second = seen(name, 0), seen(name, 1)
    np.testing.assert_array_equal(first["teacher"], second["teacher"])
    assert not first["teacher_flip"].any()
    moves = (first["student_box"] != second["student_box"]).any()
    assert moves == (name == "fix/cc")


def test_a_stored_target_needs_no_look():
    found = seen("fix/ic_ens")
    assert not create("fix/ic_ens").has_teacher
    assert not any(key.startswith("teacher") for key in found)
    assert found["student_box"].shape == (6, 4)


@pytest.mark.parametrize("name", ["same/ic", "ind/rc"])
def test_steps_differ_and_keys_repeat(name):
    again = compiled(create(name), jnp.asarray(IMAGES), jax.random.key(0))
    for key, value in seen(name).items():
        np.testing.assert_array_equal(again[key], value)
    assert (seen(name)["student_box"] != seen(name, 1)["student_box"]).any(1).all()


@pytest.mark.parametrize("name", sorted(views.VARIANTS))
def test_pixels_are_those_of_the_rectangles(name):
    found = seen(name)
    for who, size in (("teacher", TEACHER), ("student", STUDENT)):
        if who not in found:
            continue
        box, flip = (jnp.asarray(found[f"{who}_{what}"]) for what in ("box", "flip"))
        pixels = np.asarray(cut(jnp.asarray(IMAGES), box, size, flip), np.float64)
        a = float(found["mixup"])
        mixed = a * pixels + (1 - a) * pixels[[5, 0, 1, 2, 3, 4]]
        np.testing.assert_allclose(found[who], mixed, atol=1e-3)
    assert (found["mixup"] == 1) == (name not in ("mix", "ind/ic+mixup"))


def test_equal_sizes_are_cut_once():
    view = views.create("mix", teacher_size=TEACHER)
    found = jax.eval_shape(view, IMAGES, jax.random.key(0))
    assert found["teacher"].shape == found["student"].shape
    program = str(jax.make_jaxpr(view)(IMAGES, jax.random.key(0)))
    other = views.create("mix", teacher_size=TEACHER, student_size=STUDENT)
    twice = str(jax.make_jaxpr(other)(IMAGES, jax.random.key(0)))
    assert program.count("dot_general") * 2 == twice.count("dot_general")


def test_flips_can_be_left_out():
    assert not any(
        seen("same/ic", number, flip=False)["student_flip"].any() for number in range(4)
    )
    flips = np.stack([seen("same/ic", number)["student_flip"] for number in range(8)])
    assert 10 < flips.sum() < 38  # of 48 with probability one half: 4 deviations


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_the_coefficient_is_of_beta_folded(p):
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(
        jax.vmap(lambda key: views.mixup_coefficient(key, p)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    found = np.asarray(draw(keys))
    assert ((found >= 0.5) & (found <= 1)).all()
    # E max(b, 1 - b)(1 - max) = E b (1 - b) = p / (2 (2 p + 1)) for Beta(p, p).
    np.testing.assert_allclose(
        (found * (1 - found)).mean(), p / (2 * (2 * p + 1)), atol=0.006
    )  # 4 deviations of the mean of 4,000
    assert views.mixup_coefficient(keys[0], 0.0) == 1


def test_mix_by_hand():
    images = jnp.array([[0.0, 100.0], [10.0, 200.0], [20.0, 0.0]])
    expected = [[5.0, 75.0], [7.5, 175.0], [17.5, 50.0]]
    np.testing.assert_allclose(views.mix(images, 0.75), expected)
    labels = views.mix(jax.nn.one_hot(jnp.array([0, 1, 1]), 3), 0.75)
    expected = [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 1.0, 0.0]]
    np.testing.assert_allclose(labels, expected)


def test_equal_views_share_a_program():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def call(view, images, key):
        traces.append(view)
        return view(images, key)["student"]

    for _ in range(2):
        call(create("same/rc"), IMAGES, jax.random.key(0))
    assert len(traces) == 1


def test_a_look_at_evaluation_is_that_of_the_fixed_teacher():
    found = views.look(jnp.asarray(IMAGES), TEACHER)
    np.testing.assert_allclose(found, seen("fix/cc")["teacher"], atol=1e-3)
    whole = views.look(jnp.asarray(IMAGES), TEACHER, "whole")
    np.testing.assert_allclose(whole, seen("fix/rs")["teacher"], atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create("same/icc"), "view 'same/icc'; did you mean 'same/ic'"),
        (lambda: views.create("mix", teacher_size=0), "teacher_size .* got 0"),
        (lambda: create("mix", mixup=-1.0), "got -1"),
        (lambda: create("fix/rs", mixup=1.0), "fixed targets of 'fix/rs'"),
        (lambda: create("mix", fraction=2.0), "fraction .* got 2"),
        (lambda: views.look(jnp.asarray(IMAGES), 4, "mild"), "kind of look 'mild'"),
    ],
)
def test_impossible_views(call, message):
    with pytest.raises(ValueError, match=message):
        call()
