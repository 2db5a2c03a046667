"""Treatment of stored results that other code made."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kd_heuristics.runs import code_identity
from kd_heuristics.runs.place import RunError
from kd_heuristics.runtime import nearest, onednn

OnOtherCode = Literal["refuse", "recompute", "accept"]


class CodeChangedError(RunError):
    """Other code made results of the run folder; the message lists the modules."""


class OtherCode:
    """The rule for results of other code, and a record of those used.

    Args:
      rule: "refuse" raises CodeChangedError, "recompute" recomputes them, "accept" uses
        them as they are.

    Attributes:
      accepted: modules that differ, for each result that was used.
    """

    def __init__(self, rule: OnOtherCode):
        self.rule = nearest.choose(rule, ("refuse", "recompute", "accept"), "rule")
        self.accepted: dict[str, list[str]] = {}

    def use(
        self, what: str, made_by: Sequence[Mapping[str, str]], now: Mapping[str, str]
    ) -> bool:
        """Whether to use a stored result; False to recompute it.

        Args:
          what: the result, for messages: "the stage runs/demo/sgdr/stages/a.npz".
          made_by: the codes that made it, in order (`code_identity.modules`); {} for
            one that was not recorded.
          now: the present code.

        Raises:
          CodeChangedError: other code made it, and the rule is "refuse".
        """
        pairs = [code_identity.changed(old, now) for old in made_by]
        changed = sorted({module for modules in pairs for module in modules})
        if not changed or self.rule == "recompute":
            return not changed
        if {} in made_by:
            changed = ["all (the code was not recorded)"]
        if self.rule == "refuse":
            first = made_by[0].get(onednn.VARIABLE, "off")
            alone = changed == [onednn.VARIABLE]
            own = f"Set {onednn.VARIABLE}={first} to resume. " if alone else ""
            raise CodeChangedError(
                f"other code than the present made {what}. The modules that differ: "
                f"{', '.join(changed)}. {own}Add --recompute to recompute what other "
                "code made, or --accept-code to use it (the report will note this), or "
                "choose another folder with --workdir"
            )
        self.accepted[what] = changed
        return True


def at_work(entries: Sequence[dict[str, Any]], newest: int) -> list[dict[str, Any]]:
    """Returns the entries of a training's record whose code has trained a step.

    Args:
      entries: the codes that trained it, in order; each took over "after" a step.
      newest: the newest step; -1 if there is none.

    >>> at_work([{"after": -1, "code": {}}, {"after": 9, "code": {}}], newest=9)
    [{'after': -1, 'code': {}}]
    """
    ends = [*(entry["after"] for entry in entries[1:]), newest]
    pairs = zip(entries, ends, strict=True) if entries else ()
    return [entry for entry, end in pairs if entry["after"] < min(end, newest)]
