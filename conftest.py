"""What every test runs under: strict promotion, four CPU devices, checked shapes."""

import sys
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shape annotations of the package are checked in tests, and only there.
install_import_hook("kd_heuristics", "beartype.beartype")

# Each compiled program maps some files of memory; at Linux's usual limit of 65,530
# mappings a process, the compiler crashes.
_MANY_MAPPINGS = 30_000
_MAPPINGS = Path("/proc/self/maps")


@pytest.fixture
def undrawn(monkeypatch):
    """No figure is drawn: half the time of a run of which other things are tested."""
    for name in ("draw", "style"):
        monkeypatch.setattr(f"kd_heuristics.plots.{name}.save", lambda *_: None)


@pytest.fixture(autouse=True, scope="module")
def _own_modules():
    """Forgets the user's modules that a test file wrote, such as "nets"."""
    path = [*sys.path]
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if "pytest-of-" in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.fixture(autouse=True, scope="module")
def _few_compiled_programs():
    yield
    if _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > _MANY_MAPPINGS:
        jax.clear_caches()
