"""Errors for mistyped names that suggest the nearest valid one."""

import difflib
from collections.abc import Iterable


def choose(value: str, choices: Iterable[str], what: str) -> str:
    """Returns `value` if it is one of the choices.

    Args:
      value: what the user wrote.
      choices: the valid ones.
      what: kind of name in the message: "model", "preset", "split".

    Raises:
      ValueError: it is none of them; the message suggests the nearest and lists all.

    >>> choose("train", ("train", "test"), "split")
    'train'
    >>> choose("trian", ("train", "test"), "split")
    Traceback (most recent call last):
    ...
    ValueError: unknown split 'trian'; did you mean 'train'? Valid: train, test
    """
    choices = tuple(choices)
    if value in choices:
        return value
    found = nearest(str(value), choices)
    hint = "" if found is None else f"; did you mean {found!r}?"
    listed = ", ".join(choices) or "(none)"
    separator = " Valid" if hint else "; valid"
    raise ValueError(f"unknown {what} {value!r}{hint}{separator}: {listed}")


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Returns the choice most like `value`, ignoring case, or None if none is similar.

    >>> nearest("CIFAR_10", ("digits", "cifar10", "cifar100"))
    'cifar10'
    """
    by_lower = {choice.lower(): choice for choice in choices}
    # Almost no cutoff: the message lists all, so a poor suggestion does no harm.
    found = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.01)
    return by_lower[found[0]] if found else None
