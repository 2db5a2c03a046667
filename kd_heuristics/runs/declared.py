"""Claims declared in a TOML file, and their statistics from a table of runs.

    looks = [4, 8, 12]              # numbers of seeds, declared before the runs

    [warmup-helps]                  # the claim's key
    words = "with warmup the accuracy is higher"
    kind = "difference"             # or "as_good", "equal", "mostly"
    smallest_effect = 2.0
    unit = "points"
    main = true
    statistic = "accuracy"          # a column of the table
    arm = "warmup"                  # of the rows with this value in the column "arm"
    minus_arm = "none"              # less the same seed's value of this arm

In a table with a row for each seed and no arms, `minus` names a column to subtract.
"""

import csv
import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from kd_heuristics.runs import claims as rules
from kd_heuristics.runs.claims import Claim
from kd_heuristics.runtime import files, nearest
from kd_heuristics.runtime.errors import InputError

_OF_CLAIMS = {field.name for field in dataclasses.fields(Claim)}
_OF_CLAIMS -= {"key", "statistic", "trainings"}
_SOURCE = ("statistic", "minus", "arm", "minus_arm")
_REQUIRED = ("words", "kind", "smallest_effect", "unit", "statistic")


class TableError(InputError):
    """Error that a table or a file of claims cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Columns and rows that give a claim's statistic in a table of runs.

    Attributes:
      statistic: name of the column.
      minus: column to subtract; "" for none.
      arm: rows that count, by the arm column; "" for all.
      minus_arm: rows to subtract, of the same seed; "" for none.
    """

    statistic: str
    minus: str = ""
    arm: str = ""
    minus_arm: str = ""


@dataclasses.dataclass(frozen=True)
class Declared:
    """Claims declared in a file.

    Attributes:
      claims: claims in the order of the file.
      sources: source of each claim's statistic, by key.
      looks: declared numbers of seeds; None if the file declares none.
    """

    claims: tuple[Claim, ...]
    sources: Mapping[str, Source]
    looks: tuple[int, ...] | None


def read_claims(path: files.AnyPath) -> Declared:
    """Reads a TOML file of claims.

    Raises:
      TableError: the file is missing or not TOML, or a claim has an unknown field,
        lacks one, or has one of the wrong type; the message names the claim.
    """
    try:
        found = tomllib.loads(files.path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"the claims {path} cannot be read: {error}") from error
    looks = found.pop("looks", None)
    if looks is not None and not (
        isinstance(looks, list) and all(type(look) is int for look in looks)
    ):
        raise TableError(f"looks of {path} must be a list of integers, got {looks!r}")
    if not found:
        raise TableError(f"{path} declares no claim; give one as a table: [my-claim]")
    claims, sources = [], {}
    for key, fields in found.items():
        try:
            claims.append(_claim(key, fields))
        except (ValueError, TypeError) as error:
            raise TableError(f"claim {key!r} of {path}: {error}") from error
        sources[key] = Source(**{k: v for k, v in fields.items() if k in _SOURCE})
    return Declared(tuple(claims), sources, None if looks is None else tuple(looks))


def _claim(key: str, fields: Any) -> Claim:
    """Makes a claim from its fields in the file."""
    if not isinstance(fields, dict):
        raise ValueError(f"must be a table of fields, got {fields!r}")
    for name, value in fields.items():
        nearest.choose(name, (*sorted(_OF_CLAIMS), *_SOURCE), "field")
        kinds: Any = {"main": bool, "smallest_effect": (int, float)}.get(name, str)
        kinds = (int, float) if name == "paper" else kinds
        if not isinstance(value, kinds) or (name != "main" and value is True):
            raise ValueError(f"the field {name!r} has the wrong type, got {value!r}")
    missing = [name for name in _REQUIRED if name not in fields]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing")
    own = {k: v for k, v in fields.items() if k in _OF_CLAIMS}
    own |= {k: float(own[k]) for k in ("smallest_effect", "paper") if k in own}
    return Claim(key=key, **own)


def read_table(path: files.AnyPath) -> list[dict[str, str]]:
    """Reads a CSV file with a header and a row per run, as Weights & Biases exports.

    Raises:
      TableError: the file is missing, empty, or has a row of another length.
    """
    try:
        text = files.path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TableError(f"the table {path} cannot be read: {error}") from error
    lines = list(csv.reader(text.splitlines()))
    if len(lines) < 2:
        raise TableError(f"the table {path} needs a header and at least one row")
    head, *rows = lines
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise TableError(
                f"line {number} of {path} has {len(row)} cells, the header {len(head)}"
            )
    return [dict(zip(head, row, strict=True)) for row in rows]


def statistics(
    declared: Declared,
    rows: Sequence[Mapping[str, str]],
    seed: str = "seed",
    arm: str = "arm",
) -> dict[str, list[float]]:
    """Computes the statistic of each claim for each seed, in the order of the seeds.

    Args:
      declared: the claims.
      rows: rows of a table, see `read_table`.
      seed: name of the column of seeds.
      arm: name of the column of arms.

    Returns: `{key: [seeds]}`; NaN if a seed has no number, as after a failed run.

    Raises:
      ValueError: a column, an arm or a seed is missing, a cell is not a number, or two
        rows have the same seed and arm.
    """
    nearest.choose(seed, tuple(rows[0]), "column")
    seeds = sorted({_seed(row[seed]) for row in rows})
    out = {}
    for claim in declared.claims:
        source = declared.sources[claim.key]
        try:
            out[claim.key] = _values(source, rows, seeds, seed, arm)
        except ValueError as error:
            raise TableError(f"claim {claim.key!r}: {error}") from None
    return out


def _values(source, rows, seeds, seed, arm) -> list[float]:
    """Computes the statistic of one claim for each seed."""

    def by_seed(column, which):
        nearest.choose(column, tuple(rows[0]), "column")
        if which:
            nearest.choose(arm, tuple(rows[0]), "column")
            nearest.choose(which, sorted({row[arm] for row in rows}), "arm")
        found: dict[int, float] = {}
        for row in rows:
            if which and row[arm] != which:
                continue
            number = _seed(row[seed])
            if number in found:
                words = f" of arm {which!r}" if which else "; name an arm"
                raise TableError(f"two rows have the seed {number}{words}")
            found[number] = _number(row[column], column, number)
        return found

    values = by_seed(source.statistic, source.arm)
    if source.minus or source.minus_arm:
        less = by_seed(source.minus or source.statistic, source.minus_arm or source.arm)
        _paired(values, less)
        values = {number: values[number] - less[number] for number in values}
    missing = [number for number in seeds if number not in values]
    if missing and not source.arm:
        raise TableError(f"the seeds {missing} are missing")
    return [values[number] for number in sorted(values)]


def _paired(values: Mapping[int, float], less: Mapping[int, float]) -> None:
    """Raises TableError if a seed has only one of the two numbers."""
    alone = sorted({*values} ^ {*less})
    if alone:
        raise TableError(
            f"the seeds {alone} have one of the two values only; a failed run's cell "
            "stays empty"
        )


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise TableError(f"a seed must be an integer, got {text!r}") from None


def _number(text: str, column: str, seed: int) -> float:
    """Converts a cell to a number; NaN if it is empty."""
    if text.strip() == "":
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise TableError(
            f"the column {column!r} of seed {seed} must hold a number, got {text!r}"
        ) from None


def read_results(path: files.AnyPath) -> tuple[tuple[Claim, ...], dict[str, list]]:
    """Reads claims and values from the `results.json` of a run folder.

    Returns: the claims, and `{statistic: [seeds]}`, later seeds included; NaN for
      failed seeds.

    Raises:
      TableError: the file is missing or holds no claims of this version.
    """
    names = {field.name for field in dataclasses.fields(Claim)}
    try:
        found = json.loads(files.path(path).read_text(encoding="utf-8"))["claims"]
        claims = tuple(
            Claim(**{k: v for k, v in one.items() if k in names}) for one in found
        )
        values = {
            claim.source: [
                math.nan if value is None or place in one["failed"] else float(value)
                for place, value in enumerate((*one["values"], *one["later_values"]))
            ]
            for claim, one in zip(claims, found, strict=True)
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(
            f"{path} holds no claims of this version ({error}); name a results.json "
            "that a study wrote"
        ) from error
    rules.check(claims)
    return claims, values
