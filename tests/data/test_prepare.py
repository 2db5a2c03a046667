"""Preparing for real: tfds writes what a server on this machine serves."""

import functools
import http.server
import io
import shutil
import sys
import tarfile
import threading

import numpy as np
import pytest
import tensorflow_datasets

from kd_heuristics import data
from kd_heuristics.data.prepare import PrepareError, prepare
from tests.data import prepared_fixture
from tests.data.make_cifar10_fixture import FIXTURES

# tfds' own: it leaves files and loops open, and calls what newer packages deprecate.
pytestmark = pytest.mark.filterwarnings("default")

RANDOM = np.random.RandomState(0)
RECORDS = {  # of each file: labels, then 3072 bytes, as on the authors' page
    **{
        f"cifar-10-batches-bin/{name}": RANDOM.randint(0, 256, (4, 3073), np.uint8)
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    },
    **{
        f"cifar-100-binary/{name}": RANDOM.randint(0, 256, (7, 3074), np.uint8)
        for name in ("train.bin", "test.bin")
    },
}
for name, records in RECORDS.items():
    records[:, 0] %= 10 if "10-batches" in name else 20
    records[:, 1] %= 100 if "100" in name else 255
TEXTS = {
    "cifar-10-batches-bin/batches.meta.txt": 10,
    "cifar-100-binary/coarse_label_names.txt": 20,
    "cifar-100-binary/fine_label_names.txt": 100,
}


def write_archive(path, prefix):
    contents = {name: records.tobytes() for name, records in RECORDS.items()} | {
        name: "".join(f"name{i}\n" for i in range(count)).encode()
        for name, count in TEXTS.items()
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            if name.startswith(prefix):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves made-up archives where tfds looks for the real ones."""
    folder = tmp_path / "served"
    folder.mkdir()
    write_archive(folder / "cifar-10-binary.tar.gz", "cifar-10-")
    write_archive(folder / "cifar-100-binary.tar.gz", "cifar-100-")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("cifar10", "cifar100"):
            builder = tensorflow_datasets.builder_cls(name)
            info = builder._cifar_info.fget

            def here(self, info=info):
                url = info(self).url.rpartition("/")[2]
                url = f"http://127.0.0.1:{server.server_port}/{url}"
                return info(self)._replace(url=url)

            monkeypatch.setattr(builder, "_cifar_info", property(here))
        yield server
        server.shutdown()


def as_multiset(images, labels):
    pixels = (image.tobytes() for image in images)
    return sorted(zip(pixels, labels.tolist(), strict=True))


def expected(prefix, names, label):
    records = np.concatenate([RECORDS[f"{prefix}/{name}"] for name in names])
    pixels = records[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return as_multiset(pixels, records[:, label])


@pytest.mark.parametrize(
    ("name", "prefix", "files", "label"),
    [
        (
            "cifar10",
            "cifar-10-batches-bin",
            {
                "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
                "test": ["test_batch.bin"],
            },
            0,
        ),
        # The fine label is the second byte.
        (
            "cifar100",
            "cifar-100-binary",
            {"train": ["train.bin"], "test": ["test.bin"]},
            1,
        ),
    ],
)
def test_what_was_prepared_is_loaded(
    name, prefix, files, label, server, tmp_path, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    lines = []
    path = prepare(name, log=lines.append)
    for split, names in files.items():
        found = data.load(name, split)
        assert as_multiset(found.images, found.labels) == expected(prefix, names, label)
    assert path == tmp_path / "data" / name / "3.0.2"
    assert "MB to download" in lines[0]
    assert lines[1] == f"{name} lies in {path}"


def test_again_after_an_interruption(server, tmp_path):
    folder = tmp_path / "data" / "cifar10"
    (folder / "incomplete.ABCDEF_3.0.2").mkdir(parents=True)
    (folder / "incomplete.ABCDEF_3.0.2" / "half").write_text("")
    (folder / "3.0.2").mkdir()
    (folder / "3.0.2" / "cifar10-train.array_record-00000-of-00001").write_text("")
    path = prepare("cifar10", tmp_path / "data")
    assert [each.name for each in folder.iterdir()] == ["3.0.2"]
    assert (path / "dataset_info.json").exists()
    lines, asked = [], len(server.asked)
    assert prepare("cifar10", tmp_path / "data", lines.append) == path
    assert len(server.asked) == asked
    assert lines == [
        f"cifar10 is prepared already, in {path}; "
        f"set TFDS_DATA_DIR={tmp_path / 'data'} for it to be found there"
    ]


def test_a_set_in_another_format_stays(tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "cifar10" / "3.0.2"
    for path in folder.glob("*array_record*"):
        path.rename(folder / path.name.replace("array_record", "tfrecord"))
    files = sorted(folder.iterdir())
    with pytest.raises(PrepareError, match=r"another format .* --data-dir"):
        prepare("cifar10", tmp_path)
    assert sorted(folder.iterdir()) == files


def test_a_damaged_description(tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cifar10" / "3.0.2" / "dataset_info.json").write_text("{")
    with pytest.raises(PrepareError, match=r"cifar10 is damaged .* delete it"):
        prepare("cifar10", tmp_path)


def test_a_failed_download(server, tmp_path):
    (tmp_path / "served" / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(PrepareError, match=r"could not be prepared .*404.* again"):
        prepare("cifar10", tmp_path / "data")
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


with tensorflow_datasets.core.registered.skip_registration():

    class Tiny(tensorflow_datasets.core.GeneratorBasedBuilder):
        """A user's own set, from nowhere."""

        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            features = tensorflow_datasets.features
            return tensorflow_datasets.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {"x": features.Tensor(shape=(2,), dtype=np.int32)}
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for key in range(5):
                yield key, {"x": np.array([key, key**2], np.int32)}

    class TinyImages(Tiny):
        """Its images must be encoded, for which tfds takes TensorFlow."""

        def _info(self):
            features = tensorflow_datasets.features
            return tensorflow_datasets.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict({"x": features.Image(shape=(8, 8, 3))}),
            )

        def _generate_examples(self):
            yield 0, {"x": np.zeros((8, 8, 3), np.uint8)}


def test_a_builder_of_ones_own(tmp_path):
    lines = []
    path = prepare(Tiny(data_dir=tmp_path), log=lines.append)
    assert path == tmp_path / "tiny" / "1.0.0"
    builder = tensorflow_datasets.builder_from_directory(path)
    found = sorted(example["x"].tolist() for example in builder.as_data_source("train"))
    assert found == [[key, key**2] for key in range(5)]
    assert [str(path) in line for line in lines] == [True, True]
    with pytest.raises(ValueError, match="data_dir"):
        prepare(Tiny(data_dir=tmp_path), tmp_path)


def test_a_missing_package_is_named_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(PrepareError, match=r"package tensorflow.*\[prepare\]"):
        prepare(TinyImages(data_dir=tmp_path))


@pytest.mark.parametrize("name", ["oxford_flowers102", "imagenet2012"])
def test_packages_are_asked_for_before_the_download(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    lines = []
    with pytest.raises(PrepareError, match=rf"{name} needs .*tensorflow.*\[prepare\]"):
        prepare(name, tmp_path, lines.append)
    assert lines == []


@pytest.mark.parametrize("name", ["sun397", "caltech_birds2011"])
def test_a_set_that_is_prepared_needs_no_packages(name, tmp_path, monkeypatch):
    folder = prepared_fixture.write(tmp_path, name, {"train": 2, "test": 2})
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    lines = []
    assert str(prepare(name, tmp_path, lines.append)) == folder
    assert lines == [
        f"{name} is prepared already, in {folder}; "
        f"set TFDS_DATA_DIR={tmp_path} for it to be found there"
    ]
