"""Whatever is wrong with what was given: one line that says so, status 2."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import cli

GOOD = ("--model", "nets:make", "--data", "data.npz")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.npz", "b.npz", *GOOD), "no checkpoint at none.npz"),
        (("a.npz", "b.npz", "--data", "data.npz"), "name the model: --model"),
        (("a.npz", "b.npz", "--model", "vgg11"), "name the data: --data digits"),
        (("a.npz", "b.npz", *GOOD[:3], "digit"), "did you mean 'digits'?"),
        (("a.npz", "b.npz", *GOOD[:3], "no.npz"), "must be an .npz with train_images"),
        (("a.npz", "b.npz", *GOOD[2:], "--model", "vgg111"), "did you mean 'vgg11'?"),
        (("a.npz", "b.npz", *GOOD[2:], "--model", "nets:mak"), "MODULE:FUNCTION"),
        (("a.npz", "b.npz", *GOOD[2:], "--model", "nots:make"), "No module named"),
        (("a.npz", "b.npz", *GOOD[2:], "--model", "nets:no_network"), "returned a str"),
        (("a.npz", "b.npz", *GOOD, "--model-options", "units"), "takes KEY=VALUE"),
        (
            ("a.npz", "b.npz", *GOOD, "--model-options", "units=4"),
            "is [3], the model's [4]",
        ),
        (("steps", "b.npz", *GOOD), "holds 2 networks; name one: steps#0 to #1"),
        (("steps#2", "b.npz", *GOOD), "no network #2; it holds 2"),
        (("steps@7#0", "b.npz", *GOOD), "has no step 7; it has [5, 9]"),
        (("a.npz@3", "b.npz", *GOOD), "a file has no steps"),
        (("data.npz", "b.npz", *GOOD), "has no params/"),
        (("nets.py", "b.npz", *GOOD), "is not an .npz, a .safetensors, or"),
        (("a.npz", "b.npz", *GOOD, "--num-points", "2"), "--num-points must be"),
        (("a.npz", "b.npz", *GOOD, "--batch-size", "0"), "--batch-size must be"),
        (("a.npz", "b.npz", *GOOD, "--rate", "-1"), "--rate must be positive"),
        (("a.npz", "b.npz", *GOOD, "--out", "nets.py/x"), "cannot be written"),
    ],
)
def test_connect(words, said, inside, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(("connect", *words))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("connect a.npz b.npz --train-batch-size 0", "batch_size must be at least 1"),
        ("connect a.npz b.npz --seed 99999999999", "seed must be at most"),
        ("surface a.npz b.npz --seed 99999999999", "seed must be at most"),
        ("surface a.npz b.npz --grid 1 5", "--grid needs at least 2"),
        ("surface a.npz b.npz --margin -0.5", "--margin must be a share above -0.5"),
        ("surface a.npz b.npz --margin nan", "--margin must be a share above -0.5"),
        ("surface a.npz b.npz a.npz", "networks 0 and 2 are equal"),
        ("similarity a.npz b.npz --measure knn --k 8", "k must be below"),
        ("similarity a.npz b.npz --examples 1", "at least 2"),
        ("similarity a.npz b.npz --examples -1", "--examples must be at least 1"),
        ("similarity a.npz b.npz --model-b nets:no_network", "returned a str"),
    ],
)
def test_what_the_library_refuses_of_an_option(words, said, inside, own, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main((*words.split(), *own))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


def test_a_bug_of_the_users_own_model_shows_its_traceback(inside, own):
    (inside / "buggy.py").write_text("def make(num_classes):\n    return int('x')\n")
    with pytest.raises(ValueError, match="invalid literal"):
        cli.main(("connect", "a.npz", "b.npz", *own, "--model", "buggy:make"))


def test_a_damaged_checkpoint(inside, tmp_path, capsys):
    broken = tmp_path / "broken.npz"
    broken.write_bytes((inside / "a.npz").read_bytes()[:200])
    with pytest.raises(SystemExit, match="2"):
        cli.main(("connect", str(broken), "b.npz", *GOOD))
    assert "not a readable .npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other_call", "unexpected keyword argument 'train'"),
        ("other_size", "on images (1, 4, 4, 1) of the set 'data.npz' (TypeError: dot"),
        ("other_rank", "other cannot be called on images (1, 4, 4, 1)"),
        ("maps", "must return logits, float [batch, classes]"),
        ("more_classes", "has 3 logits, but the set 'data.npz' has 2 classes"),
    ],
)
def test_a_model_for_other_images_or_classes(name, said, inside, own, capsys):
    for command in ("connect", "surface"):
        with pytest.raises(SystemExit, match="2"):
            cli.main((command, "a.npz", "b.npz", *own, "--model", f"nets:{name}"))
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert said in error
        assert error.count("\n") == 1


def test_a_mistake_inside_the_model_names_its_line(inside, own, capsys):
    lines = (inside / "nets.py").read_text().splitlines()
    raised = next(n for n, line in enumerate(lines, 1) if "no conversion" in line)
    where = f"of this to that, in {inside / 'nets.py'}, line {raised})"
    multiplied = next(n for n, line in enumerate(lines, 1) if "(48, num_" in line)
    size = f", in {inside / 'nets.py'}, line {multiplied})"
    for name, said in (("own_mistake", where), ("other_size", size)):
        with pytest.raises(SystemExit, match="2"):
            cli.main(("connect", "a.npz", "b.npz", *own, "--model", f"nets:{name}"))
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    # Wrong arguments of a call are nobody's line.
    with pytest.raises(SystemExit, match="2"):
        cli.main(("connect", "a.npz", "b.npz", *own, "--model", "nets:other_call"))
    assert ", line" not in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "array"])
def test_damaged_data(how, inside, tmp_path, capsys):
    broken = tmp_path / "broken.npz"
    np.savez_compressed(broken, **np.load(inside / "data.npz"))
    content = bytearray(broken.read_bytes())
    content[100:110] = b"\xff" * 10
    if how == "array":
        with broken.open("wb") as file:
            np.save(file, np.zeros(2))
    else:
        parts = {"cut": content[:200], "changed": content, "empty": b""}
        broken.write_bytes(parts[how])
    with pytest.raises(SystemExit, match="2"):
        cli.main(("connect", "a.npz", "b.npz", *GOOD[:3], str(broken)))
    assert "must be an .npz with train_images" in capsys.readouterr().err


def test_parameters_alone_are_a_checkpoint_too(inside):
    from kd_heuristics.cli import checkpoint

    found = checkpoint.read(checkpoint.parse("params.npz"))
    assert "Dense_0/kernel" in found
    assert np.isfinite(found["Dense_0/kernel"]).all()


def test_what_is_saved_in_bfloat16_comes_back(tmp_path):
    from kd_heuristics.cli import checkpoint

    tree = {"params": {"w": jnp.array([1.5, -2.0], jnp.bfloat16)}}
    checkpoint.save(tmp_path / "a.npz", tree)
    found = checkpoint.network(checkpoint.parse(str(tmp_path / "a.npz")), tree)
    assert found["params"]["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["params"]["w"], tree["params"]["w"])
