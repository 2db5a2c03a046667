import contextlib
import itertools
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from kd_heuristics import data
from kd_heuristics.data import records, rectangles
from kd_heuristics.runtime import parallel
from tests.data import prepared_fixture as fixture

NAME, COUNT = "caltech_birds2011", 23
VIEW = data.views.create("same/ic", teacher_size=8, student_size=6)


def lossless(number):
    return fixture.encode(fixture.picture(number), form="PNG")


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    fixture.write(folder, NAME, {"train": COUNT, "test": 2}, lossless)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder


def make(batch_size=6, seed=0, view=VIEW, **options):
    return data.stream(NAME, "train", batch_size, seed, view=view, **options)


def indices(stream, steps):
    return np.concatenate([stream(step)["index"] for step in steps])


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(expected))


def test_what_a_batch_holds():
    batch = make()(0)
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        "student": ((6, 6, 6, 3), "uint8"),
        "student_box": ((6, 4), "float32"),
        "teacher": ((6, 8, 8, 3), "uint8"),
        "teacher_box": ((6, 4), "float32"),
        "labels": ((6,), "int32"),
        "index": ((6,), "int32"),
        "substituted": ((6,), "bool"),
    }
    assert (make().num_classes, make().num_examples) == (200, COUNT)


def test_each_example_once_an_epoch():
    stream = make(batch_size=COUNT)
    epochs = [indices(stream, [step]) for step in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    for first, second in itertools.combinations(epochs, 2):
        assert (first == second).mean() < 0.5


def test_an_incomplete_batch_is_left_out():
    stream = make(batch_size=6)
    assert stream.steps_per_epoch == 3
    for epoch in range(3):
        found = indices(stream, range(3 * epoch, 3 * epoch + 3))
        assert len(set(found.tolist())) == 18


@pytest.mark.parametrize("batch_size", [6, 22, COUNT])
def test_carried_batches_see_each_example_once_an_epoch(batch_size):
    stream = make(batch_size=batch_size, remainder="carry")
    whole = make(batch_size=COUNT)
    flat = indices(stream, range(-(-3 * COUNT // batch_size)))
    for epoch in range(3):
        found = flat[epoch * COUNT : (epoch + 1) * COUNT]
        assert sorted(found) == list(range(COUNT))
        # The order of the epoch is the one that batches of all examples have.
        np.testing.assert_array_equal(found, whole(epoch)["index"])


def test_carried_batches_resume_and_are_split_over_processes():
    whole = make(remainder="carry")
    again = list(make(remainder="carry").batches(2, 6))
    for step, found in again:
        assert_equal(found, whole(step))
        parts = [
            make(remainder="carry", process_index=index, process_count=2)(step)
            for index in range(2)
        ]
        joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        assert_equal(joined, whole(step))


def test_neighbouring_seeds_share_no_epoch():
    orders = [
        tuple(indices(make(batch_size=COUNT, seed=seed), [epoch]).tolist())
        for seed in (0, 1, 2)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 9


@pytest.mark.parametrize("processes", [2, 3])
def test_another_number_of_processes_has_the_same_batches(processes):
    whole = make()
    parts = [
        make(process_index=index, process_count=processes) for index in range(processes)
    ]
    for step in (0, 2, 3, 7):
        found = [part(step) for part in parts]
        joined = {name: np.concatenate([p[name] for p in found]) for name in found[0]}
        assert_equal(joined, whole(step))


def test_a_resumed_stream_goes_on_where_it_was():
    with contextlib.closing(make().batches()) as first:
        steps = [next(first) for _ in range(6)]
    assert [step for step, _ in steps] == list(range(6))
    again = list(make().batches(4, 6))
    assert [step for step, _ in again] == [4, 5]
    for (_, found), (step, expected) in zip(again, steps[4:], strict=True):
        assert all(isinstance(value, jax.Array) for value in found.values())
        assert_equal(found, expected)
        assert_equal(expected, make()(step))


def test_workers_read_the_same():
    found = list(make(workers=2).batches(1, 6))
    assert [step for step, _ in found] == list(range(1, 6))
    for step, batch in found:
        assert_equal(batch, make()(step))


KILLED = """
import multiprocessing, time
from kd_heuristics import data

if __name__ == "__main__":
    view = data.views.create("same/ic", teacher_size=8, student_size=6)
    stream = data.stream("caltech_birds2011", "train", 6, view=view, workers=1)
    batches = stream.batches()
    next(batches)
    print(len(multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "read.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    process.kill()
    process.communicate(timeout=60)  # its end of the pipe is the worker's as well


def test_pixels_and_labels_are_those_of_the_examples():
    examples = records.Records(NAME, "train")
    batch = make()(4)
    for row in range(6):
        pixels, label = examples[int(batch["index"][row])]
        assert label == batch["labels"][row]
        for who, size in (("student", 6), ("teacher", 8)):
            box = batch[f"{who}_box"][row].astype(np.float64)
            cut = rectangles.cut_on_host(pixels, box, size)
            # The box was rounded to float32 since.
            np.testing.assert_allclose(batch[who][row], cut, atol=1)
    np.testing.assert_array_equal(batch["student_box"], batch["teacher_box"])
    assert not batch["substituted"].any()


def test_crops_are_drawn_anew_each_epoch():
    stream = make(batch_size=COUNT)
    first, second = (
        stream(step)["student_box"][np.argsort(stream(step)["index"])]
        for step in (0, 1)
    )
    assert (first != second).any(1).all()
    other = make(batch_size=COUNT, seed=1)(0)
    order = np.argsort(other["index"])
    assert (other["student_box"][order] != first).any(1).all()


@pytest.mark.parametrize("name", ["ind/rc", "ind/ic", "ind/ic+mixup"])
def test_independent_viewers_have_rectangles_of_their_own(name):
    view = data.views.create(name, teacher_size=6)
    batch = make(view=view)(0)
    assert (batch["student_box"] != batch["teacher_box"]).any(1).all()


def test_a_fixed_target_is_the_same_in_every_epoch():
    stream = make(COUNT, view=data.views.create("fix/cc", teacher_size=6))
    first, second = stream(0), stream(1)
    one, two = np.argsort(first["index"]), np.argsort(second["index"])
    np.testing.assert_array_equal(first["teacher"][one], second["teacher"][two])
    assert (first["student_box"][one] != second["student_box"][two]).any()


@pytest.mark.parametrize("name", ["fix/ic_ens", "mix"])
def test_what_nobody_needs_apart_is_not_sent(name):
    batch = make(view=data.views.create(name, teacher_size=6))(0)
    assert not any(key.startswith("teacher") for key in batch)


@pytest.mark.parametrize("name", ["mix", "ind/ic"])
def test_the_device_flips_and_mixes(name):
    view = data.views.create(name, teacher_size=6)
    batch = make(view=view)(0)
    seen = jax.jit(view.finish)(batch, jax.random.key(3))
    a = float(seen["mixup"])
    for who in ("student", "teacher"):
        pixels = batch.get(who, batch["student"]).astype(np.float64)
        flipped = np.asarray(seen[f"{who}_flip"])[:, None, None, None]
        pixels = np.where(flipped, pixels[:, :, ::-1], pixels)
        mixed = a * pixels + (1 - a) * np.roll(pixels, 1, 0)
        np.testing.assert_allclose(seen[who], mixed, atol=1e-3)
    assert (a < 1) == (name == "mix")
    np.testing.assert_array_equal(seen["labels"], batch["labels"])
    if name == "mix":
        np.testing.assert_array_equal(seen["teacher"], seen["student"])
        np.testing.assert_array_equal(seen["teacher_box"], seen["student_box"])


def test_batches_are_split_over_a_mesh():
    stream = make(batch_size=8, mesh=parallel.mesh(4))
    ((_, batch),) = stream.batches(1, 2)
    assert len(batch["student"].addressable_shards) == 4
    assert batch["student"].addressable_shards[0].data.shape == (2, 6, 6, 3)
    assert_equal(batch, make(batch_size=8)(1))


def broken(number):
    encoded = lossless(number)
    return encoded[:60] if number in (3, 4) else encoded


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """40 records, two of them bad; its folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    counts = {"train": 40, "test": 4}
    return pathlib.Path(fixture.write(tmp_path, NAME, counts, broken, num_shards=4))


def test_a_bad_record_stops_or_is_skipped(damaged):
    with pytest.raises(
        data.BadRecordError, match=r"record \d+ of .*train\.array_record"
    ):
        make(batch_size=40)(0)
    stream = make(batch_size=40, on_bad="skip", bad_share=0.05)
    batch = stream(0)
    assert batch["substituted"].sum() == 2
    good = set(batch["index"][~batch["substituted"]].tolist())
    assert len(good) == 38
    assert set(batch["index"].tolist()) == good
    assert_equal(make(batch_size=40, on_bad="skip", bad_share=1.0)(0), batch)


def test_stand_ins_are_drawn_from_all_examples_anew_at_each_step(damaged):
    stream = make(batch_size=20, on_bad="skip", bad_share=0.2)
    batches = [batch for _, batch in stream.batches(0, 120)]
    stand_ins = [batch["index"][batch["substituted"]] for batch in batches]
    counts = np.bincount(np.concatenate(stand_ins), minlength=40)
    assert counts.sum() == 2 * 60  # two an epoch
    # Of 38 examples each is drawn 3.2 times on average; the commonest of them is drawn
    # 11 times or more with a probability below 0.02, and the draws are fixed.
    assert (counts > 0).sum() > 25
    assert counts.max() < 11
    # Another seed, other stand-ins; the same step, the same ones, in any process.
    other = make(batch_size=20, seed=1, on_bad="skip", bad_share=0.2)
    others = [batch["index"][batch["substituted"]] for _, batch in other.batches(0, 9)]
    assert np.concatenate(others).tolist() != np.concatenate(stand_ins[:9]).tolist()
    parts = [
        make(
            batch_size=20,
            on_bad="skip",
            bad_share=0.3,
            process_index=index,
            process_count=2,
        )(7)
        for index in range(2)
    ]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    assert_equal(joined, batches[7])


@pytest.mark.parametrize("workers", [0, 1])
def test_more_bad_records_than_are_permitted_stop(workers, damaged):
    stream = make(batch_size=10, on_bad="skip", bad_share=0.04, workers=workers)
    with pytest.raises(
        data.BadRecordError, match=r"2 of the 40 .* bad_share=0\.04 permits"
    ):
        list(stream.batches(0, 4))
    # Each epoch counts for itself: 2 of 40 are 5 % of every one.
    list(make(batch_size=10, on_bad="skip", bad_share=0.05).batches(0, 12))


def test_carried_batches_count_bad_records_by_epoch(damaged):
    """Two of 40 are bad; batches of 15 span the ends of epochs."""
    options = {"batch_size": 15, "on_bad": "skip", "remainder": "carry"}
    with pytest.raises(
        data.BadRecordError, match=r"2 of the 40 .* bad_share=0\.04 permits"
    ):
        list(make(bad_share=0.04, **options).batches(0, 24))
    for _ in make(bad_share=0.05, **options).batches(0, 240):  # 90 epochs
        pass


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_a_missing_file_stops_whatever_is_done_with_bad_records(on_bad, damaged):
    file = sorted(damaged.glob("*train*"))[1]
    stream = make(batch_size=40, on_bad=on_bad, bad_share=1.0)
    kept = file.read_bytes()
    file.unlink()
    # Before anything is read, and where it goes while the stream is read.
    for read in (
        lambda: make(batch_size=40, on_bad=on_bad, bad_share=1.0),
        lambda: stream(0),
    ):
        with pytest.raises(data.MissingDatasetError, match=file.name):
            read()
    file.write_bytes(kept[:40])
    with pytest.raises(data.MissingDatasetError, match=file.name):
        make(batch_size=40, on_bad=on_bad, bad_share=1.0)(0)


def test_a_set_without_a_good_record_ends(tmp_path, monkeypatch):
    fixture.write(tmp_path, NAME, {"train": 4, "test": 2}, lambda _: b"no image")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.BadRecordError, match=r"100 drawn .* from the 4 records"):
        make(batch_size=2, on_bad="skip")(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, "batch of 24 .* set of 23"),
        ({"seed": -1}, "seed .* got -1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"remainder": "keep"}, "remainder 'keep'"),
        ({"on_bad": "ignore"}, "answer to a bad record 'ignore'"),
        ({"on_bad": "skip", "bad_share": 1.5}, r"bad_share must lie in \[0, 1\]"),
        ({"on_bad": "skip", "bad_share": float("nan")}, "bad_share must lie .* nan"),
        ({"process_index": 0, "process_count": 4}, "6 cannot be split over 4"),
        ({"process_index": 2, "process_count": 2}, "process_index .* got 2"),
    ],
)
def test_impossible_streams(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_unknown_names_are_answered():
    with pytest.raises(ValueError, match="prepared dataset 'digits'"):
        data.stream("digits", "train", 4, view=VIEW)
    with pytest.raises(ValueError, match="split of sun397 'trian'"):
        data.stream("sun397", "trian", 4, view=VIEW)
    with pytest.raises(data.MissingDatasetError, match="prepare sun397"):
        data.stream("sun397", "train", 4, view=VIEW)
