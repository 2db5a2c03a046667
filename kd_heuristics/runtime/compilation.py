"""Count of compiled programs and the time their compilation took.

XLA compiles a function at its first call, and again when a shape, type or device
changes: minutes per program on an accelerator. Each study prints the count.
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
    """Programs requested from XLA.

    Attributes:
      programs: number of all programs, including those of single operations.
      from_cache: number read from the persistent cache (see `compile_cache`).
      seconds: total compilation time.
      networks: `{function: programs}` for functions jitted by `compiled.jit`.
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
        """Returns the counts as stored in environment.json."""
        return dataclasses.asdict(self) | {"seconds": round(self.seconds, 1)}


@contextlib.contextmanager
def counted() -> Iterator[Count]:
    """Counts the programs that this process compiles; complete when the block ends.

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
    """Names and seconds of compilations since the first call; hits have no name."""
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
