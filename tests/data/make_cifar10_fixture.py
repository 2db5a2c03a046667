"""Makes `fixtures/cifar10`: made-up images in the layout of tfds' own CIFAR-10.

Run by hand, without TensorFlow: python tests/data/make_cifar10_fixture.py. Not one
pixel of CIFAR-10 is in it: class k has a colour of its own under coarse random blocks,
so that a network can learn the classes.
"""

import io
import shutil
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
COUNTS = {"train": 260, "test": 70}
NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def make(data_dir: Path) -> None:
    """Writes data_dir/cifar10/3.0.2."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", data_dir=data_dir, file_format="array_record")
    directory = Path(builder.data_dir)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    builder.info.features["label"].names = list(NAMES)
    infos = [write_split(directory, *item) for item in COUNTS.items()]
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(directory)


def write_split(directory: Path, split: str, count: int):
    """Writes one shard and returns what tfds keeps about it."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    template = tfds.core.ShardedFileTemplate(
        data_dir=directory,
        dataset_name="cifar10",
        split=split,
        filetype_suffix="array_record",
    )
    path = template.sharded_filepath(shard_index=0, num_shards=1)
    records = [record(split, index) for index in range(count)]
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for each in records:
        writer.write(each)
    writer.close()
    return tfds.core.splits.SplitInfo(
        name=split,
        shard_lengths=[count],
        num_bytes=sum(map(len, records)),
        filename_template=template,
    )


def record(split: str, index: int) -> bytes:
    """One serialised tf.train.Example with the features of CIFAR-10."""
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    pixels, label = example(split, index)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    proto = tf_example_pb2.Example()
    feature = proto.features.feature
    feature["id"].bytes_list.value.append(f"{split}_{index:05d}".encode())
    feature["image"].bytes_list.value.append(png.getvalue())
    feature["label"].int64_list.value.append(label)
    return proto.SerializeToString(deterministic=True)


def example(split: str, index: int):
    """Pixels uint8 [32, 32, 3] and label of an example; the tests' oracle."""
    import numpy as np

    random = np.random.RandomState(1000 * index + len(split))
    label = index % 10
    # Ten corners of a 3 x 2 x 2 colour cube, and coarse blocks over them.
    colour = 60 + np.array([label % 3 * 65, label // 3 % 2 * 130, label // 6 * 130])
    blocks = random.randint(-50, 51, (2, 2, 3)).repeat(16, 0).repeat(16, 1)
    return np.clip(colour + blocks, 0, 255).astype(np.uint8), label


if __name__ == "__main__":
    make(FIXTURES)
