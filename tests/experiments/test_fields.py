"""Every field of every study: a rule for each number, and what breaks it is named."""

import dataclasses
import math
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import reproduce
from experiments.common import fields
from experiments.fsp.config import Phase

STUDIES = {study.name: study for study in reproduce.STUDIES}
FIELDS = [
    (study.name, field.name)
    for study in reproduce.STUDIES
    for field in dataclasses.fields(study.presets["smoke"])
]
studies = pytest.mark.parametrize("name", STUDIES)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=8),
    st.tuples(st.integers(-3, 300), st.integers(-3, 300)),
    st.lists(st.integers(0, 9), max_size=3),
    st.just({}),
)


def numeric(value):
    return bool(fields._numbers(value))


@studies
def test_every_number_has_a_rule(name):
    for config in STUDIES[name].presets.values():
        parts = [config, *vars(config).values()]
        for part in filter(dataclasses.is_dataclass, parts):
            for field, value in vars(part).items():
                assert not numeric(value) or fields.rule(field), field


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_what_is_ill_typed_or_out_of_range_is_named(name, field):
    config = STUDIES[name].presets["smoke"]
    value = getattr(config, field)
    wrong: list[Any] = [object(), math.nan]
    if numeric(value):
        inside = isinstance(value, tuple)
        wrong += [((bad,) if inside else bad) for bad in (math.inf, -(2**40), "1")]
    if isinstance(value, str):
        wrong += [f"{value}x"]
    if field in ("smallest_effect", "as_good_as"):
        wrong.remove(-(2**40))
    for bad in wrong:
        with pytest.raises(ValueError, match=r".") as error:
            dataclasses.replace(config, **{field: bad})
        assert field.rstrip("s") in str(error.value).replace("arms", "arm") or (
            "did you mean" in str(error.value)
        )


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sgdr", {"batch_size": 129}, "at most train_examples, 128"),
        (
            "sgdr",
            {"devices": 3, "batch_norm": "device"},
            "batch_size must be a multiple of devices, 3",
        ),
        ("sgdr", {"drops_epochs": (2, 1)}, "drops_epochs must ascend"),
        ("sgdr", {"batch_size": True}, "batch_size must be of type int, got True"),
        ("warmup", {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ("fsp", {"on_nonfinite": "skipp"}, "did you mean 'skip'"),
        (
            "distillation",
            {"temperatures": (1.0, -5.0)},
            "temperatures must be positive",
        ),
    ],
)
def test_conflicts_and_words(name, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(STUDIES[name].presets["smoke"], **changes)


def test_dataclasses_inside_are_checked_too():
    with pytest.raises(ValueError, match="drops must be at least 0"):
        Phase(steps=3, rate=0.1, drops=(-1,))


@studies
@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_is_written_ends_in_a_config_or_a_value_error(name, data):
    """Bounded fuzzing: no other exception, and no config that its rules forbid."""
    base = STUDIES[name].presets["smoke"]
    names = sorted(vars(base))
    chosen = data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    changes = {field: data.draw(anything) for field in chosen}
    try:
        config = dataclasses.replace(base, **changes)
    except ValueError:
        return
    fields.check(config)
    hints = typing.get_type_hints(type(config))
    assert all(fields._fits(getattr(config, field), hints[field]) for field in chosen)
