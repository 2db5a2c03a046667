"""The run folder: what a study leaves behind, and how it finds it again.

    config.json        the study, its resolved preset, its claims, the strategies used
    environment.json   one entry an invocation: versions, devices, commit, command, time
    metrics.jsonl      one line a log step
    checkpoints/       one folder a training, one checkpoint a step; NAME.code.json
                       beside it: the code that made them
    stages/            arrays of each finished stage and the code that made them, so
                       that a rerun skips it
    arrays.npz         every array of the results
    results.json       every number and claim: what config and seeds alone determine
    code.json          the code that made them
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
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics import code_identity, descriptions, files, hosts, locks, parallel
from kd_heuristics.descriptions import differences, identity, to_json
from kd_heuristics.environment import environment
from kd_heuristics.files import PREFIX, whole, write_text
from kd_heuristics.other_code import CodeChangedError, OnOtherCode, OtherCode, RunError

__all__ = ["CodeChangedError", "InUseError", "OnOtherCode", "RunError", "RunFolder"]

_PROBE = ".writable"
_STORE = 'see to pip install "kd_heuristics[gcs]", credentials and permissions'
_CODE = "__code__"  # in the file of a stage, beside its arrays


class InUseError(RunError):
    """Another run is in the run folder; the message says whose."""


class RunFolder:
    """The folder of one run of one study.

    Args:
      path: of the folder; may be "gs://bucket/run".
      on_other_code: what happens to stages and checkpoints that other code made than
        the present one, see `other_code.OtherCode`.
    """

    def __init__(self, path: files.AnyPath, on_other_code: OnOtherCode = "refuse"):
        self.path = files.path(path)
        self._other_code = OtherCode(on_other_code)

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

        Other words alone (`descriptions.identity`) are written to config.json.

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
            for difference in differences(identity(old), identity(described))
            if not descriptions.is_free(difference[0], free)
        ]
        if not found:
            kept = descriptions.keep_free(old, described, free)
            if kept != old:
                self.write_json("config.json", kept)
            return
        lines = [f"  {key}: {a!r} there, {b!r} asked for" for key, a, b in found]
        if descriptions.extends(found, extendable):
            print(f"{self.path} is extended:\n" + "\n".join(lines), file=sys.stderr)
            # Before config.json, so that a kill in between leaves the shorter run.
            for path in (self.path / "stages").glob("*.npz"):
                path.unlink()
            self._drop_results()
            self.write_json("config.json", described)
            return
        more = f" (only {', '.join(extendable)} may grow)" if extendable else ""
        raise RunError(
            f"{self.path} holds a run of another configuration:\n"
            + "\n".join(lines)
            + f"\nchoose another folder with --workdir, or remove this one{more}"
        )

    def checkpoints(self, name: str) -> Any:
        """Where the checkpoints of a training lie, to read them."""
        return self.path / "checkpoints" / name

    def training(self, name: str, by: Any) -> Any:
        """The folder in which a training writes its checkpoints and finds earlier ones.

        Args:
          name: of the training.
          by: what trains: a function or class, see `code_identity.modules`.

        Raises:
          CodeChangedError: other code wrote the checkpoints.
        """
        now = code_identity.modules(by)
        directory, record = self.checkpoints(name), f"checkpoints/{name}.code.json"
        made_by: list[dict[str, str]] = []
        if hosts.first(_has_steps, directory):
            known = hosts.first((self.path / record).exists)
            made_by = self.read_json(record) if known else [{}]
            if not self._use(f"the checkpoints {directory}", made_by, now):
                hosts.first(epath.Path(directory).rmtree)
                made_by = []
        if now not in made_by:
            hosts.first(files.make_folder, self.path / "checkpoints")
            self.write_json(record, [*made_by, now])
        return directory

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
        files.make_folder(target.parent)
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
        """The arrays of a stage: read if it is finished, else computed and saved.

        A damaged file is computed again, with a warning. The code of `compute`, as
        `code_identity.modules` finds it, is saved with the arrays.

        Raises:
          CodeChangedError: other code made the arrays.
        """
        file, now = f"stages/{name}.npz", code_identity.modules(compute)
        if hosts.first((self.path / file).exists):
            try:
                arrays, made_by = self._load_stage(file)
            except RunError as error:
                warnings.warn(f"{error}; that is done now", stacklevel=2)
            else:
                if self._use(f"the stage {self.path / file}", [made_by], now):
                    return arrays
        self.save_arrays(file, {**compute(), _CODE: np.array(json.dumps(now))})
        return self._load_stage(file)[0]

    def _load_stage(self, file):
        arrays = self.load_arrays(file)
        text = str(arrays.pop(_CODE, "{}"))
        try:
            return arrays, json.loads(text)
        except ValueError as error:
            raise RunError(
                f"{self.path / file} cannot be read ({error}); remove it to have it "
                "made again"
            ) from error

    def _use(self, what, made_by, now) -> bool:
        use = self._other_code.use(what, made_by, now)
        if not use:  # a kill must not leave the old results beside new ones
            hosts.first(self._drop_results)
        return use

    def _drop_results(self):
        for name in ("results.json", "arrays.npz"):
            (self.path / name).unlink(missing_ok=True)

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
        if self._other_code.accepted:
            done["accepted_code"] = self._other_code.accepted
        record["invocations"][-1] = done
        self.write_json("environment.json", record)


def _has_steps(directory) -> bool:
    """Whether a training has written a checkpoint."""
    folder = epath.Path(directory)
    return folder.exists() and any(path.name.isdigit() for path in folder.iterdir())
