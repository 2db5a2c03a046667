"""Checkpoints in the forms in which people have them, and files that lie."""

import json
import struct

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import safetensors.flax
import safetensors.numpy
from flax import serialization, traverse_util
from flax.training import train_state

from kd_heuristics import cli, models
from kd_heuristics.cli import checkpoint


class WithStats(train_state.TrainState):
    batch_stats: dict


def state_of(variables, kind=WithStats, **more):
    own = {"apply_fn": None, "tx": optax.adam(1e-3), "params": variables["params"]}
    return kind.create(**own | more)


def with_stats(variables):
    return state_of(variables, batch_stats=variables["batch_stats"])


def standard(path, variables):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, with_stats(variables))
    return path


def pytree(path, variables):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, with_stats(variables))
    return path


def manager(path, variables):
    with ocp.CheckpointManager(path) as manager:
        manager.save(7, args=ocp.args.StandardSave(with_stats(variables)))
    return f"{path}@7"


def whole_variables_as_params(path, variables):
    state = state_of({"params": variables}, train_state.TrainState)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, state)
    return path


def below_a_name(path, variables):
    state = {"model": with_stats(variables), "config": {"rate": 0.1}, "epoch": 3}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, state)
    return path


def msgpack(path, variables):
    path.write_bytes(serialization.to_bytes(with_stats(variables)))
    return path


def msgpack_of_variables(path, variables):
    path = path.with_suffix(".msgpack")
    path.write_bytes(serialization.to_bytes(variables))
    return path


def in_bfloat16(path, variables):
    return by_safetensors(path, variables, cast=jnp.bfloat16)


def by_safetensors(path, variables, sep=".", cast=jnp.float32):
    path = path.with_suffix(".safetensors")
    flat = traverse_util.flatten_dict(variables, sep=sep)
    flat = {name: leaf.astype(cast) for name, leaf in flat.items()}
    safetensors.flax.save_file(flat, path)
    return path


def with_slashes(path, variables):
    return by_safetensors(path, variables, "/")


def npz_with_dots(path, variables):
    path = path.with_suffix(".npz")
    np.savez(path, **traverse_util.flatten_dict(variables, sep="."))
    return path


def below_names_in_a_file(path, variables):
    return by_safetensors(path, {"state": {"net": variables}})


LINEN = [standard, pytree, manager, whole_variables_as_params, below_a_name, msgpack]
LINEN += [msgpack_of_variables, by_safetensors, in_bfloat16, with_slashes]
LINEN += [npz_with_dots, below_names_in_a_file]


@pytest.fixture
def variables(inside):
    """Of the small net of nets.py, with statistics that no initialisation has."""
    network = models.create("nets:make", 2)
    found = network.init(jax.random.key(3), jnp.zeros((1, 4, 4, 1)))
    stats = jax.tree.map(lambda x: x + jnp.arange(3.0) / 8, found["batch_stats"])
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), found) | {
        "batch_stats": stats
    }


@pytest.mark.parametrize("way", LINEN, ids=lambda way: way.__name__)
def test_a_network_is_read_however_it_is_stored(way, variables, tmp_path):
    place = checkpoint.parse(str(way(tmp_path / "saved", variables)))
    found = checkpoint.network(place, variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    types = jax.tree.map(lambda leaf: leaf.dtype == jnp.float32, found)
    assert jax.tree.all(types)


def test_the_parameters_alone_in_safetensors(variables, tmp_path):
    path = by_safetensors(tmp_path / "a", variables["params"])
    place = checkpoint.parse(str(path))
    found = checkpoint.network(place, variables)["params"]
    jax.tree.map(np.testing.assert_array_equal, found, variables["params"])


@pytest.mark.parametrize("part", ["opt_state", "optimizer"])
def test_moments_of_an_optimiser_are_no_network(part, variables, tmp_path):
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    state = {part: {"0": {"mu": other}}, "ema": {"net": variables}}
    path = by_safetensors(tmp_path / "a", state)
    found = checkpoint.network(checkpoint.parse(str(path)), variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_two_networks_below_names_are_not_chosen_between(variables, tmp_path):
    path = by_safetensors(tmp_path / "a", {"net": variables, "ema": variables})
    with pytest.raises(ValueError, match=r"several networks .* ema/params and net/par"):
        checkpoint.network(checkpoint.parse(str(path)), variables)


def tampered(path, variables, change):
    """A safetensors file with another header, of true length, before the numbers."""
    content = by_safetensors(path, variables).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header["params.Dense_0.kernel"])
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + content[8 + length :]


def cut(path, variables):
    return by_safetensors(path, variables).read_bytes()[:-4]


def cut_in_the_header(path, variables):
    return by_safetensors(path, variables).read_bytes()[:40]


def no_header(path, variables):
    return b""


def endless_header(path, variables):
    return struct.pack("<Q", 2**62) + b"{}"


def larger(path, variables):
    return tampered(path, variables, lambda its: its.update(shape=[160, 3]))


def outside(path, variables):
    return tampered(path, variables, lambda its: its.update(data_offsets=[0, 2**40]))


def of_no_type(path, variables):
    return tampered(path, variables, lambda its: its.update(dtype="F12"))


LIES = [cut, cut_in_the_header, no_header, endless_header, larger, outside, of_no_type]


@pytest.mark.parametrize("suffix", [".safetensors", "", ".npz"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_file_that_lies_is_refused_in_one_sentence(
    lie, suffix, variables, tmp_path, capsys
):
    path = tmp_path / f"lie{suffix}"
    path.write_bytes(lie(tmp_path / "a", variables))
    words = ("--model", "nets:make", "--data", "data.npz", "--out", str(tmp_path / "o"))
    for command in ("connect", "surface", "similarity", "align"):
        with pytest.raises(SystemExit, match="2"):
            cli.main((command, "a.npz", str(path), *words))
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path} is not ")
        assert error.count("\n") == 1
        assert "write one with" in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.complex64, bool])
def test_numbers_of_another_kind_are_refused(kind, variables, tmp_path):
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    flat["params/Dense_0/kernel"] = flat["params/Dense_0/kernel"].astype(kind)
    np.savez(tmp_path / "a.npz", **flat)
    with pytest.raises(ValueError, match=r"Dense_0/kernel is \w+, the model's float32"):
        checkpoint.network(checkpoint.parse(str(tmp_path / "a.npz")), variables)


@pytest.mark.parametrize("content", [b"\x01", flax.serialization.to_bytes([1.0])[:-1]])
def test_msgpack_of_no_dictionary_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=r"readable as msgpack \("):
        checkpoint.read(checkpoint.parse(str(tmp_path / "a")))


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ValueError, match="pip install safetensors"):
        checkpoint.read(checkpoint.parse(str(tmp_path / "a.safetensors")))


def test_kernels_of_equinox_are_called_weight_there(inside, tmp_path):
    eqx = pytest.importorskip("equinox")
    net = eqx.nn.MLP(16, 2, 16, 1, key=jax.random.key(0))  # square kernels
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(net, eqx.is_array))
    named = {jax.tree_util.keystr(k, simple=True, separator="."): v for k, v in leaves}
    assert "layers.0.weight" in named
    safetensors.flax.save_file(named, tmp_path / "a.safetensors")
    network = models.from_equinox("mlp", flat_mlp)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    place = checkpoint.parse(str(tmp_path / "a.safetensors"))
    found = checkpoint.network(place, like, weights=True)
    x = jnp.linspace(0, 1, 32).reshape(2, 4, 4, 1)
    np.testing.assert_allclose(
        network.apply(found, x), jax.vmap(net)(x.reshape(2, 16)), rtol=1e-5
    )
    # Elsewhere a weight may be a transposed kernel.
    with pytest.raises(ValueError, match="has no params/layers/0/kernel"):
        checkpoint.network(place, like)


def flat_mlp(key):
    import equinox as eqx

    class Flat(eqx.nn.MLP):
        def __call__(self, image):
            return super().__call__(image.ravel())

    return Flat(16, 2, 16, 1, key=key)
