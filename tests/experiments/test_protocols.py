"""Protocols: every field has the paper's value, and no difference lacks a reason."""

import dataclasses
import typing

import pytest

from experiments import protocols, reproduce
from experiments.common import fields, protocol
from experiments.common.protocol import OPEN, OURS, Entry
from kd_heuristics.runs import code_identity

PAPERS = [
    pytest.param(study, name, id=f"{study.name}-{name}")
    for study in reproduce.STUDIES
    for name in study.protocol
]
papers = pytest.mark.parametrize(("study", "name"), PAPERS)
studies = pytest.mark.parametrize("study", reproduce.STUDIES, ids=lambda s: s.name)


def declared(kind):
    """The paths of a dataclass by its type hints alone."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inside = filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint)))
        below = [path for inner in inside for path in declared(inner)]
        yield from (f"{field.name}.{path}" for path in below)
        if not below:
            yield field.name


@papers
def test_every_field_has_an_entry_and_every_entry_a_field(study, name):
    expected = [*declared(type(study.presets[name]))]
    assert sorted(study.protocol[name]) == sorted(expected)


@papers
def test_what_differs_or_is_open_has_a_reason(study, name):
    config = fields.resolved(study.presets[name])
    rows = protocol.table(config, study.protocol[name], config)
    assert len(rows) == len(study.protocol[name])
    for row in rows:
        entry = study.protocol[name][row.field]
        kind, _, reason = row.status.partition(": ")
        if entry.paper in (OPEN, OURS):
            assert kind == entry.paper
            assert bool(reason) == (kind == OPEN)
        else:
            owner, _, last = row.field.rpartition(".")
            part = getattr(config, owner or row.field)
            if isinstance(part, tuple) and owner:
                part = tuple(getattr(one, last) for one in part)
            elif owner:
                part = getattr(part, last)
            assert (kind == "same") == (part == entry.paper)
            assert bool(reason) == (kind == "differs")
            assert entry.source


def test_the_page_is_what_the_generator_writes():
    written = protocols.PAGE.read_text(encoding="utf-8")
    assert written == protocols.page(), "run python -m experiments.protocols"


def test_the_page_counts_what_it_shows():
    text = protocols.page()
    (line,) = (line for line in text.splitlines() if line.startswith("| `sgdr` |"))
    same, differs, still_open, ours = line.split("|")[3:7]
    section = text.partition("\n## sgdr")[2].partition("### Presets of ours")[0]
    assert section.count("| same |") == int(same)
    assert section.count("| differs: ") == int(differs)
    assert section.count("| open in the paper: ") == int(still_open)
    listed = section.partition("Not of the paper: ")[2].strip().rstrip(".")
    assert listed.count("`") == 2 * int(ours)


@dataclasses.dataclass(frozen=True)
class Part:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Config:
    epochs: int = 10
    part: Part = Part()
    parts: tuple[Part, ...] = (Part(), Part(0.2))


FINE = {
    "epochs": Entry(10, "table 1"),
    "part.rate": Entry(OPEN, why="as usual"),
    "parts.rate": Entry((0.1, 0.3), "table 2", "the second diverges at 0.3"),
}


def statuses(config=Config(), entries=FINE, preset=Config()):
    return [row.status for row in protocol.table(config, entries, preset)]


def test_a_table_by_hand():
    protocol.check(Config(), FINE)
    assert statuses() == [
        "same",
        "open in the paper: as usual",
        "differs: the second diverges at 0.3",
    ]
    departs = "this run departs from the paper's preset"
    changed = Config(epochs=3, part=Part(0.5), parts=(Part(0.1), Part(0.3)))
    assert statuses(changed) == [
        f"differs: {departs}",
        f"open in the paper: {departs}",
        "same",
    ]
    row = protocol.table(Config(), FINE, Config())[2]
    assert (row.paper, row.ours) == ("0.1, 0.3", "0.1, 0.2")


def test_a_difference_without_a_reason_is_refused():
    bad = FINE | {"epochs": Entry(12, "table 1")}
    with pytest.raises(ValueError, match="epochs: ours is 10, the paper's 12; give"):
        statuses(entries=bad)
    with pytest.raises(ValueError, match="epochs: ours is 10, the paper's 10, cosine"):
        statuses(entries=FINE | {"epochs": Entry("10, cosine", "text")})
    with pytest.raises(ValueError, match="needs why"):
        Entry(OPEN, "section 1")
    with pytest.raises(ValueError, match="needs source"):
        Entry(3)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({k: v for k, v in FINE.items() if k != "part.rate"}, "no entry.*part.rate"),
        (FINE | {"part": Entry(OURS)}, "entries of no field.*'part'"),
        (FINE | {"epochs": Entry(10, "table 1", "longer")}, "'epochs'.*remove why"),
    ],
)
def test_entries_and_fields_that_do_not_match_are_refused(entries, words):
    with pytest.raises(ValueError, match=words):
        protocol.check(Config(), entries)


@studies
def test_a_preset_leans_on_the_papers(study):
    for name, preset in study.presets.items():
        expected = name if name in study.protocol else study.paper_preset
        assert study.leans_on(fields.resolved(preset)) == expected
        with_flag = dataclasses.replace(preset, first_seed=7, on_nonfinite="skip")
        assert study.leans_on(fields.resolved(with_flag)) == expected


@pytest.mark.parametrize("name", ["pets", "imagenet", "imagenet_160", "digits"])
def test_a_job_of_a_sweep_leans_on_its_preset(name):
    (study,) = (study for study in reproduce.STUDIES if study.jobs)
    job = study.jobs(fields.resolved(study.presets[name]))[-1]
    expected = name if name in study.protocol else "flowers"
    assert study.leans_on(fields.resolved(job.config)) == expected


@studies
def test_no_result_depends_on_a_protocol(study):
    reached = code_identity.modules(study.compute)
    assert not [name for name in reached if "protocol" in name]
