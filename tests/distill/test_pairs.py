"""Pairs of layers by name and by resolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill, models
from tests.distill.nets import IMAGES, quick, vgg


def shapes(**sizes):
    return {name: jax.ShapeDtypeStruct(size, "float32") for name, size in sizes.items()}


STUDENT = shapes(
    a=(1, 8, 8, 4), b=(1, 8, 8, 4), c=(1, 8, 8, 6), d=(1, 4, 4, 6), e=(1, 4, 4, 8)
)


def test_input_or_first_layer_and_last_layer_of_each_resolution():
    assert distill.sections(STUDENT) == {(8, 8): ("a", "c"), (4, 4): ("c", "e")}
    inside = distill.sections(STUDENT, start="first")
    assert inside == {(8, 8): ("a", "c"), (4, 4): ("d", "e")}
    only = distill.sections(STUDENT, lambda name: name in "bce", start="first")
    assert only == {(8, 8): ("b", "c")}


def test_the_input_of_a_vggs_section_is_pooled_as_its_own_pool_does():
    network = vgg(((3,), (4, 5), (6,)))
    maps = quick(network.features)(network.init(jax.random.key(0), IMAGES), IMAGES)
    found = distill.sections(maps)
    assert found == {
        (8, 8): ("00_conv", "01_relu"),
        (4, 4): ("01_relu", "06_relu"),
        (2, 2): ("06_relu", "09_relu"),  # and no map of 1x1
    }
    inside = distill.sections(maps, start="first")
    assert [first for first, _ in inside.values()] == ["00_conv", "02_pool", "07_pool"]
    matrices = [
        quick(distill.fsp_matrices)(distill.take_pairs(maps, [*names.values()]))
        for names in (found, inside)
    ]
    for first, second in zip(*matrices, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


def test_the_sections_of_a_resnet_are_those_of_the_paper():
    network = models.create("resnet14", 10)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    features = jax.eval_shape(network.features, variables, images)
    found = distill.sections(features, lambda name: name.endswith(("relu", "block")))
    expected = [(names[0], names[-1]) for names in models.sections(features)]
    assert [*found.values()] == expected


def test_student_and_teacher_of_other_depth():
    teacher = shapes(
        p=(1, 8, 8, 4), q=(1, 8, 8, 5), r=(1, 8, 8, 6), s=(1, 4, 4, 6), t=(1, 4, 4, 8)
    )
    found = distill.matching_sections(STUDENT, teacher)
    assert found == ([("a", "c"), ("c", "e")], [("p", "r"), ("r", "t")])


def test_pairs_by_name():
    features = dict(STUDENT)
    found = distill.take_pairs(features, [("a", "c"), ("d", "e")])
    assert found == [(features["a"], features["c"]), (features["d"], features["e"])]


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"unknown layer '01_relv'; did you mean '01"):
        distill.take_pairs({"01_relu": 0}, [("01_relu", "01_relv")])
    with pytest.raises(ValueError, match=r"no two layers.*a 8x8, b 4x4"):
        distill.sections(shapes(a=(1, 8, 8, 1), b=(1, 4, 4, 1)), start="first")
    with pytest.raises(ValueError, match=r"\(no maps\)"):
        distill.sections(shapes(a=(1, 8), b=(1, 8)))
    back = shapes(
        a=(1, 8, 8, 1), b=(1, 8, 8, 1), c=(1, 4, 4, 1), d=(1, 8, 8, 1), e=(1, 8, 8, 1)
    )
    with pytest.raises(ValueError, match=r"'b' and 'd' have maps of 8x8.*take_pairs"):
        distill.sections(back)
    with pytest.raises(ValueError, match=r"sections of 8x8, 4x4 and the teacher of 8x"):
        distill.matching_sections(STUDENT, shapes(a=(1, 8, 8, 4), b=(1, 8, 8, 6)))
    with pytest.raises(ValueError, match=r"unknown start 'inputs'; did you mean 'inp"):
        distill.sections(STUDENT, start="inputs")
    wider = STUDENT | shapes(e=(1, 4, 4, 16))
    with pytest.raises(
        ValueError, match=r"4x4: c and e .*\[6, 8\].*teacher have \[6, 16\]"
    ):
        distill.matching_sections(STUDENT, wider)
