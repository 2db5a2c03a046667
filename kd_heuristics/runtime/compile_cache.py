"""Persistent cache of compiled programs, in a folder of the user.

    KD_HEURISTICS_COMPILE_CACHE=on | off | a folder

If unset, the cache is on for GPU and TPU and off on CPU, where XLA's programs use the
instruction set of the host that compiled them. Each jaxlib and each host therefore has
its own subfolder. jax's own variable JAX_COMPILATION_CACHE_DIR takes precedence and
names the folder itself. Anyone who can write there can make us run their code.
"""

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax

from kd_heuristics.runtime import files

VARIABLE = "KD_HEURISTICS_COMPILE_CACHE"
_JAX = "JAX_COMPILATION_CACHE_DIR"
_CPU = Path("/proc/cpuinfo")


def use() -> Path | None:
    """Enables the cache if wanted; returns its folder, or None if it is off.

    For entry points of programs. It queries jax's backend, so `jax.distributed` must
    have been started. If the folder cannot be written, it warns on stderr and goes on
    without a cache.
    """
    if os.environ.get(_JAX):
        return Path(os.environ[_JAX])
    root = wanted(os.environ, jax.default_backend())
    if root is None:
        return None
    folder = root / f"jaxlib-{metadata.version('jaxlib')}" / host()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")  # a full disk makes empty files
    except OSError as error:
        print(
            f"warning: compiled programs are not kept, {folder} cannot be written "
            f"({error.strerror}); name another folder with {VARIABLE}, or off",
            file=sys.stderr,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def wanted(environment: Mapping[str, str], backend: str) -> Path | None:
    """Returns the folder that holds the caches of all hosts, or None for no cache.

    >>> wanted({"XDG_CACHE_HOME": "/home/a/.cache"}, "gpu").as_posix()
    '/home/a/.cache/kd_heuristics/compiled'
    >>> wanted({}, "cpu")
    >>> wanted({VARIABLE: "/scratch/programs"}, "cpu").as_posix()
    '/scratch/programs'
    """
    word = environment.get(VARIABLE) or ("off" if backend == "cpu" else "on")
    if word in ("off", "0", "false"):
        return None
    if word not in ("on", "1", "true"):
        return files.local(word)
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kd_heuristics" / "compiled"


def host() -> str:
    """Returns a name for this host and its processor: "node7-1f3a5c77"."""
    lines = _CPU.read_text().splitlines() if _CPU.exists() else []
    what = {line for line in lines if line.startswith(("model name", "flags"))}
    words = "\n".join([platform.machine(), *sorted(what)])
    return f"{platform.node()}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
