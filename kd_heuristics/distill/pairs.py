"""Pairs layers for FSP, by name or by the resolution of their maps."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd_heuristics.runtime import nearest

Names = Sequence[tuple[str, str]]


def take_pairs(features: Mapping[str, Any], names: Names) -> list[tuple[Any, Any]]:
    """Returns the maps of named pairs of layers.

    Args:
      features: layer name to its output, [batch, h, w, channels].
      names: (first, last) layer of each section.

    Raises: ValueError for an unknown layer; the message suggests the nearest name.

    >>> take_pairs({"00_conv": 1, "05_relu": 2}, [("00_conv", "05_relu")])
    [(1, 2)]
    """
    chosen = [[nearest.choose(name, features, "layer") for name in p] for p in names]
    return [(features[first], features[last]) for first, last in chosen]


def sections(
    features: Mapping[str, Any],
    layers: Callable[[str], bool] | None = None,
    start: str = "input",
) -> dict[tuple[int, int], tuple[str, str]]:
    """Finds the first and last layer per resolution (Yim et al. 2017, fig. 2, sec. 4).

    Consecutive layers with maps of one size form a section. Maps of one pixel are
    skipped, because their flow matrix has nothing to sum over.

    Args:
      features: layer name to its output or its shape (`jax.eval_shape`), in network
        order. Only maps, [batch, h, w, channels], are used.
      layers: `name -> bool`, true for layers to consider; `None` considers all. For
        outputs of ReLUs alone, use `lambda name: name.endswith("relu")`.
      start: the first layer of a pair. "input" takes the section's input, which is the
        last layer of the previous section (`fsp_matrix` pools it), as the brackets in
        the paper's figure do; without a previous section, the section's first layer.
        "first" always takes the first layer of the section itself.

    Returns: (h, w) to (first, last), in network order. A section whose only layer would
      pair with itself is omitted.

    Raises: ValueError if there is no section, or two sections have the same size.

    >>> import jax
    >>> large, small = (jax.ShapeDtypeStruct((1, n, n, 4), "float32") for n in (8, 4))
    >>> maps = {"a": large, "b": large, "c": small, "d": small}
    >>> sections(maps)
    {(8, 8): ('a', 'b'), (4, 4): ('b', 'd')}
    >>> sections(maps, start="first")
    {(8, 8): ('a', 'b'), (4, 4): ('c', 'd')}
    """
    nearest.choose(start, ("input", "first"), "start")
    maps = [
        (name, tuple(value.shape[1:3]))
        for name, value in features.items()
        if len(value.shape) == 4 and (layers is None or layers(name))
    ]
    found: dict[tuple[int, int], tuple[str, str]] = {}
    before = None
    for size, run in itertools.groupby(maps, key=lambda item: item[1]):
        names = [name for name, _ in run]
        first = names[0] if start == "first" or before is None else before
        before = names[-1]
        if size in found:
            raise ValueError(
                f"layers {found[size][1]!r} and {names[0]!r} have maps of "
                f"{size[0]}x{size[1]} with other sizes in between; name the pairs by "
                "hand and pass them to take_pairs"
            )
        if size != (1, 1) and first != names[-1]:
            found[size] = (first, names[-1])
    if not found:
        listed = ", ".join(f"{name} {h}x{w}" for name, (h, w) in maps) or "(no maps)"
        raise ValueError(
            f"no two layers make a section: {listed}; choose others with `layers`"
        )
    return found


def matching_sections(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    layers: Callable[[str], bool] | None = None,
    start: str = "input",
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Finds the pairs of a student and a teacher that FSP can compare, by resolution.

    Args:
      student: the student's layer name to its output or shape; see `sections`.
      teacher: the teacher's, likewise.
      layers: layers to consider in both; see `sections`.
      start: first layer of each pair; see `sections`.

    Returns: names (first, last) of the student's sections and of the teacher's, for
      `take_pairs`.

    Raises: ValueError if the resolutions, or the channels of a section, differ.
    """
    of_student = sections(student, layers, start)
    of_teacher = sections(teacher, layers, start)
    if list(of_student) != list(of_teacher):
        raise ValueError(
            f"the student has sections of {_sizes(of_student)} and the teacher of "
            f"{_sizes(of_teacher)}; name the pairs by hand and pass them to take_pairs"
        )
    for size, names in of_student.items():
        here = [student[name].shape[-1] for name in names]
        there = [teacher[name].shape[-1] for name in of_teacher[size]]
        if here != there:
            raise ValueError(
                f"section {size[0]}x{size[1]}: {' and '.join(names)} of the student "
                f"have {here} channels, {' and '.join(of_teacher[size])} of the "
                f"teacher have {there}; FSP needs equal numbers: choose other layers "
                "or widths"
            )
    return list(of_student.values()), list(of_teacher.values())


def _sizes(found) -> str:
    """Formats map sizes for a message."""
    return ", ".join(f"{height}x{width}" for height, width in found)
