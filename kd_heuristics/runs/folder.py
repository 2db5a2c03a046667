"""The run folder: the files that a study writes and reads again.

    config.json        the format of the folder, the study, its resolved preset, its
                       claims, the strategies used
    environment.json   an entry per invocation: versions, devices, commit, command, time
    metrics.jsonl      one line per log step
    checkpoints/       one folder per training, one checkpoint per step; NAME.code.json
                       beside it records the code that made them
    stages/            arrays of each finished stage and the code that made them, so
                       that a rerun skips it
    arrays.npz         every array of the results
    results.json       every number and claim, determined by config and seeds alone
    code.json          the code that made the results
    error.json         instead of results if the study failed
    figures/           png and pdf
    .lock, .lock-owner while a run uses the folder; the second names it

Writes are atomic (temporary file, then rename): a kill leaves the old file or the new.

With several processes (`hosts`) all call the same functions here, only process 0 reads
and writes, and each process gets the result. The folder may lie on an object store
("gs://bucket/run"); `files` and `locks` describe the differences.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics.runs import code_identity, descriptions, other_code, place
from kd_heuristics.runs.descriptions import differences, identity, to_json
from kd_heuristics.runs.environment import environment
from kd_heuristics.runs.other_code import CodeChangedError, OnOtherCode, OtherCode
from kd_heuristics.runs.place import RunError
from kd_heuristics.runtime import files, hosts, locks, parallel
from kd_heuristics.runtime.files import PREFIX, write_text

__all__ = ["CodeChangedError", "InUseError", "OnOtherCode", "RunError", "RunFolder"]

_CODE = "__code__"  # key of the code in a stage's file


class InUseError(RunError):
    """Error that another run uses the run folder; the message names its owner."""


class RunFolder:
    """Folder of one run of one study.

    Args:
      path: path of the folder; may be "gs://bucket/run".
      on_other_code: treatment of stages and checkpoints that other code made, see
        `other_code.OtherCode`.
    """

    def __init__(self, path: files.AnyPath, on_other_code: OnOtherCode = "refuse"):
        self.path = files.path(path)
        self._other_code = OtherCode(on_other_code)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder and lock it against other processes in the context.

        Raises:
          RunError: the folder cannot be written.
          InUseError: another run uses it; the message names its owner.
        """
        with contextlib.ExitStack() as held:
            hosts.first(self._enter, held)
            yield

    def _enter(self, held: contextlib.ExitStack) -> None:
        """Create the folder and acquire its lock."""
        place.make(self.path)
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
        """Create the folder, or check that it holds a run of the same description.

        Differences in wording only (`descriptions.identity`) update config.json.

        Args:
          described: contents of config.json: the study, its config, claims, strategies.
          extendable: config fields that may be larger than in the existing run. All
            that was computed from its checkpoints is then recomputed.
          free: config fields that may differ from the existing run, whose description
            is kept; environment.json records what each invocation ran on.

        Raises:
          RunError: the folder cannot be written, is not a run folder, has another
            format, or holds a run of another description (the message lists the
            differences).
        """
        described = {"format": place.FORMAT} | to_json(described)
        hosts.first(self._open, described, extendable, free)

    def _open(self, described, extendable, free) -> None:
        place.make(self.path)
        if (self.path / "config.json").exists():
            self._compare(described, extendable, free)
            return
        # Files left by a start that was killed or failed.
        own = (
            locks.FILE,
            locks.OWNER,
            place.PROBE,
            f"{PREFIX}config.json",
            "error.json",
        )
        # On a store an empty folder does not exist.
        there = self.path.iterdir() if self.path.exists() else ()
        others = sorted(p.name for p in there if p.name not in own)
        if others:
            raise RunError(
                f"{self.path} holds files but no config.json, so it is not a run "
                f"folder (first: {others[0]}); choose another with --workdir"
            )
        self.write_json("config.json", described)

    def _compare(self, described, extendable, free) -> None:
        """Check a description against config.json; extend the run if allowed."""
        old = self.read_json("config.json")
        place.check_format(self.path, old)
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
            # Delete before writing config.json: a kill then leaves the shorter run.
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
        """Returns the folder of a training's checkpoints, for reading."""
        return self.path / "checkpoints" / name

    def training(self, name: str, by: Any) -> Any:
        """Returns the folder in which a training writes checkpoints and resumes.

        Args:
          name: name of the training.
          by: function or class that trains, see `code_identity.modules`.

        Raises:
          CodeChangedError: other code wrote the checkpoints.
        """
        now = code_identity.modules(by)
        directory, record = self.checkpoints(name), f"checkpoints/{name}.code.json"
        newest = hosts.first(_newest_step, directory)
        stored: list[dict[str, Any]] = []
        if newest >= 0:
            known = hosts.first((self.path / record).exists)
            stored = self.read_json(record) if known else [{"after": -1, "code": {}}]
        made_by = other_code.at_work(stored, newest)
        codes = [entry["code"] for entry in made_by]
        if codes and not self._use(f"the checkpoints {directory}", codes, now):
            hosts.first(epath.Path(directory).rmtree)
            made_by, newest = [], -1
        if not made_by or made_by[-1]["code"] != now:
            made_by.append({"after": newest, "code": now})
        if made_by != stored:
            hosts.first(files.make_folder, self.path / "checkpoints")
            self.write_json(record, made_by)
        return directory

    def read_json(self, name: str) -> Any:
        """Returns the contents of a JSON file of the folder.

        Raises:
          RunError: the file is missing or is not JSON.
        """
        return hosts.first(self._read_json, name)

    def _read_json(self, name):
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.path / name} cannot be read: {error}") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder atomically."""
        text = json.dumps(to_json(value), indent=1, allow_nan=False, ensure_ascii=False)
        hosts.first(write_text, self.path / name, text + "\n")

    def remove(self, name: str) -> None:
        """Delete a file of the folder if it exists."""
        hosts.first((self.path / name).unlink, missing_ok=True)

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the ".npz" file `name` atomically.

        bfloat16 and other types that NumPy's files do not support are stored as
        float32, see `files.storable`.
        """
        arrays = {key: parallel.to_host(array) for key, array in arrays.items()}
        hosts.first(self._save_arrays, name, arrays)

    def _save_arrays(self, name, arrays):
        files.make_folder((self.path / name).parent)
        files.write_arrays(self.path / name, arrays)

    def load_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays of an ".npz" file of the folder, without unpickling.

        Raises:
          RunError: the file is missing or damaged.
        """
        return hosts.first(self._load_arrays, name)

    def _load_arrays(self, name):
        try:
            return files.read_arrays(self.path / name)
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise RunError(
                f"{self.path / name} cannot be read ({error}); remove it to have it "
                "made again"
            ) from error

    def stage(self, name: str, compute: Callable) -> dict[str, np.ndarray]:
        """Returns the arrays of a stage: reads them if it is finished, else computes.

        Computed arrays are saved. A damaged file is recomputed, with a warning. The
        code of `compute`, as `code_identity.modules` finds it, is saved with the
        arrays.

        Raises:
          CodeChangedError: other code made the arrays.
        """
        file, now = f"stages/{name}.npz", code_identity.modules(compute)
        if hosts.first((self.path / file).exists):
            try:
                arrays, made_by = self._load_stage(file)
            except RunError as error:
                warnings.warn(f"{error}; it is now recomputed", stacklevel=2)
            else:
                if self._use(f"the stage {self.path / file}", [made_by], now):
                    return arrays
        self.save_arrays(file, {**compute(), _CODE: np.array(json.dumps(now))})
        return self._load_stage(file)[0]

    def _load_stage(self, file):
        """Returns the arrays of a stage's file, and the code that made them."""
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
        """Whether to use parts that other code made; drops the results if not."""
        use = self._other_code.use(what, made_by, now)
        if not use:  # a kill must not leave the old results beside new ones
            hosts.first(self._drop_results)
        return use

    def _drop_results(self):
        """Delete results.json and arrays.npz, which are out of date."""
        for name in ("results.json", "arrays.npz"):
            (self.path / name).unlink(missing_ok=True)

    def begin(self) -> dict[str, Any]:
        """Add this invocation to environment.json; `end` completes the entry."""
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
        """Returns the recorded invocations; warns and returns [] if damaged."""
        try:
            return [*self.read_json(file)["invocations"]]
        except (RunError, LookupError, TypeError) as error:
            words = f"{self.path / file} is damaged ({error}); it is started anew"
            warnings.warn(words, stacklevel=3)
            return []

    def end(self, entry: dict[str, Any], seconds: float, **more: Any) -> None:
        """Record that the invocation finished, and its duration.

        Args:
          entry: the entry that `begin` returned.
          seconds: duration of the invocation.
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


def _newest_step(directory) -> int:
    """Returns the newest step that a training has written, -1 if none."""
    folder = epath.Path(directory)
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max((int(x) for x in names if x.isascii() and x.isdigit()), default=-1)
