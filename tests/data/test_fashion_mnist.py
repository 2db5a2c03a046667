"""Fashion-MNIST from IDX files: tiny ones made here, and the real ones of Debian."""

import errno
import functools
import gzip
import hashlib
import http.server
import os
import re
import socket
import struct
import threading
import time

import numpy as np
import pytest
from etils import epath

from kd_heuristics import data
from kd_heuristics.cli import info
from kd_heuristics.data import fashion_mnist, idx, idx_files
from kd_heuristics.data.prepare import PrepareError, prepare
from kd_heuristics.runtime.files import WriteError

RANDOM = np.random.RandomState(0)
COUNTS = {"train": 40, "test": 10}
VALUES = {
    split: (
        RANDOM.randint(0, 256, (count, 28, 28), np.uint8),
        RANDOM.randint(0, 10, count).astype(np.uint8),
    )
    for split, count in COUNTS.items()
}
NAMES = {
    split: [file.name for file in pair] for split, pair in fashion_mnist.FILES.items()
}
TRAIN_IMAGES, TRAIN_LABELS = NAMES["train"]
TEST_IMAGES, TEST_LABELS = NAMES["test"]


def encoded(values):
    """An IDX file, as its description has it."""
    head = struct.pack(">BBBB", 0, 0, 8, values.ndim)
    return head + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


CONTENTS = {
    name: encoded(values)
    for split in VALUES
    for name, values in zip(NAMES[split], VALUES[split], strict=True)
}


def write(folder, contents=CONTENTS, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if packed:
            (folder / name).write_bytes(gzip.compress(content))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """The tiny files are the published ones, on a machine without any."""
    files = {
        split: tuple(
            fashion_mnist.File(
                name, CONTENTS_SHAPE[name], hashlib.sha256(CONTENTS[name]).hexdigest()
            )
            for name in NAMES[split]
        )
        for split in NAMES
    }
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", epath.Path(tmp_path / "debian"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    # A test that downloads must name its own servers.
    monkeypatch.setattr(idx_files, "URLS", ())


CONTENTS_SHAPE = {
    name: values.shape
    for split in VALUES
    for name, values in zip(NAMES[split], VALUES[split], strict=True)
}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serves a folder in place of the two servers."""
    folder = write(tmp_path / "served")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        root = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(idx_files, "URLS", (f"{root}gone/", root))
        yield folder
        server.shutdown()


def left_over(tmp_path):
    """What lies in the data directory."""
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("data/**/*"))


def quiet(_):
    pass


@pytest.mark.parametrize("packed", [True, False])
def test_what_was_prepared_from_a_folder_is_loaded(tmp_path, packed):
    lines = []
    folder = write(tmp_path / "mine", packed=packed)
    path = prepare("fashion_mnist", log=lines.append, source=folder)
    assert path == tmp_path / "data" / "fashion_mnist" / "idx"
    assert lines == [f"fashion_mnist lies in {path}"]
    for split, (images, labels) in VALUES.items():
        found = data.load("fashion_mnist", split)
        np.testing.assert_array_equal(found.images, images[..., None])
        np.testing.assert_array_equal(found.labels, labels)
        assert (found.num_classes, found.labels.dtype) == (10, np.int32)
    assert prepare("fashion_mnist", log=lines.append) == path
    assert lines[1] == f"fashion_mnist is prepared already, in {path}"


def test_the_holdout_is_the_last_tenth_of_train(tmp_path):
    write(fashion_mnist.DEBIAN)
    parts = {
        split: data.load("fashion_mnist_holdout", split)
        for split in ("train", "validation", "test")
    }
    assert [len(part) for part in parts.values()] == [36, 4, 10]
    images, labels = VALUES["train"]
    joined = [parts["train"], parts["validation"]]
    np.testing.assert_array_equal(
        np.concatenate([part.images[..., 0] for part in joined]), images
    )
    np.testing.assert_array_equal(
        np.concatenate([part.labels for part in joined]), labels
    )
    np.testing.assert_array_equal(parts["test"].labels, VALUES["test"][1])


@pytest.mark.parametrize("size", [29, 31, 32])
def test_zeros_frame_the_images_on_request(size):
    write(fashion_mnist.DEBIAN)
    found = data.load("fashion_mnist", "test", size).images[..., 0]
    assert found.shape == (10, size, size)
    first = (size - 28) // 2
    inner = slice(first, first + 28)
    np.testing.assert_array_equal(found[:, inner, inner], VALUES["test"][0])
    assert found.sum(dtype=int) == VALUES["test"][0].sum(dtype=int)
    assert data.describe("fashion_mnist", size).shape == (size, size, 1)


def test_debians_package_is_found(tmp_path, capsys):
    write(fashion_mnist.DEBIAN)
    lines = []
    assert prepare("fashion_mnist", log=lines.append) == fashion_mnist.DEBIAN
    assert lines == [f"fashion_mnist is prepared already, in {fashion_mnist.DEBIAN}"]
    assert left_over(tmp_path) == []
    info.info()
    shown = f"set       fashion_mnist: prepared, {fashion_mnist.DEBIAN}\n"
    assert shown in capsys.readouterr().out
    # Into a folder of the user's choice it is copied.
    path = prepare("fashion_mnist", tmp_path / "other", lines.append)
    assert lines[1:] == [
        f"fashion_mnist lies in {path}; set TFDS_DATA_DIR={tmp_path / 'other'} for it "
        "to be found there"
    ]
    assert sorted(p.name for p in path.iterdir()) == sorted(CONTENTS)


def test_download_from_the_first_server_that_has_the_files(tmp_path, served):
    lines = []
    path = prepare("fashion_mnist", log=lines.append)
    assert [str(p.name) for p in sorted(path.iterdir())] == sorted(CONTENTS)
    assert lines[0] == f"preparing fashion_mnist in {path}: 30 MB to download"
    np.testing.assert_array_equal(
        data.load("fashion_mnist", "test").labels, VALUES["test"][1]
    )


def swapped(first, second):
    return {first: CONTENTS[second], second: CONTENTS[first]}


def header(name, place, value):
    """A file with another four bytes of its header."""
    start = 4 * place
    content = CONTENTS[name]
    return {name: content[:start] + struct.pack(">I", value) + content[start + 4 :]}


PAGE = b"\n<!DOCTYPE html><html><body>Sign in to the network</body></html>"
BAD = {
    "magic": (header(TRAIN_IMAGES, 0, 0x0D03), "no IDX file of images.* 00 00 0d 03"),
    "nothing": ({TRAIN_LABELS: b""}, "no IDX file of labels: it begins .*of nothing"),
    "count": (header(TRAIN_LABELS, 1, 41), "holds 41 labels, not 40"),
    "size": (header(TEST_IMAGES, 2, 27), "holds images of 27 x 28 pixels, not 28 x 28"),
    "header": ({TEST_IMAGES: CONTENTS[TEST_IMAGES][:9]}, "cut short within its header"),
    "short": ({TEST_LABELS: CONTENTS[TEST_LABELS][:-3]}, "cut short: 7 bytes .* 10$"),
    "long": ({TEST_LABELS: CONTENTS[TEST_LABELS] + b"1"}, "too long: 11 bytes"),
    "labels": (swapped(TRAIN_IMAGES, TRAIN_LABELS), "holds labels in place of images"),
    "images": (
        {TEST_LABELS: CONTENTS[TEST_IMAGES]},
        "holds images in place of labels: images and labels are exchanged",
    ),
    "parts": (swapped(TRAIN_IMAGES, TEST_IMAGES), "holds 10 images, not 40"),
    "bit": (
        {TRAIN_LABELS: CONTENTS[TRAIN_LABELS][:-1] + b"\x00"},
        "differs from the published file",
    ),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_name(tmp_path, kind, packed):
    changed, words = BAD[kind]
    name = next(iter(changed))
    folder = write(tmp_path / "mine", CONTENTS | changed, packed)
    file = folder / (name if packed else name.removesuffix(".gz"))
    # The name of the set's file, without ".gz" where the user's has none.
    where = re.escape(str(file))
    message = f"^{where} .*{words.removesuffix('$')}.*; give its folder the file"
    with pytest.raises(data.BadDataError, match=message) as error:
        prepare("fashion_mnist", log=quiet, source=folder)
    assert "\n" not in str(error.value)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda packed: packed[: len(packed) // 2], "is cut short: its gzip stream"),
        (lambda packed: packed[:-8] + bytes(8), "is damaged .*CRC"),
        (lambda packed: packed[:10] + b"\xff" * 40, "is damaged"),
        (lambda packed: PAGE, "is a web page"),
    ],
    ids=["cut", "checksum", "stream", "page"],
)
def test_a_damaged_gzip_is_refused_by_name(tmp_path, change, words):
    folder = write(tmp_path / "mine")
    path = folder / TEST_LABELS
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(data.BadDataError, match=f"^{re.escape(str(path))} {words}"):
        prepare("fashion_mnist", log=quiet, source=folder)
    assert left_over(tmp_path) == []


def test_a_missing_file_or_folder_is_named(tmp_path):
    folder = write(tmp_path / "mine")
    (folder / TEST_LABELS).unlink()
    with pytest.raises(data.BadDataError, match=rf"no {folder}/{TEST_LABELS}; give"):
        prepare("fashion_mnist", log=quiet, source=folder)
    with pytest.raises(
        data.BadDataError, match=f"no folder .*elsewhere.*{TEST_IMAGES}"
    ):
        prepare("fashion_mnist", log=quiet, source=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"fashion_mnist alone .* for cifar10"):
        prepare("cifar10", log=quiet, source=folder)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PAGE, "is a web page and not an IDX file"),
        (gzip.compress(CONTENTS[TEST_LABELS])[:-9], "is cut short"),
        (None, "HTTPError: HTTP Error 404"),
    ],
    ids=["page", "cut", "gone"],
)
def test_a_bad_download_leaves_nothing(tmp_path, served, content, words):
    (served / TEST_LABELS).unlink()
    if content is not None:
        (served / TEST_LABELS).write_bytes(content)
    with pytest.raises(
        PrepareError, match=f"{TEST_LABELS}:? {words}.*; check"
    ) as error:
        prepare("fashion_mnist", log=quiet)
    assert "\n" not in str(error.value)
    assert left_over(tmp_path) == []


def test_without_network(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(idx_files, "URLS", (f"http://127.0.0.1:{port}/",))
    words = "refused.*check the network, or .*--from FOLDER.*apt-get install dataset-"
    with pytest.raises(PrepareError, match=words):
        prepare("fashion_mnist", log=quiet)
    assert left_over(tmp_path) == []


def test_a_killed_process_leaves_nothing_that_is_read(tmp_path):
    half = tmp_path / "data" / "fashion_mnist" / "incomplete.idx-0123"
    for place in (
        half,
        half.with_name("incomplete.idx"),
    ):  # as earlier versions named it
        write(place, {TRAIN_IMAGES: b"half"})
        os.utime(place, (time.time() - 4000,) * 2)
    with pytest.raises(data.MissingDatasetError, match="kd-heuristics prepare fashion"):
        data.load("fashion_mnist", "train")
    path = prepare("fashion_mnist", log=quiet, source=write(tmp_path / "mine"))
    assert [p.name for p in half.parent.iterdir()] == ["idx"]
    assert len(list(path.iterdir())) == 4


def test_a_folder_of_unknown_age_stays(tmp_path):
    """Object stores give folders the time 0, also those that a process is filling."""
    other = tmp_path / "data" / "fashion_mnist" / "incomplete.idx-0123"
    write(other, {TRAIN_IMAGES: b"half"})
    os.utime(other, (0, 0))
    prepare("fashion_mnist", log=quiet, source=write(tmp_path / "mine"))
    assert [path.name for path in other.iterdir()] == [TRAIN_IMAGES]


@pytest.mark.parametrize("moment", ["before the rename", "while the first writes"])
def test_two_processes_prepare_at_once(tmp_path, monkeypatch, moment):
    """The second one starts and ends while the first one writes its files."""
    folder, count = write(tmp_path / "mine"), []
    kind = type(fashion_mnist.home())
    write_bytes = kind.write_bytes

    def meanwhile(path, content):
        count.append(path)
        if len(count) == (4 if moment == "before the rename" else 2):
            prepare("fashion_mnist", log=quiet, source=folder)
        return write_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "write_bytes", meanwhile)
        path = prepare("fashion_mnist", log=quiet, source=folder)
    assert len(count) == 8
    assert [p.name for p in path.parent.iterdir()] == ["idx"]
    for split, (images, labels) in VALUES.items():
        found = data.load("fashion_mnist", split)
        np.testing.assert_array_equal(found.images, images[..., None])
        np.testing.assert_array_equal(found.labels, labels)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    folder, written = write(tmp_path / "mine"), []

    def full(path, content):
        written.append(path.name)
        path.touch()
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(fashion_mnist.home()), "write_bytes", full)
        with pytest.raises(WriteError, match=r"No space left .*; make room"):
            prepare("fashion_mnist", log=quiet, source=folder)
    assert len(written) == 3
    assert left_over(tmp_path) == ["data/fashion_mnist"]
    prepare("fashion_mnist", log=quiet, source=folder)


@pytest.mark.parametrize(
    ("place", "remedy"),
    [("prepared", "delete .*prepare it again"), ("debian", "apt-get .*--reinstall")],
)
def test_files_that_were_damaged_later(tmp_path, place, remedy):
    folder = fashion_mnist.home() if place == "prepared" else fashion_mnist.DEBIAN
    write(folder, CONTENTS | BAD["bit"][0])
    message = rf"(?s){TRAIN_LABELS} differs from the published.*{remedy}"
    with pytest.raises(data.MissingDatasetError, match=message):
        data.load("fashion_mnist", "train")
    with pytest.raises(PrepareError, match=message):
        prepare("fashion_mnist", log=quiet)
    assert len(data.load("fashion_mnist", "test")) == 10


def test_nothing_is_prepared(monkeypatch):
    words = r"(?s)not prepared: .*Debian's package dataset-fashion-mnist:\n  kd-heur"
    with pytest.raises(data.MissingDatasetError, match=words):
        data.load("fashion_mnist_holdout", "validation")


def test_values_of_an_idx_file():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(idx.parse(encoded(values), (2, 3, 4), "x"), values)


REAL = fashion_mnist.DEBIAN, fashion_mnist.FILES


@pytest.mark.skipif(
    not REAL[0].exists(), reason="needs Debian's package dataset-fashion-mnist"
)
def test_the_real_files(monkeypatch):
    """Numbers that the authors publish: 6,000 and 1,000 of each class."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", REAL[0])
    monkeypatch.setattr(fashion_mnist, "FILES", REAL[1])
    train = data.load("fashion_mnist", "train")
    assert train.images.shape == (60_000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [6_000] * 10
    # Mean and deviation of the pixels, as many programs have them.
    scaled = train.images / 255
    assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (0.2860, 0.3530)
    assert train.labels[:6].tolist() == [9, 0, 0, 3, 0, 2]
    test = data.load("fashion_mnist", "test", 32)
    assert test.images.shape == (10_000, 32, 32, 1)
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert len(data.load("fashion_mnist_holdout", "validation")) == 6_000
