"""The run folder: what a study leaves behind, and how it finds it again.

    config.json        the study, its resolved preset, its claims, the strategies used
    environment.json   one entry an invocation: versions, devices, commit, command, time
    metrics.jsonl      one line a log step
    checkpoints/       one folder a training, one checkpoint a step
    stages/            arrays of each finished stage, so that a rerun skips it
    arrays.npz         every array of the results
    results.json       every number and claim: what config and seeds alone determine
    error.json         instead of results, where the study failed
    figures/           png and pdf
    .lock              while a run is in it: whose

Files are written under another name and renamed: a kill leaves the old one or the new.

With several processes (`hosts`) all of them call the same functions here, process 0
alone reads and writes, and each process gets the answer. The folder may lie on an
object store ("gs://bucket/run"): see `files` and `locks` for what is different there.
"""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_heuristics import files, hosts, locks, parallel
from kd_heuristics.descriptions import differences, extends, is_free, to_json
from kd_heuristics.files import PREFIX, whole, write_text, writing

_PROBE = ".writable"
_STORE = 'see to pip install "kd_heuristics[gcs]", credentials and permissions'
_PACKAGES = ("kd_heuristics", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


class RunError(Exception):
    """A run folder that cannot be used as asked; the message says what helps."""


class InUseError(RunError):
    """Another run is in the run folder; the message says whose."""


class RunFolder:
    """The folder of one run of one study; its path may be "gs://bucket/run"."""

    def __init__(self, path: files.AnyPath):
        self.path = files.path(path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it while inside.

        Raises:
          RunError: the folder cannot be written.
          InUseError: a run is in it (it says whose).
        """
        with contextlib.ExitStack() as held:
            hosts.first(self._enter, held)
            yield

    def _enter(self, held: contextlib.ExitStack) -> None:
        self._make()
        try:
            held.enter_context(locks.lock(self.path))
        except locks.LockedError as error:
            raise InUseError(
                f"the run folder {self.path} is in use by {error}. Wait for it, stop "
                "it, or choose another with --workdir"
            ) from None

    def open(
        self,
        described: Mapping[str, Any],
        extendable: Collection[str] = (),
        free: Sequence[str] = (),
    ) -> None:
        """Makes the folder, or checks that it holds a run of the same description.

        Args:
          described: goes to config.json: the study, its config, claims, strategies.
          extendable: fields of the config that may be larger than in the run that is
            there. What was computed from its checkpoints is then computed again.
          free: fields of the config that may differ from the run that is there, whose
            description stays; environment.json has what each invocation ran on.

        Raises:
          RunError: the folder cannot be written, is not a run folder, or holds a run
            of another description (the differences are listed).
        """
        hosts.first(self._open, to_json(described), extendable, free)

    def _open(self, described, extendable, free) -> None:
        self._make()
        if (self.path / "config.json").exists():
            self._compare(described, extendable, free)
            return
        # Of a start that was killed, or failed.
        own = (locks.FILE, _PROBE, f"{PREFIX}config.json", "error.json")
        # An empty folder of a store is none.
        there = self.path.iterdir() if self.path.exists() else ()
        others = sorted(p.name for p in there if p.name not in own)
        if others:
            raise RunError(
                f"{self.path} holds files but no config.json, so it is not a run "
                f"folder (first: {others[0]}); choose another with --workdir"
            )
        self.write_json("config.json", described)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / _PROBE
            probe.write_bytes(b"x")  # a full disk makes empty files
            probe.unlink(missing_ok=True)  # another process probes too
        except Exception as error:
            if files.is_store(self.path):  # whose clients have errors of their own
                words, remedy = str(error), f"{_STORE}, or "
            elif isinstance(error, OSError):
                words, remedy = error.strerror, ""
            else:
                raise
            raise RunError(
                f"the run folder {self.path} cannot be written ({words}); {remedy}"
                "choose another with --workdir"
            ) from error

    def _compare(self, described, extendable, free) -> None:
        old = self.read_json("config.json")
        found = [
            difference
            for difference in differences(old, described)
            if not is_free(difference[0], free)
        ]
        if not found:
            return
        lines = [f"  {key}: {a!r} there, {b!r} asked for" for key, a, b in found]
        if extends(found, extendable):
            print(f"{self.path} is extended:\n" + "\n".join(lines), file=sys.stderr)
            # Before config.json, so that a kill in between leaves the shorter run.
            for path in (self.path / "stages").glob("*.npz"):
                path.unlink()
            for name in ("results.json", "arrays.npz"):
                (self.path / name).unlink(missing_ok=True)
            self.write_json("config.json", described)
            return
        more = f" (only {', '.join(extendable)} may grow)" if extendable else ""
        raise RunError(
            f"{self.path} holds a run of another configuration:\n"
            + "\n".join(lines)
            + f"\nchoose another folder with --workdir, or remove this one{more}"
        )

    def checkpoints(self, stage: str) -> Any:
        """Where the checkpoints of a stage lie."""
        return self.path / "checkpoints" / stage

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file of the folder.

        Raises:
          RunError: it is missing or no JSON.
        """
        return hosts.first(self._read_json, name)

    def _read_json(self, name):
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / name} cannot be read: {error}") from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file of the folder, whole or not at all."""
        text = json.dumps(to_json(value), indent=1, allow_nan=False, ensure_ascii=False)
        hosts.first(write_text, self.path / name, text + "\n")

    def remove(self, name: str) -> None:
        """Deletes a file of the folder; nothing where there is none."""
        hosts.first((self.path / name).unlink, missing_ok=True)

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes `name` (".npz"), whole or not at all; bfloat16 as float32.

        So are other types that NumPy's files do not know, see `files.storable`.
        """
        arrays = {
            key: files.storable(parallel.to_host(array))
            for key, array in arrays.items()
        }
        hosts.first(self._save_arrays, name, arrays)

    def _save_arrays(self, name, arrays):
        target = self.path / name
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial, partial.open("wb") as file:
            np.savez(file, **dict[str, Any](arrays))

    def load_arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an ".npz" of the folder, without pickle.

        Raises:
          RunError: it is missing or damaged.
        """
        return hosts.first(self._load_arrays, name)

    def _load_arrays(self, name):
        try:
            with (
                (self.path / name).open("rb") as stream,
                np.load(stream, allow_pickle=False) as file,
            ):
                return {key: file[key] for key in file.files}
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise RunError(
                f"{self.path / name} cannot be read ({error}); remove it to have it "
                "made again"
            ) from error

    def stage(self, name: str, compute: Callable) -> dict[str, np.ndarray]:
        """The arrays of a stage: read where it is finished, else computed and saved.

        A file that is damaged is computed again, and a warning says so.
        """
        file = f"stages/{name}.npz"
        if hosts.first((self.path / file).exists):
            try:
                return self.load_arrays(file)
            except RunError as error:
                warnings.warn(f"{error}; that is done now", stacklevel=2)
        self.save_arrays(file, compute())
        return self.load_arrays(file)

    def begin(self) -> dict[str, Any]:
        """Adds this invocation to environment.json; `end` completes the entry."""
        return hosts.first(self._begin, {"processes": hosts.count()})

    def _begin(self, own):
        file = "environment.json"
        entries = self._invocations(file) if (self.path / file).exists() else []
        entry = environment() | own | {"finished": False}
        self.write_json(
            file, {"resumes": len(entries), "invocations": [*entries, entry]}
        )
        return entry

    def _invocations(self, file):
        try:
            return [*self.read_json(file)["invocations"]]
        except (RunError, LookupError, TypeError) as error:
            words = f"{self.path / file} is damaged ({error}); it is begun anew"
            warnings.warn(words, stacklevel=3)
            return []

    def end(self, entry: dict[str, Any], seconds: float, **more: Any) -> None:
        """Writes how long the invocation took, and that it came to its end.

        Args:
          entry: what `begin` returned.
          seconds: of the invocation.
          **more: other fields of the entry.
        """
        hosts.first(self._end, entry, seconds, more)

    def _end(self, entry, seconds, more):
        record = self.read_json("environment.json")
        done = entry | {"finished": True, "seconds": round(seconds, 1)} | more
        record["invocations"][-1] = done
        self.write_json("environment.json", record)


def environment() -> dict[str, Any]:
    """Versions, devices, git commit, command and start of this process."""
    devices = jax.devices()
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "backend": jax.default_backend(),
        "devices": [f"{devices[0].device_kind} x {len(devices)}"],
        "cpu_cores": os.cpu_count(),
        "git_commit": _git_commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that this file lies in, None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
