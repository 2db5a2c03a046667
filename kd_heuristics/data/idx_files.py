"""Prepares Fashion-MNIST: checks its four files and stores them in one step."""

import contextlib
import http.client
import secrets
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from etils import epath

from kd_heuristics.data import fashion_mnist, idx, tfds
from kd_heuristics.data.fashion_mnist import NAME, PACKAGE, File
from kd_heuristics.data.splits import BadDataError
from kd_heuristics.data.tfds import PrepareError
from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import first_line

# Where the authors publish the files, and the copy that Keras reads.
URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
_SECONDS = 60  # without an answer of the server
_INCOMPLETE = "incomplete.idx"  # start of the names of folders in the making
_DEAD = 3600  # seconds; writing takes a few, so that an older folder has no writer
_ELSEWHERE = (
    f"get the four files elsewhere and give their folder by --from FOLDER, or install "
    f"Debian's package: apt-get install {PACKAGE}"
)


def prepare(
    data_dir: files.AnyPath | None,
    log: Callable[[str], None],
    source: files.AnyPath | None,
) -> epath.Path:
    """Stores the four files, unless `data.load` finds them already.

    All files are checked before the first is written. They are written into a folder
    of this process's own, which is renamed at the end, so that several processes may
    prepare at once. Folders that a killed process left are removed once they are an
    hour old.

    Args and errors: as in `kd_heuristics.data.prepare.prepare`.

    Returns: the folder of the files.
    """
    root = tfds.data_dir() if data_dir is None else epath.Path(data_dir).expanduser()
    target, where = fashion_mnist.home(root), tfds.how_to_find(root)
    debian = fashion_mnist.DEBIAN
    given = None if source is None else files.path(source)
    if given is not None and not given.is_dir():
        names = ", ".join(file.name for file in _files())
        raise BadDataError(f"there is no folder {given}; name the folder of {names}")
    for place in (target, *([debian] if source is None and data_dir is None else [])):
        if place.exists():
            _checked(place, PrepareError, fashion_mnist.remedy(place))
            log(f"{NAME} is prepared already, in {place}{where}")
            return place
    if given is not None:
        found = _checked(given, BadDataError, "give its folder the file as published")
    elif debian.exists():
        found = _checked(debian, PrepareError, fashion_mnist.remedy(debian))
    else:
        log(f"preparing {NAME} in {target}: 30 MB to download")
        found = {file.name: _downloaded(file) for file in _files()}
    with files.writing(target):
        _write(target, found)
    log(f"{NAME} lies in {target}{where}")
    return target


def _files() -> list[File]:
    return [file for pair in fashion_mnist.FILES.values() for file in pair]


def _checked(place: Any, kind: type[Exception], remedy: str) -> dict[str, bytes]:
    """Returns the bytes of a folder's files, or raises an error of that kind."""
    found = {}
    for file in _files():
        try:
            found[file.name], _ = fashion_mnist.read(place, file)
        except (OSError, idx.IdxError) as error:
            raise kind(f"{error}; {remedy}") from error
    return found


def _downloaded(file: File) -> bytes:
    """Returns the bytes of a file from the first server that has the published one."""
    problems = []
    for url in URLS:
        try:
            with urllib.request.urlopen(
                f"{url}{file.name}", timeout=_SECONDS
            ) as answer:
                content = answer.read()
            fashion_mnist.check(content, file, f"{url}{file.name}")
        except idx.IdxError as error:
            problems.append(str(error))
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{url}{file.name}: {first_line(error)}")
        else:
            return content
    raise PrepareError(
        f"{NAME} could not be downloaded ({'; '.join(problems)}); check the network, "
        f"or {_ELSEWHERE}"
    )


def _write(target: epath.Path, found: dict[str, bytes]) -> None:
    """Writes the files into a new folder, whole or not at all."""
    _remove_dead(target.parent)
    partial = target.parent / f"{_INCOMPLETE}-{secrets.token_hex(8)}"
    partial.mkdir(parents=True)
    try:
        for name, content in found.items():
            (partial / name).write_bytes(content)
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():
                raise
            # Another process was first.
            _checked(target, PrepareError, fashion_mnist.remedy(target))
            partial.rmtree()
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to show
            partial.rmtree()
        raise


def _remove_dead(parent: epath.Path) -> None:
    """Removes the folders that killed processes left."""
    for path in parent.iterdir() if parent.exists() else ():
        # Another process may remove or rename one at the same time.
        with contextlib.suppress(OSError):
            changed = path.stat().mtime  # object stores know none of a folder: 0
            dead = changed and time.time() - changed > _DEAD
            if path.name.startswith(_INCOMPLETE) and dead:
                path.rmtree()
