"""Any loss, on tokens, tables and images: the user's own metric in the commands."""

import json
import pathlib
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import nnx, traverse_util

from kd_heuristics import cli

TEXT = (
    "a barrier is crossed if some point of the segment has a higher loss than both its "
    "ends; the networks at the ends may still be joined by a curve of low loss"
)
LM = """
    import optax
    from flax import nnx
    from kd_heuristics import models

    class Net(nnx.Module):
        def __init__(self, vocabulary, rngs):
            self.embed = nnx.Embed(vocabulary, 8, rngs=rngs)
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(
                2, 8, decode=False, dropout_rate=0.1, rngs=rngs
            )
            self.last = nnx.Linear(8, vocabulary, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            mask = nnx.make_causal_mask(tokens)
            return self.last(x + self.attention(self.norm(x), mask=mask))

    def make(vocabulary=128):
        net = lambda rngs: Net(vocabulary, rngs)
        return models.from_nnx("lm", net, inputs="any")

    def loss(outputs, batch):
        tokens = batch["tokens"]
        values = optax.softmax_cross_entropy_with_integer_labels(
            outputs[:, :-1], tokens[:, 1:]
        )
        return {"loss": values, "mask": tokens[:, 1:] > 0}
"""
TABLES = """
    import jax.numpy as jnp
    from kd_heuristics import models

    def init(key, x):
        return {"params": {"w": jnp.zeros((x[0].size, 2))}}

    def apply(variables, x):
        return x.reshape(len(x), -1).astype(jnp.float32) @ variables["params"]["w"]

    def make():
        return models.from_functions("linear", init, apply, inputs="any")

    def classifier(num_classes):
        return make()

    def squares(outputs, batch):
        errors = (outputs - batch["targets"]) ** 2
        return {"loss": errors.sum(1), "first": errors[:, 0], "mask": batch["kept"]}

    def alone(outputs, batch):
        return ((outputs - batch["targets"]) ** 2).sum(1)

    def three(outputs, batch, key):
        return outputs[:, 0]

    def word(outputs, batch):
        return "loss"

    def no_loss(outputs, batch):
        return {"error": outputs[:, 0]}

    def mean(outputs, batch):
        return outputs.mean()

    def whole(outputs, batch):
        return batch["kept"].astype(jnp.int32)

    def two_shapes(outputs, batch):
        return {"loss": outputs[:, 0], "both": outputs}

    def odd_mask(outputs, batch):
        return {"loss": outputs, "mask": batch["kept"]}

    def bug(outputs, batch):
        return batch["nothing"]
"""


def tokens(width=13):
    codes = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
    rows = codes[: len(codes) // width * width].reshape(-1, width)
    padded = rows.copy()
    padded[1, 7:] = 0
    padded[-1, 3:] = 0
    return padded


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """lm.py, text.npz, and two trained language models as safetensors."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "lm.py").write_text(textwrap.dedent(LM))
    rows = tokens()
    np.savez(folder / "text.npz", train_tokens=rows[:8], test_tokens=rows[8:])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        import lm  # pyrefly: ignore
    for seed in (0, 1):
        state = nnx.to_pure_dict(nnx.state(lm.Net(128, nnx.Rngs(seed)), nnx.Param))
        flat = traverse_util.flatten_dict(state, sep=".")
        flat = {name: np.asarray(leaf) for name, leaf in flat.items()}
        safetensors.numpy.save_file(flat, folder / f"{'ab'[seed]}.safetensors")
    return folder, lm


def expected(lm, folder, seed, rows):
    """The mean loss of each token that counts, by the module itself."""
    net = lm.Net(128, nnx.Rngs(seed))
    net.eval()
    logs = jax.nn.log_softmax(net(jnp.asarray(rows)))
    picked = np.take_along_axis(np.asarray(logs)[:, :-1], rows[:, 1:, None], 2)[..., 0]
    return -picked[rows[:, 1:] > 0].astype(float).mean()


def test_a_language_model_from_safetensors_to_a_surface(texts, monkeypatch, undrawn):
    folder, lm = texts
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    own = ("--model", "lm.py:make", "--data", "text.npz", "--metric", "lm.py:loss")
    own += ("--batch-size", "3")
    both = ("a.safetensors", "b.safetensors")
    fit = ("--epochs", "1", "--train-batch-size", "4", "--num-points", "3")
    cli.main(["connect", *both, *own, *fit])
    found = np.load("connect/arrays.npz")
    rows = tokens()
    for part, own_rows in (("train", rows[:8]), ("test", rows[8:])):
        losses = found[f"segment/{part}_loss"]
        ends = [expected(lm, folder, seed, own_rows) for seed in (0, 1)]
        np.testing.assert_allclose(losses[[0, -1]], ends, rtol=1e-5)
        assert found[f"curve/{part}_loss"][0] == losses[0]
    assert not any("accuracy" in name for name in found.files)
    cli.main(["surface", *both, "connect/bend.npz", *own, "--grid", "2", "2"])
    assert np.isfinite(np.load("surface/arrays.npz")["test_loss"]).all()
    no_loss = own[:4] + own[6:]
    cli.main(["similarity", *both, *no_loss, "--measure", "cka"])
    results = json.loads((folder / "similarity" / "results.json").read_text())
    names = [name.partition("_")[2] for name in results["layers_a"]]
    assert {"embed", "attention/query", "last"} < {*names}
    assert {*results["treatments_a"].values()} == {"mean"}


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """tables.py, two linear models, a regression on a table, in float and on images."""
    (tmp_path / "tables.py").write_text(textwrap.dedent(TABLES))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    sets, images = {}, {}
    for part, count in (("train", 11), ("test", 7)):
        x = random.normal(size=(count, 4)).astype(np.float32)
        more = {
            f"{part}_targets": random.normal(size=(count, 2)).astype(np.float32),
            f"{part}_kept": np.arange(count) % 3 > 0,
        }
        sets |= {f"{part}_inputs": x} | more
        pixels = random.integers(0, 256, (count, 2, 2, 1), np.uint8)
        images |= {f"{part}_images": pixels} | more
    np.savez("table.npz", **sets)
    np.savez("images.npz", **images)
    for name in "ab":
        np.savez(f"{name}.npz", w=random.normal(size=(4, 2)).astype(np.float32))
    return sets, images


OWN = ("--model", "tables.py:make", "--metric", "tables.py:squares")


@pytest.mark.parametrize("which", ["table", "images"])
def test_a_regression_along_a_segment(which, tables, undrawn):
    sets = tables[which == "images"]
    words = (*OWN, "--data", f"{which}.npz", "--pixels", "unit", "--batch-size", "4")
    cli.main(["connect", "a.npz", "b.npz", *words, "--bends", "0", "--num-points", "3"])
    found = np.load("connect/arrays.npz")
    a, b = (np.load(f"{name}.npz")["w"].astype(float) for name in "ab")
    for part in ("train", "test"):
        x = sets.get(f"{part}_inputs")
        if x is None:
            x = sets[f"{part}_images"].reshape(-1, 4) / 255
        for place, w in enumerate((a, (a + b) / 2, b)):
            errors = (x.astype(float) @ w - sets[f"{part}_targets"]) ** 2
            errors = errors[sets[f"{part}_kept"]]
            own = {"loss": errors.sum(1).mean(), "first": errors[:, 0].mean()}
            for name, value in own.items():
                one = found[f"segment/{part}_{name}"][place]
                np.testing.assert_allclose(one, value, rtol=1e-5)


def test_the_curvature_of_a_regression(tables, undrawn):
    words = (*OWN, "--data", "table.npz", "--batch-size", "4", "--k", "1")
    cli.main(["sharpness", "a.npz", *words, "--num-products", "8"])
    found = np.load("sharpness/arrays.npz")["eigenvalues"]
    x = tables[0]["train_inputs"][tables[0]["train_kept"]].astype(float)
    largest = np.linalg.eigvalsh(2 * x.T @ x / len(x)).max()
    np.testing.assert_allclose(found[0, 0], largest, rtol=1e-4)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("tables.py:three", "takes (outputs, batch, key), not (outputs, batch)"),
        ("tables.py:squaers", "did you mean 'squares'?"),
        ("tables.py", "must be MODULE:FUNCTION or FILE.py:FUNCTION, got 'tables.py'"),
        ("none.py:loss", "there is no file"),
        ("tables.py:word", "it returned loss None"),
        ("tables.py:no_loss", "it returned error (4,)"),
        ("tables.py:mean", "returned a loss float32 [] for 4 examples"),
        ("tables.py:whole", "returned a loss int32 [4] for 4 examples"),
        ("tables.py:two_shapes", "it returned loss (4,), both (4, 2)"),
        ("tables.py:odd_mask", '"mask" of another shape than the loss, (4, 2)'),
        (None, "table.npz has no integer labels [n], so name the loss: --metric"),
    ],
)
def test_what_is_no_metric_is_refused_before_any_work(metric, words, tables, capsys):
    given = ["--metric", metric] if metric else []
    given += ["--model", "tables.py:make", "--data", "table.npz", "--batch-size", "4"]
    for command in ("connect", "surface"):
        with pytest.raises(SystemExit, match="2"):
            cli.main([command, "a.npz", "b.npz", *given, "--out", "out"])
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert not pathlib.Path("out").exists()


def test_a_bug_of_the_users_own_metric_shows_its_traceback(tables):
    words = ("--model", "tables.py:make", "--data", "table.npz")
    with pytest.raises(KeyError, match="nothing"):
        cli.main(["connect", "a.npz", "b.npz", *words, "--metric", "tables.py:bug"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_inputs": None}, "must be an .npz with train_NAME and test_NAME"),
        ({"test_inputs": None}, "it has none of these"),
        (
            {"test_kept": None},
            "the same arrays in train and test; it has kept in train",
        ),
        ({"train_mask": np.ones(11)}, "it has mask, a name of the padding's"),
        ({"train_tokens": np.ones((11, 2), int)}, "it has tokens and inputs"),
        ({"train_kept": np.ones(9)}, "11 of train_inputs, 11 of train_targets, 9 of"),
        ({"train_kept": np.array(1.0)}, "0 of train_kept"),
        (
            {"test_inputs": np.ones((7, 5), np.float32)},
            "float32 [4] for each example, b",
        ),
        ({"test_inputs": np.ones((7, 4), int)}, "but test_inputs int64 [4]"),
        ({"train_inputs": np.full((11, 4), np.nan)}, "holds NaN or infinity"),
        (
            {"train_kept": np.array(["no"] * 11)},
            "must be numbers, got <U2; encode words",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, words, tables, capsys):
    sets = {k: v for k, v in (tables[0] | changes).items() if v is not None}
    np.savez("bad.npz", **sets)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["surface", "a.npz", "b.npz", *OWN, "--data", "bad.npz"])
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_labels_of_a_table_need_no_metric(tables, undrawn):
    sets = {k: v for k, v in tables[0].items() if "inputs" in k}
    labels = {
        f"{part}_labels": np.arange(n) % 2 for part, n in (("train", 11), ("test", 7))
    }
    np.savez("labels.npz", **sets, **labels)
    words = ("--model", "tables.py:classifier", "--data", "labels.npz", "--bends", "0")
    cli.main(["connect", "a.npz", "b.npz", *words, "--num-points", "3"])
    found = np.load("connect/arrays.npz")["segment/test_loss"][0]
    logits = sets["test_inputs"].astype(float) @ np.load("a.npz")["w"]
    own = optax.softmax_cross_entropy_with_integer_labels(logits, labels["test_labels"])
    np.testing.assert_allclose(found, own.mean(), rtol=1e-5)
