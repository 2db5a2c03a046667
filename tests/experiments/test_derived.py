"""What presets derive: the numbers of each, and every length of training works."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import reproduce
from experiments.common import fields, launch, running
from experiments.common.study import Study
from experiments.sgdr.config import Config

STUDIES = {study.name: study for study in reproduce.STUDIES}
PRESETS = [
    (study.name, preset) for study in reproduce.STUDIES for preset in study.presets
]
LENGTHS = (2, 3, 4, 5, 7, 10, 16, 33, 100, 199, 200, 1000)

# (period, drops, pairs of SGDR, pairs of step decay, planes, iterates, maps, drops of
# the chain); `cifar10` has the paper's.
SGDR = {
    "cifar10": (
        10,
        (60, 150),
        ((30, 70), (70, 150), (30, 150)),
        ((55, 65), (145, 155), (55, 155)),
        ((70, 150), (30, 70)),
        (40, 50, 60, 80, 90, 100, 110, 130),
        ((150, 155), (10, 150)),
        (),
    ),
    "digits": (
        8,
        (16, 42),
        ((7, 23), (23, 55), (7, 55)),
        ((14, 17), (17, 55), (14, 55)),
        ((23, 55),),
        (25, 27, 31, 35, 39, 47),
        ((23, 25), (7, 55)),
        (),
    ),
    "demo": (
        2,
        (4, 10),
        ((1, 5), (5, 13), (1, 13)),
        ((2, 5), (5, 13), (2, 13)),
        ((5, 13),),
        (6, 7, 9, 11),
        ((5, 7), (1, 13)),
        (),
    ),
    "lenses": (
        8,
        (16, 42),
        ((7, 23), (23, 55), (7, 55)),
        ((14, 17), (17, 55), (14, 55)),
        ((23, 55),),
        (25, 27, 31, 35, 39, 47),
        ((23, 25), (7, 55)),
        (),
    ),
    "smoke": (1, (1,), ((0, 2),), ((0, 1),), ((0, 2),), (1,), ((0, 1), (0, 2)), ()),
}
SGDR |= {"fashion": SGDR["digits"], "fashion_full": SGDR["cifar10"]}
# Drops; drops of the curves' fit and epochs after which they are evaluated.
MODES = {
    "cifar10": ((60, 120, 160), (60,), (20, 40, 60, 80)),
    "digits": ((12, 15, 18), (), (8, 32)),
    "fashion": ((9, 12, 14), (), (7, 30)),
    "fashion_full": ((60, 120, 160), (60,), (20, 40, 60, 80)),
    "demo": ((6, 7, 9), (), (4, 8)),
    "lenses": ((12, 15, 18), (), (8, 32)),
    "smoke": ((1,), (1,), (1, 2)),
}
WARMUP = {  # its length, and drops
    "digits": (8, (11, 13)),
    "fashion": (4, (11, 13)),
    "lenses": (8, (11, 13)),
    "demo": (4, (5,)),
    "smoke": (1, (2,)),
    **dict.fromkeys(
        ("fashion_full", "cifar10", "cifar10_resnet18", "cifar10_resnet32"),
        (20, (60, 120, 150)),
    ),
}
FSP = {  # drops of the phases: teacher, fast, FSP, hints, transfer, FSP of the transfer
    "smoke": ((3, 4), (2, 3), (1, 1), (1, 1), (2, 3), (1, 1)),
    "demo": ((150, 225), (50, 75), (50, 75), (50, 75), (50, 75), (50, 75)),
    "digits": ((937, 1406), (312, 468), (312, 468), (469, 703), (125, 187), (125, 187)),
} | {
    preset: (
        (32_000, 48_000),
        (11_000, 16_000),
        (16_000, 24_000) if preset == "cifar100" else (11_000, 16_000),
        (25_000,),
        (10_000, 20_000),
        (11_000, 16_000),
    )
    for preset in ("fashion_full", "cifar10", "cifar100", "cub")
}
FSP |= {"fashion": FSP["digits"]}
# The length of the other arms.
FUNMATCH = {"smoke": 2, "demo": 2, "digits": 8, "cifar10": 400, "flowers": 10_000}
FUNMATCH |= {"pets": 10_000, "food": 1000, "sun": 1000, "imagenet": 300}
FUNMATCH |= {"imagenet_160": 300, "imagenet_384": 1200, "rows": 24}


def sgdr(c):
    drops = c.chain.drops_epochs
    pairs = c.sgdr_pairs, c.step_pairs, c.planes, c.plane_iterates, c.map_pairs
    return c.period_epochs, c.drops_epochs, *pairs, drops


def phases(c):
    names = ("teacher", "fast", "fsp", "hint", "transfer", "transfer_fsp")
    return tuple(getattr(c, f"{name}_phase").drops for name in names)


def modes(c):
    return c.drops_epochs, c.curve.drops_epochs, c.curve_epochs


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("sgdr", sgdr, SGDR),
        ("mode_connectivity", modes, MODES),
        ("warmup", lambda c: (c.warmup_epochs, c.drops_epochs), WARMUP),
        ("fsp", phases, FSP),
        ("funmatch", lambda c: c.other_epochs, FUNMATCH),
    ],
)
def test_the_numbers_of_each_preset(name, found, expected):
    presets = STUDIES[name].presets
    values = {preset: found(config.resolved) for preset, config in presets.items()}
    assert repr(values) == repr({preset: expected[preset] for preset in presets})


def check_lengths(config):
    """Whatever counts epochs is whole and within them."""
    drops, epochs = config.drops_epochs, config.epochs
    assert all(type(drop) is int and drop >= 1 for drop in drops)
    for pair in (
        *getattr(config, "sgdr_pairs", ()),
        *getattr(config, "step_pairs", ()),
        *getattr(config, "map_pairs", ()),
    ):
        assert 0 <= pair[0] < pair[1] < epochs
    for place in getattr(config, "plane_iterates", ()):
        assert any(a < place < b for a, b in config.planes)
    if hasattr(config, "sgdr_pairs"):
        assert config.planes
        assert {*config.planes} <= {*config.sgdr_pairs}
    if hasattr(config, "small_rate"):
        assert 1 <= config.warmup_epochs < epochs
    elif hasattr(config, "warmup_epochs"):
        assert config.warmup_epochs <= config.period_epochs


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_preset_of_any_length(name, preset):
    base = STUDIES[name].presets[preset]
    for length in LENGTHS:
        if name == "fsp":
            for phase in ("teacher", "fast", "fsp", "hint", "transfer", "transfer_fsp"):
                own = dataclasses.replace(getattr(base, f"{phase}_phase"), steps=length)
                config = dataclasses.replace(base, **{f"{phase}_phase": own}).resolved
                drops = getattr(config, f"{phase}_phase").drops
                assert drops
                assert all(1 <= drop < length for drop in drops)
        elif name == "funmatch":
            last = dataclasses.replace(base.settings[-1], epochs=10**6 + length)
            # Rows name lengths, which change with the settings.
            changes = {"settings": (*base.settings[:-1], last), "rows": ()}
            if base.other_epochs == base.settings[-1].epochs:
                with pytest.raises(ValueError, match=r"other_epochs .* None takes the"):
                    dataclasses.replace(base, **changes)
                changes["other_epochs"] = None
            moved = dataclasses.replace(base, **changes)
            assert moved.resolved.other_epochs in [s.epochs for s in moved.settings]
        else:
            config = dataclasses.replace(base, epochs=length).resolved
            assert config.epochs == length
            if name != "distillation":
                check_lengths(config)


@pytest.mark.parametrize("preset", STUDIES["mode_connectivity"].presets)
def test_curves_of_any_length(preset):
    base = STUDIES["mode_connectivity"].presets[preset]
    for length in (1, *LENGTHS):
        curve = dataclasses.replace(base.curve, epochs=length)
        found = dataclasses.replace(base, curve=curve).resolved.curve_epochs
        assert found[-1] == length
        assert list(found) == sorted({*found})


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.sampled_from([*STUDIES["sgdr"].presets]),
    st.integers(2, 400),
    st.integers(1, 100),
    st.integers(1, 4),
    st.sampled_from(["epoch", "step"]),
)
def test_cycles_of_any_length(preset, epochs, period, mult, restarts):
    base = STUDIES["sgdr"].presets[preset]
    changes = {"period_epochs": period, "mult": mult, "restarts": restarts}
    config = dataclasses.replace(base, epochs=epochs, **changes).resolved
    check_lengths(config)
    (_, last), (restart, _) = config.sgdr_pairs[-1], config.map_pairs[0]
    if restarts == "step" and last + 1 < epochs and period > 1:
        # After a restart's iterate the rate is at its peak again.
        rate = np.asarray(config.schedule("sgdr", 1)(np.array([restart, restart + 1])))
        ends = {end for pair in config.sgdr_pairs for end in pair} != {0, epochs - 1}
        assert not ends or rate[1] == np.float32(config.peak_rate)
        assert not ends or rate[0] < rate[1]


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("sgdr", "--preset cifar10 --epochs 10", {"period_epochs": 1}),
        (
            "sgdr",
            "--preset digits --period-epochs 3",
            {"sgdr_pairs": ((8, 20), (20, 44), (8, 44)), "warmup_epochs": 1},
        ),
        ("sgdr", "--preset smoke --period-epochs 3", {"sgdr_pairs": ((0, 2),)}),
        ("sgdr", "--preset demo --sgdr-pairs 2 9", {"planes": ((2, 9),)}),
        ("sgdr", "--preset demo --drops-epochs 5 7", {"drops_epochs": (5, 7)}),
        ("sgdr", "--preset demo --drops-epochs 0.5", {"drops_epochs": (7,)}),
        ("warmup", "--preset cifar10 --epochs 10", {"drops_epochs": (2, 4, 5)}),
        ("warmup", "--preset cifar10 --warmup-epochs 5", {"warmup_epochs": 5}),
        (
            "mode_connectivity",
            "--preset cifar10 --epochs 10 --curve.epochs 8",
            {"drops_epochs": (3, 6, 8), "curve_epochs": (2, 4, 6, 8)},
        ),
        ("distillation", "--preset cifar10 --epochs 10", {"epochs": 10}),
        ("funmatch", "--preset digits --settings.0.epochs 40", {"other_epochs": 40}),
        ("fsp", "--preset cifar10 --fast-phase.steps 210", {"log_every_steps": 10}),
    ],
)
def test_one_flag_is_enough(name, words, expected, monkeypatch):
    found = []

    def run(study, config, *_):
        found.append(fields.resolved(config))
        raise SystemExit(0)

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(sys, "argv", [name, *words.split()])
    with pytest.raises(SystemExit, match="0"):
        launch.main(STUDIES[name])
    assert {field: getattr(found[0], field) for field in expected} == expected


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sgdr", {"epochs": 1}, "epochs must be at least 2, .* got 1"),
        ("sgdr", {"drops_epochs": (200,)}, "step_pairs .* give step_pairs or another"),
        ("sgdr", {"sgdr_pairs": ((3, 300),)}, r"^sgdr_p.* 0\.\.199, got \(3, 300\); N"),
        ("sgdr", {"step_pairs": ((3, 300),)}, "^step_pairs must .*; None follows from"),
        ("sgdr", {"map_pairs": ((1, 2), (3, 300))}, "^map_pairs must .*; None follows"),
        ("sgdr", {"step_pairs": ()}, "^step_pairs must have .* none; None follows"),
        ("sgdr", {"plane_iterates": (300,)}, "^plane_iterates must .* give shares"),
        ("sgdr", {"period_epochs": 0}, "^period_epochs must .* got 0; give a share"),
        ("sgdr", {"warmup_epochs": 11}, "^warmup_epochs must .* 10 .*; give a share"),
        ("warmup", {"epochs": 1}, "warmup_epochs must be below epochs, got 1 of 1"),
        ("warmup", {"epochs": 9, "warmup_epochs": 20}, "give a share such as 0.25"),
        ("mode_connectivity", {"curve_epochs": (0.25,)}, "to the curve's last epoch"),
        ("funmatch", {"other_epochs": 3}, "other_epochs must be the epochs of"),
    ],
)  # fmt: skip
def test_what_cannot_be_derived_names_field_and_remedy(name, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(STUDIES[name].presets["cifar10"], **changes)


def drops():
    """Study and path of each field that has drops, however deep."""

    def inside(config, path):
        for field in dataclasses.fields(config):
            own, at = getattr(config, field.name), (*path, field.name)
            if dataclasses.is_dataclass(own):
                yield from inside(own, at)
            elif field.name in ("drops", "drops_epochs"):
                yield at

    for name in ("sgdr", "mode_connectivity", "warmup", "fsp"):
        for path in inside(STUDIES[name].presets["cifar10"], ()):
            yield name, path


def test_what_is_given_wins_and_the_rest_follows():
    config = Config(sgdr_pairs=((30, 70), (10, 30)), map_pairs=((1, 2), (3, 4)))
    assert config.resolved.planes == ((10, 30), (30, 70))
    assert config.resolved.map_pairs == ((1, 2), (3, 4))
    assert config.resolved.resolved == config.resolved
    assert config.sgdr_pairs == ((30, 70), (10, 30))
    again = dataclasses.replace(config, sgdr_pairs=None, planes=((30, 70),))
    assert again.resolved.planes == ((30, 70),)


@pytest.mark.parametrize(("study", "path"), [*drops()])
def test_a_drop_past_the_end_is_refused(study, path):
    def changed(config, names):
        name, *rest = names
        new = changed(getattr(config, name), rest) if rest else (1, 10**7)
        return dataclasses.replace(config, **{name: new})

    words = rf"^{'.'.join(path)} must lie within .*, got \(1, 10000000\), with"
    with pytest.raises(ValueError, match=words):
        fields.resolved(changed(STUDIES[study].presets["cifar10"], path))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Short:
    epochs: fields.Count = 8
    drops_epochs: fields.Drops = (0.5,)

    def derived(self):
        return {"drops_epochs": fields.within(self.drops_epochs, self.epochs)}


def test_a_run_sees_and_records_what_is_derived(tmp_path):
    def compute(config, folder, progress):
        return {"seen": config.drops_epochs}, {}

    study = Study(
        name="short",
        headline="",
        question="",
        paper="",
        presets={"smoke": Short(), "cifar10": Short(epochs=10)},
        compute=compute,
        figures=lambda config, results, arrays: {},
        claims=lambda config: (),
    )
    folder = running.run(study, Short(), tmp_path / "short")
    described = json.loads((folder / "config.json").read_text())
    assert described["config"]["drops_epochs"] == [4]
    assert described["deviations"]["drops_epochs"] == [[4], [5]]
    assert json.loads((folder / "results.json").read_text())["seen"] == [4]
