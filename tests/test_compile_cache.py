"""Compiled programs kept on disk: off on CPU unless asked for, never at import."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from kd_heuristics.runtime import compilation, compile_cache, compiled

# Prints what a program's second process is to see. The folder is used at the call.
CHILD = """
import jax, jax.numpy as jnp
from kd_heuristics import training
from kd_heuristics.runtime import compilation, compile_cache
assert jax.config.jax_compilation_cache_dir is None  # importing sets nothing
folder = compile_cache.use()
assert jax.config.jax_compilation_cache_dir == (folder and str(folder))
with compilation.counted() as count:
    jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(folder, count.programs, count.from_cache)
"""
ROOT = pathlib.Path(__file__).parents[1]


def child(**variables):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (compile_cache.VARIABLE, "JAX_COMPILATION_CACHE_DIR")
    }
    environment |= {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    folder, programs, hits = done.stdout.split()
    return folder, int(programs), int(hits), done.stderr


def test_off_on_cpu():
    folder, programs, hits, _ = child()
    assert (folder, hits) == ("None", 0)
    assert programs > 0


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    asked = {compile_cache.VARIABLE: "on", "XDG_CACHE_HOME": str(tmp_path)}
    folder, programs, hits, _ = child(**asked)
    assert pathlib.Path(folder).is_relative_to(tmp_path / "kd_heuristics")
    assert (hits, programs > 0) == (0, True)
    again = child(**asked)
    assert again[:3] == (folder, programs, programs)


def test_a_folder_that_cannot_be_written_is_a_line_and_no_failure(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "file"))
    assert compile_cache.use() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: compiled programs are not kept")
    assert compile_cache.VARIABLE in line
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(
    ("word", "backend", "is_on"),
    [
        ("", "gpu", True),
        ("", "tpu", True),
        ("", "cpu", False),
        ("off", "gpu", False),
        ("0", "tpu", False),
        ("on", "cpu", True),
    ],
)
def test_where_it_is_on(word, backend, is_on):
    found = compile_cache.wanted({compile_cache.VARIABLE: word}, backend)
    assert (found is not None) == is_on


def test_jax_s_own_variable_goes_before(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(compile_cache.VARIABLE, "off")
    assert compile_cache.use() == tmp_path


def test_hosts_with_other_processors_have_other_folders(monkeypatch, tmp_path):
    names = []
    for flags in ("sse avx", "sse avx avx512"):
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags : {flags}\nMHz: 3\n")
        monkeypatch.setattr(compile_cache, "_CPU", tmp_path / "cpuinfo")
        names.append(compile_cache.host())
    assert names[0] != names[1]
    (tmp_path / "cpuinfo").write_text("processor: 1\nflags : sse avx avx512\nMHz: 2\n")
    assert compile_cache.host() == names[1]


def test_programs_are_counted_once(tmp_path):
    def doubled(x):
        return 2 * x

    call = jax.jit(doubled)
    with compilation.counted() as count:
        for value in (1.0, 2.0, 3):  # floats share a program
            call(value)
    assert count.programs == 2
    assert count.seconds > 0
    assert count.networks == {}
    assert "2 programs compiled, 0 read from the cache" in str(count)


def test_programs_of_networks_are_told_by_the_name_of_their_function():
    def halved(x):
        return x / 2

    calls = compiled.jit(halved), compiled.jit(lambda x: x - 1), jax.jit(lambda x: x)
    with compilation.counted() as count:
        for call in calls:
            call(1.0)
    assert count.programs >= 3  # jit's own try of its option may be one more
    assert count.networks == {"halved": 1}
