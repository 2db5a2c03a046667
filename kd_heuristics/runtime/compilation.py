"""How many programs were compiled meanwhile, and how long that took.

XLA compiles on a first call only, but a shape, type or device that changes makes a call
a first one again: minutes a program on an accelerator. Each study prints the count.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax

from kd_heuristics.runtime import compiled

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Count:
    """Programs that XLA was asked for.

    Attributes:
      programs: all of them, also the small ones that single operations are.
      from_cache: those that the persistent cache had (see `compile_cache`).
      seconds: for all of them together.
      networks: `{function: programs}` of those that `compiled.jit` jitted.
    """

    programs: int = 0
    from_cache: int = 0
    seconds: float = 0.0
    networks: dict[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        own = ", ".join(f"{name} {n}" for name, n in sorted(self.networks.items()))
        return (
            f"{self.programs - self.from_cache} programs compiled, {self.from_cache} "
            f"read from the cache, in {self.seconds:.0f} s; of networks: "
            f"{own or 'none'}"
        )

    def entry(self) -> dict[str, Any]:
        """For environment.json."""
        return dataclasses.asdict(self) | {"seconds": round(self.seconds, 1)}


@contextlib.contextmanager
def counted() -> Iterator[Count]:
    """Counts the programs of this process; complete where the block ends.

    >>> with counted() as count:
    ...     _ = jax.jit(lambda x: 3 * x)(2.0)
    >>> count.programs
    1
    """
    events = _events()
    start = len(events)
    count = Count()
    try:
        yield count
    finally:
        new = list(events)[start:]
        count.programs = sum(name is not None for name, _ in new)
        count.from_cache = len(new) - count.programs
        count.seconds = sum(seconds for _, seconds in new)
        own = collections.Counter(name for name, _ in new if name in compiled.names)
        count.networks = {str(name): n for name, n in own.items()}


@functools.cache
def _events() -> list[tuple[str | None, float]]:
    """What was compiled since the first call: names and seconds; hits have no name."""
    events: list[tuple[str | None, float]] = []  # jax's threads only append

    def on_duration(event: str, duration_secs: float, **details: Any) -> None:
        if event == _COMPILED:
            name = str(details.get("fun_name", ""))
            name = name.removeprefix("jit(").removesuffix(")")
            events.append((name, duration_secs))

    def on_event(event: str, **_: Any) -> None:
        if event == _HIT:
            events.append((None, 0.0))

    jax.monitoring.register_event_duration_secs_listener(on_duration)
    jax.monitoring.register_event_listener(on_event)
    return events
