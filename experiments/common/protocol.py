"""Hyper-parameters beside the paper's: its value, its source, ours, why they differ.

Each study's `protocol.py` has an entry for every field of its config, for each of the
paper's own presets. Statuses follow from the entries and the preset's values.
`python -m experiments.protocols` writes docs/protocols.md.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

SAME, DIFFERS = "same", "differs"
OPEN = "open in the paper"
OURS = "not of the paper"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the paper has for a field of a config.

    Attributes:
      paper: its value. Words in place of a value of the field's type say what the field
        cannot hold, and count as a difference. `OPEN`: the paper does not say. `OURS`:
        the field concerns our runs alone.
      source: section, figure, table or code that has the value.
      why: the reason for our value where it differs or is open.
    """

    paper: Any
    source: str = ""
    why: str = ""

    def __post_init__(self):
        if self.paper == OPEN and not self.why:
            raise ValueError(f"an entry that is {OPEN} needs why: the reason for ours")
        if self.paper not in (OPEN, OURS) and not self.source:
            raise ValueError(
                f"the paper's value {self.paper!r} needs source: where it stands"
            )


Entries = Mapping[str, Entry]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a protocol table, in words; `status` starts with one of the four."""

    field: str
    paper: str
    source: str
    ours: str
    status: str


def ours(*names: str) -> dict[str, Entry]:
    """Entries of fields that concern our runs alone."""
    return dict.fromkeys(names, Entry(OURS))


def paths(config: Any) -> tuple[str, ...]:
    """The fields of a config; those of dataclasses inside as "chain.epochs".

    A tuple of dataclasses counts as one: "settings.rate" has a value for each.
    """
    found: list[str] = []
    for field in dataclasses.fields(config):
        inner = getattr(config, field.name)
        if isinstance(inner, tuple) and inner:
            inner = inner[0]
        is_nested = dataclasses.is_dataclass(inner)
        below = [f".{path}" for path in paths(inner)] if is_nested else [""]
        found += [f"{field.name}{path}" for path in below]
    return tuple(found)


def value(config: Any, path: str) -> Any:
    """The value of one of `paths`."""
    name, _, rest = path.partition(".")
    found = getattr(config, name)
    if not rest:
        return found
    if isinstance(found, tuple):
        return tuple(value(part, rest) for part in found)
    return value(found, rest)


def table(config: Any, entries: Entries, preset: Any) -> list[Row]:
    """The rows of a config, in the order of its fields.

    Args:
      config: of a run or a preset.
      entries: of the paper's preset that the config is made from, or leans on.
      preset: that preset's config; entries give the reasons for its values.

    Raises:
      ValueError: the preset's value differs from the paper's, and no reason is given.
    """
    rows = []
    for path in paths(config):
        if path not in entries:
            continue
        entry, own = entries[path], value(config, path)
        kept = own == value(preset, path)
        rows.append(
            Row(
                path,
                "" if entry.paper in (OPEN, OURS) else words(entry.paper),
                entry.source,
                words(own),
                _status(path, own, entry, kept),
            )
        )
    return rows


def _status(path: str, own: Any, entry: Entry, kept: bool) -> str:
    """How a value stands to the paper's; `kept`: it is the paper's preset's."""
    if entry.paper == OURS:
        return OURS
    if entry.paper != OPEN and own == entry.paper:
        return SAME
    if kept and not entry.why:
        raise ValueError(
            f"{path}: ours is {words(own)}, the paper's {words(entry.paper)}; give its "
            "entry the reason, why="
        )
    reason = entry.why if kept else "this run departs from the paper's preset"
    return f"{OPEN if entry.paper == OPEN else DIFFERS}: {reason}"


def kind(row: Row) -> str:
    """The status without its reason."""
    return row.status.partition(":")[0]


def counts(rows: list[Row]) -> dict[str, int]:
    """Number of rows by kind."""
    found = Counter(map(kind, rows))
    return {name: found[name] for name in (SAME, DIFFERS, OPEN, OURS)}


def check(config: Any, entries: Entries) -> None:
    """Checks the entries of one of the paper's presets.

    Raises:
      ValueError: a field has no entry, an entry no field, or an entry explains a
        difference that does not exist.
    """
    missing = [path for path in paths(config) if path not in entries]
    if missing:
        raise ValueError(
            f"the protocol has no entry for the fields {missing}; add them"
        )
    unknown = [path for path in entries if path not in paths(config)]
    if unknown:
        raise ValueError(
            f"the protocol has entries of no field, {unknown}; remove them"
        )
    idle = [p for p, e in entries.items() if e.why and value(config, p) == e.paper]
    if idle:
        raise ValueError(f"the values of {idle} are the paper's; remove why from them")


def deviations(config: Any, paper: Any) -> dict[str, tuple[Any, Any]]:
    """The fields in which a config differs from the paper's: (this, the paper's)."""
    fields = [field.name for field in dataclasses.fields(config)]
    pairs = {name: (getattr(config, name), getattr(paper, name)) for name in fields}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def words(found: Any) -> str:
    """A value in words.

    >>> words((1, 0.5)), words(((30, 70), (70, 150))), words(None)
    ('1, 0.5', '(30, 70), (70, 150)', 'not set')
    """
    if found is None or found == ():
        return "not set" if found is None else "none"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, tuple):
        inner = [f"({words(p)})" if isinstance(p, tuple) else words(p) for p in found]
        return ", ".join(inner)
    return str(found)


# What every study's config has; a study replaces what its paper has a value for.
COMMON = ours(
    "looks",
    "first_seed",
    "dtype",
    "devices",
    "batch_norm",
    "on_nonfinite",
    "members_at_once",
    "eval_batch_size",
    "smallest_effect",
)
# What the four studies of Gotmare et al. 2019 share.
GOTMARE = {
    **COMMON,
    "test_examples": Entry(None, "sections 2 to 5"),
    "seeds": Entry(1, "all figures", "a spread needs several"),
    "dataset": Entry("cifar10", "sections 2 to 5"),
    "test_split": Entry("test", "called validation; by its size and use the test set"),
    "image_size": Entry(None, "sections 2 to 5"),
    "train_examples": Entry(None, "sections 2 to 5"),
    "width": Entry(1.0, "sections 2 to 5"),
    "classifier_width": Entry(
        OPEN, why="as Garipov et al. 2018; the author's later code has 4096"
    ),
    "dropout_rate": Entry(OPEN, "section 2.1 names the layers", "the usual rate"),
    "batch_size": Entry(100, "section 2.1"),
    "momentum": Entry(0.9, "section 2.1"),
    "weight_decay": Entry(0.0005, "section 2.1"),
    "decayed": Entry("all", "author's later code"),
    "clip_norm": Entry(None, "not mentioned"),
}
# Of those that compare layers.
MAPS = {
    "map_examples": Entry(10_000, "author's later code"),
    "measure": Entry(
        "google_cca",
        "author's later code; the figures' values fit it (the text describes SVCCA)",
    ),
}
