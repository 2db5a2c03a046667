"""Every field of every study: a constraint for each number, errors that name it."""

import dataclasses
import math
import re
import typing
from typing import Annotated, Any

import beartype
import pytest
from beartype.door import is_bearable
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import reproduce
from experiments.common import fields
from experiments.fsp.config import Phase
from kd_heuristics.runtime.errors import InputError

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


def leaves(hint, constrained=False):
    """The types in a hint, each with whether a constraint stands beside it."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from leaves(inside[0], True)
    elif origin is typing.Literal or not inside:
        yield hint, constrained
    else:
        for part in inside:
            yield from leaves(part, constrained and origin is not tuple)


def config_types(kind):
    """A config's type, and those of the dataclasses in it."""
    yield kind
    for hint in typing.get_type_hints(kind).values():
        for inner, _ in leaves(hint):
            if dataclasses.is_dataclass(inner):
                yield from config_types(inner)


@studies
def test_every_number_has_a_constraint(name):
    found = 0
    for kind in config_types(type(STUDIES[name].presets["smoke"])):
        for field, hint in typing.get_type_hints(kind, include_extras=True).items():
            for leaf, constrained in leaves(hint):
                assert constrained or leaf not in (int, float), (kind, field)
                found += leaf in (int, float)
    assert found > 15


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_what_is_ill_typed_or_out_of_range_is_named(name, field):
    config = STUDIES[name].presets["smoke"].resolved
    value = getattr(config, field)
    wrong: list[Any] = [object(), math.nan]
    inner = value
    while isinstance(inner, tuple) and inner:
        inner = inner[0]
    if isinstance(inner, int | float) and not isinstance(inner, bool):
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
        assert (bad if isinstance(bad, str) else repr(bad)) in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sgdr", {"batch_size": 129}, "at most train_examples, 128"),
        (
            "sgdr",
            {"devices": 3, "batch_norm": "device"},
            "batch_size must be a multiple of devices, 3",
        ),
        ("sgdr", {"drops_epochs": (2, 1)}, r"drops_epochs must ascend, got \(2, 1\)"),
        ("sgdr", {"drops_epochs": (0.5, 1.5)}, r"must be in \(0, 1\], got \(0.5, 1.5"),
        ("sgdr", {"batch_size": True}, "batch_size must be of type int, got True"),
        ("sgdr", {"clip_norm": -1.0}, "clip_norm must be positive, got -1.0"),
        ("sgdr", {"clip_norm": "1"}, r"must be of type float \| None, got '1'"),
        ("sgdr", {"end_rate": -1e-6}, "end_rate must be at least 0, got -1e-06"),
        ("sgdr", {"plane_grid": (1, 3)}, r"plane_grid must be at least 2, got \(1"),
        ("sgdr", {"drop_factor": 2.0}, r"drop_factor must be in \(0, 1\], got 2.0"),
        ("sgdr", {"plane_margin": math.inf}, "plane_margin must be finite, got inf"),
        ("warmup", {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ("warmup", {"rate": 0.0}, "rate must be positive, got 0.0"),
        ("fsp", {"nets": 101}, r"nets must be in \[1, 100\], got 101"),
        ("fsp", {"on_nonfinite": "skipp"}, "did you mean 'skip'"),
        ("distillation", {"temperatures": (1.0, -5.0)}, "temperatures must be pos"),
    ],
)  # fmt: skip
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
    """Bounded fuzzing: no other exception, and no config of other types."""
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
    tower = beartype.BeartypeConf(is_pep484_tower=True)  # an int is a float
    for field in chosen:
        assert is_bearable(getattr(config, field), hints[field], conf=tower), field


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        (ValueError, "length must be odd", "part.length must be odd"),
        (InputError, "length.inner must be odd", "part.length.inner must be odd"),
        (InputError, "lengthy sets are refused", "lengthy sets are refused"),
    ],
)
def test_an_error_of_a_part_names_its_field_and_keeps_its_kind(kind, words, expected):
    @dataclasses.dataclass(frozen=True)
    class Part:
        length: int = 2

        def derived(self):
            raise kind(words)

    @dataclasses.dataclass(frozen=True)
    class Whole:
        part: Part = dataclasses.field(default_factory=Part)

    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$") as raised:
        fields.resolved(Whole())
    assert raised.type is kind
