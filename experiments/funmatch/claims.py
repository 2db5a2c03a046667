"""What the paper says of patience and consistency, as numbers to contradict."""

from experiments.funmatch.arms import ARMS, table3
from experiments.funmatch.config import Config
from kd_heuristics.runs import Claim


def claims(config: Config) -> tuple[Claim, ...]:
    """What the paper says, as numbers a run can contradict; of the arms that are run.

    The paper's values are those of its table 3 (ImageNet) at 300 and 4,800 epochs, as
    far apart as our shortest and longest training.
    """
    table = table3()
    rows = (
        ("a consistent teacher is better than independent views", "same/ic", "ind/ic"),
        ("independent views are better than a fixed teacher", "ind/ic", "fix/cc"),
        ("a consistent teacher is better than a fixed one", "same/ic", "fix/cc"),
        ("mixup helps long runs", "mix", "same/ic"),
    )
    found = [
        (
            f"longest/{arm}/{other}",
            words,
            against(arm, other),
            _gap(table, arm, other),
            {arm, other},
        )
        for words, arm, other in rows
    ]
    if len(config.settings) > 1:
        found += [
            (
                f"patience/{arm}",
                f"patience helps: {ARMS[arm].words}",
                patience(arm),
                table[arm][4800] - table[arm][300],
                {arm},
            )
            for arm in ("same/ic", "mix")
        ]
    return tuple(
        Claim(
            key=key,
            statement=words,
            statistic=statistic,
            direction="above",
            smallest_effect=config.smallest_effect,
            margin=config.margin,
            unit="accuracy",
            paper=None if value is None else round(value / 100, 4),
        )
        for key, words, statistic, value, arms in found
        if arms <= {*config.main}
    )


def against(arm: str, other: str) -> str:
    """The statistic of two arms at the longest training."""
    return f"test accuracy after the longest training, {arm} minus {other}"


def patience(arm: str) -> str:
    """The statistic of an arm at two lengths."""
    return f"test accuracy, longest minus shortest training, {arm}"


def _gap(table, arm: str, other: str) -> float | None:
    found = [table.get(name, {}).get(4800) for name in (arm, other)]
    return None if None in found else found[0] - found[1]
