"""Writes docs/protocols.md: each study's hyper-parameters beside the paper's.

Command: python -m experiments.protocols
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments import reproduce
from experiments.common import fields, protocol
from experiments.common.protocol import DIFFERS, OPEN, OURS, SAME, Row
from experiments.common.study import Study

PAGE = Path(__file__).parents[1] / "docs" / "protocols.md"
_OPENING = """\
# Protocols

Every hyper-parameter of the papers' presets: the paper's value and its source, ours,
and how the two stand.

- **same**: the paper's value.
- **differs**: another value, or the same number with a part that the field cannot hold.
  The reason follows.
- **open in the paper**: the paper does not say; the reason for our choice follows.
- **not of the paper**: the field concerns our runs alone (seeds, devices, evaluation).

"Author's later code" is public code of a paper's author, not that of the original runs;
"code" in FunMatch's tables is what its authors released. Values read off a figure are
marked so. `python -m experiments.protocols` writes this page from the presets and each
study's `protocol.py`. A run's page shows the same table for its own preset.
"""


def page(studies: Sequence[Study] = reproduce.STUDIES) -> str:
    """The page, Markdown.

    Raises:
      ValueError: a field has no entry, or a difference no reason.
    """
    kinds = (SAME, DIFFERS, OPEN, OURS)
    counted = [
        [f"`{study.name}`", f"`{name}`", *map(str, protocol.counts(rows).values())]
        for study in studies
        for name, rows in tables(study).items()
    ]
    parts = [_OPENING, _markdown(("study", "preset", *kinds), counted)]
    return "\n".join([*parts, *map(_section, studies)])


def tables(study: Study) -> dict[str, list[Row]]:
    """The rows of each of the paper's own presets of a study."""
    found = {}
    for name, entries in study.protocol.items():
        config = fields.resolved(study.presets[name])
        protocol.check(config, entries)
        found[name] = protocol.table(config, entries, config)
    return found


def _section(study: Study) -> str:
    """A study: its first preset in full, what differs in the others, and ours."""
    (first, rows), *others = tables(study).items()
    parts = [f"## {study.name}\n\n{study.paper}. {study.question}\n"]
    parts.append(f"### `{first}`\n\n{_rows(rows)}")
    for name, other in others:
        changed = [row for row in other if row not in rows]
        parts.append(f"### `{name}`\n\nAs `{first}`, but for:\n\n{_rows(changed)}")
    return "\n".join([*parts, _embedded(study)])


def _rows(rows: Sequence[Row]) -> str:
    """Rows as a table, then the fields that concern our runs alone."""
    spoken = [row for row in rows if row.status != OURS]
    cells = [
        (f"`{row.field}`", row.paper, row.source, row.ours, row.status)
        for row in spoken
    ]
    found = _markdown(("field", "paper", "source", "ours", "status"), cells)
    rest = ", ".join(f"`{row.field}` {row.ours}" for row in rows if row.status == OURS)
    return f"{found}\nNot of the paper: {rest}.\n" if rest else found


def _embedded(study: Study) -> str:
    """The presets of ours: the fields in which they differ from what they lean on."""
    names = [name for name in study.presets if name not in study.protocol]
    paper = study.paper_preset
    values = {
        name: {
            path: protocol.words(
                protocol.value(fields.resolved(study.presets[name]), path)
            )
            for path in study.protocol[paper]
        }
        for name in (paper, *names)
    }
    changed = [
        [f"`{path}`", *(own[path] for own in values.values())]
        for path in study.protocol[paper]
        if len({own[path] for own in values.values()}) > 1
    ]
    head = ("field", *(f"`{name}`" for name in (paper, *names)))
    listed = ", ".join(f"`{name}`" for name in names)
    return (
        f"### Presets of ours\n\n{listed}: they lean on `{paper}`, and differ from it "
        f"in:\n\n{_markdown(head, changed)}"
    )


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|") or " " for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
