"""Which form a repeated computation takes on which backend.

The table ships with the package and is recorded with each run: a choice by timing at
run time would make a resumed run differ from an uninterrupted one.
"""

import jax

# "map": one after the other in one program; "vmap": all at once. On CPU several
# networks at once turn convolutions into grouped ones, which are slower than one
# network after another (quarter-width VGG-16, 4 networks: 2,060 against 1,045
# net-images a second); on GPU and TPU one small network leaves the device idle.
_STRATEGIES = {
    "cpu": {"points": "map"},
    "gpu": {"points": "vmap"},
    "tpu": {"points": "vmap"},
}


def strategies(backend: str | None = None) -> dict[str, str]:
    """The strategy of each repeated computation on a backend (default: this one's).

    >>> strategies("cpu")
    {'points': 'map'}
    """
    backend = backend or jax.default_backend()
    return dict(_STRATEGIES.get(backend, _STRATEGIES["gpu"]))
