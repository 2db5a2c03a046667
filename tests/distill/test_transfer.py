"""Weights for another label set: by shape, by name, from files, from torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import checkpoints, distill, models
from kd_heuristics.distill import imagenet, transfer


def network(classes, seed, body=(3, 4)):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {
        "conv": {"kernel": draw(*body), "bias": draw(body[1])},
        "fc": {"kernel": draw(body[1], classes), "bias": draw(classes)},
    }
    return {"params": params, "batch_stats": {"bn": {"mean": draw(body[1])}}}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_last_layer_is_replaced_by_shape():
    target, source = network(5, 0), network(10, 1)
    tree, replaced = transfer.adapt(target, source)
    same(tree["params"]["conv"], source["params"]["conv"])
    same(tree["batch_stats"], source["batch_stats"])
    same(tree["params"]["fc"], target["params"]["fc"])
    assert replaced == ("params/fc/bias", "params/fc/kernel")


def test_a_label_set_of_the_same_size_is_named():
    target, source = network(5, 0), network(5, 1)
    tree, replaced = transfer.adapt(target, source)
    same(tree, source)
    assert replaced == ()
    tree, replaced = transfer.adapt(target, source, lambda path: "/fc/" in path)
    same(tree["params"]["fc"], target["params"]["fc"])
    same(tree["params"]["conv"], source["params"]["conv"])
    assert len(replaced) == 2


def test_types_are_the_targets():
    target, source = network(5, 0), network(5, 1)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), target)
    tree, _ = transfer.adapt(half, source)
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("bfloat16")}


def test_from_an_npz_file_and_from_a_checkpoint(tmp_path):
    target, source = network(5, 0), network(10, 1)
    transfer.save_npz(tmp_path / "teacher.npz", source)
    from_file = transfer.load_npz(tmp_path / "teacher.npz")
    same(from_file, source)
    checkpoints.save(tmp_path / "run", 3, source)
    restored = checkpoints.restore(tmp_path / "run", jax.eval_shape(lambda: source))
    expected, _ = transfer.adapt(target, source)
    same(transfer.adapt(target, from_file)[0], expected)
    same(transfer.adapt(target, restored)[0], expected)


def test_classes_in_common_take_the_losses_arguments():
    s, t = transfer.common_classes(["a", "b", "c"], ["c", "x", "y", "a"])
    student = np.array([[1.0, 9.0, 2.0]])
    teacher = np.array([[2.0, 9.0, 9.0, 1.0]])
    assert distill.l2(student[:, s], teacher[:, t])[0] == 0


def test_two_vocabularies_compare_the_tokens_that_they_share():
    """Against the prediction given a shared token, in float64 NumPy."""
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(2, 3, n)).astype(np.float32) for n in (5, 6))
    own, its = ["the", "cat", "s", "at", "."], [".", "dog", "the", "at", "on", "it"]
    common = transfer.common_classes(own, its)
    found = distill.kl(*transfer.on_common(student, teacher, common), 2.0)
    p, q = (
        np.exp(np.float64(x) / 2)[..., places]
        for x, places in ((teacher, [2, 3, 0]), (student, [0, 3, 4]))
    )
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    np.testing.assert_allclose(found, 4 * (p * np.log(p / q)).sum(-1), rtol=1e-5)


def test_large_vocabularies_are_compared_at_once():
    names = [f"token{i}" for i in range(50_000)]
    s, t = transfer.common_classes(names, names[::-1])
    np.testing.assert_array_equal(s + t, len(names) - 1)


BAD_MAPS = [
    (([0, -1], [0, 1]), r"student's common classes must lie in \[0, 3\), got -1"),
    (([0, 1], [0, 4]), r"teacher's common classes must lie in \[0, 4\), got 4"),
    (([0, 2**32], [0, 1]), r"student's common classes must lie in \[0, 3\)"),
    (([0, 0], [0, 1]), r"student's common classes repeat a class"),
    (([0, 1, 2], [0, 1]), r"3 of the student's .* and 2 of the teacher's"),
    (([0], [0]), r"int64\[1\]; wanted at least 2 integers"),
    (([0.0, 1.0], [0, 1]), r"float64\[2\]; wanted at least 2 integers"),
    (([], []), r"wanted at least 2 integers"),
]


@pytest.mark.parametrize(("common", "words"), BAD_MAPS)
def test_maps_of_classes_that_are_none_are_refused(common, words):
    with pytest.raises(ValueError, match=words):
        transfer.on_common(np.zeros((1, 3), "f4"), np.zeros((1, 4), "f4"), common)


def test_features_teach_a_student_of_another_label_set():
    # FSP has no classes: the teacher's three classes never meet the student's five.
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    teacher = distill.Teacher(
        lambda w, x: {"maps": w * x, "logits": x.sum((1, 2))}, 2.0
    )
    pairs = [(teacher(maps)["maps"],) * 2]
    assert distill.fsp_loss([(maps, maps)], pairs).shape == (2,)


def test_torchvisions_layout_becomes_ours():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 3, 7, 7))  # out, in, h, w
    arrays = {"conv1.weight": kernel}
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        arrays[f"bn1.{leaf}"] = rng.normal(size=2)
    arrays["bn1.num_batches_tracked"] = np.array(7)
    arrays["layer4.2.bn2.weight"] = rng.normal(size=2)
    arrays["layer3.0.downsample.0.weight"] = rng.normal(size=(4, 2, 1, 1))
    arrays["layer3.0.downsample.1.running_var"] = rng.normal(size=4)
    arrays["fc.weight"], arrays["fc.bias"] = rng.normal(size=(5, 4)), rng.normal(size=5)
    tree = imagenet.from_torchvision(arrays)
    params, stats = tree["params"], tree["batch_stats"]
    assert params["conv"]["kernel"][6, 5, 2, 1] == kernel[1, 2, 6, 5]
    same(params["fc"], {"kernel": arrays["fc.weight"].T, "bias": arrays["fc.bias"]})
    same(params["bn"]["scale"], arrays["bn1.weight"])
    same(
        stats["bn"],
        {"mean": arrays["bn1.running_mean"], "var": arrays["bn1.running_var"]},
    )
    same(params["block_3_2"]["bn_1"]["scale"], arrays["layer4.2.bn2.weight"])
    assert params["block_2_0"]["shortcut_conv"]["kernel"].shape == (1, 1, 2, 4)
    assert list(stats["block_2_0"]["shortcut_bn"]) == ["var"]


def torchvision_resnet34():
    """Names and shapes of torchvision's state dictionary, as zeros."""
    shapes = {"conv1": (64, 3, 7, 7), "bn1": (64,), "fc": (1000, 512)}
    before = 64
    for section, (blocks, channels) in enumerate(
        zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1
    ):
        for block in range(blocks):
            name = f"layer{section}.{block}"
            shapes[f"{name}.conv1"] = (channels, before, 3, 3)
            shapes[f"{name}.conv2"] = (channels, channels, 3, 3)
            shapes[f"{name}.bn1"] = shapes[f"{name}.bn2"] = (channels,)
            if before != channels:
                shapes[f"{name}.downsample.0"] = (channels, before, 1, 1)
                shapes[f"{name}.downsample.1"] = (channels,)
            before = channels
    leaves = {1: ("weight", "bias", "running_mean", "running_var"), 4: ("weight",)}
    arrays = {
        f"{layer}.{leaf}": np.broadcast_to(0.0, shape)
        for layer, shape in shapes.items()
        for leaf in leaves.get(len(shape), ("weight",))
    }
    return arrays | {"fc.bias": np.zeros(1000)}


def test_torchvisions_resnet34_is_ours():
    network = models.create("resnet34_imagenet", 1000)
    images = jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    found = imagenet.from_torchvision(torchvision_resnet34())
    assert jax.tree.map(np.shape, found) == jax.tree.map(jnp.shape, variables)
    # The number that torchvision documents.
    count = sum(leaf.size for leaf in jax.tree.leaves(found["params"]))
    assert count == 21_797_672


def test_what_is_wrong_is_said(tmp_path):
    def wrong(words, function, *arguments):
        with pytest.raises(ValueError, match=words):
            function(*arguments)

    adapt, target = transfer.adapt, network(5, 0)
    wider = network(5, 1, body=(3, 6))
    wrong(
        r"more than one layer.*conv/kernel \(3, 4\) for \(3, 6\)", adapt, target, wider
    )
    head = lambda path: "/fc/" in path  # noqa: E731
    narrow = network(5, 1, body=(2, 4))
    wrong(r"kernel \(3, 4\) for \(2, 4\).*replace must", adapt, target, narrow, head)
    wrong(r"none of params|none of batch_stats", adapt, target, target, lambda _: False)
    less = {"params": target["params"]}
    wrong(r"batch_stats/bn/mean: missing in", adapt, target, less)
    wrong(r"batch_stats/bn/mean: left over from", adapt, less, target)
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 nonsense")
    wrong(r"broken\.npz is not an \.npz file", transfer.load_npz, path)
    np.savez(path, **{"a": np.zeros(1), "a/b": np.zeros(1)})
    wrong(r"'a/b', below another array", transfer.load_npz, path)
    np.savez(path, **{"a/b": np.zeros(1), "a": np.zeros(1)})
    wrong(r"has 'a' and arrays below it", transfer.load_npz, path)
    np.savez(path, a=np.array([{}], object))
    wrong(r"plain arrays", transfer.load_npz, path)
    half = {"a": jnp.zeros(1, jnp.bfloat16)}
    wrong(r"a holds bfloat16", transfer.save_npz, path, half)
    with pytest.raises(FileNotFoundError):
        transfer.load_npz(tmp_path / "absent.npz")
    common = transfer.common_classes
    wrong(r"teacher's class 'a' is named twice", common, ["a", "b"], ["a", "a"])
    wrong(r"1 classes are in common.*FSP", common, ["a", "b"], ["a", "c"])
    arrays = {"layer1.0.conv3.weight": np.zeros((1, 1, 1, 1))}
    wrong(r"conv3\.weight .*bottleneck", imagenet.from_torchvision, arrays)
    wrong(r"fc\.scale", imagenet.from_torchvision, {"fc.scale": np.zeros(1)})


def test_what_stays_must_have_values():
    """Shapes serve where the source's values go, not where the target's stay."""
    target = {
        "conv": {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.bfloat16)},
        "fc": {"kernel": np.zeros((2, 5), np.float32)},
    }
    source = {"conv": {"kernel": np.ones((2, 2))}, "fc": {"kernel": np.ones((2, 9))}}
    tree, kept = transfer.adapt(target, source)
    assert tree["conv"]["kernel"].dtype == jnp.bfloat16
    assert kept == ("fc/kernel",)
    target["fc"] = {"kernel": jax.ShapeDtypeStruct((2, 5), jnp.float32)}
    with pytest.raises(ValueError, match=r"fc/kernel .* only a shape"):
        transfer.adapt(target, source)
