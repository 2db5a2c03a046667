"""How much memory a device has."""

import os

import jax


def limit() -> int:
    """Returns the bytes that JAX may use on a device; on a CPU those of the machine.

    >>> limit() > 0
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit", machine)
