"""A leaf comes back with the same bits, type and place, or saving it is refused."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import checkpoints
from kd_heuristics.checkpoints import manifest, places
from kd_heuristics.runtime import parallel
from tests.modes import enable_x64

OF_NUMPY = [np.dtype(code) for code in np.typecodes["All"] if code not in "OSUVMm"]
OF_ML = [
    np.dtype(kind)
    for kind in vars(ml_dtypes).values()
    if isinstance(kind, type) and issubclass(kind, np.generic)
]
OTHERS = [np.dtype(words) for words in ("M8[s]", "m8[s]", "S3", "U3", "O", "f4,i4")]
# What tensorstore has no type for, and what is no number.
UNKNOWN = (
    "float6_e2m3fn",
    "float6_e3m2fn",
    "complex32",
    "bcomplex32",
    "int1",
    "uint1",
    "uint2",
    "uint4",
)
UNKNOWN += ("float128", "complex256", "longdouble", "clongdouble", "float8_e4m3")


def bits(array):
    """Bytes and type, in native order."""
    array = np.asarray(array)
    native = array.astype(array.dtype.newbyteorder("="))
    return native.tobytes(), native.dtype, native.shape


def random_bits(dtype):
    """NaNs with payloads, infinities, -0 and subnormal numbers too."""
    random = np.random.default_rng(dtype.num)
    if dtype.kind in "OSUMm" or dtype.names:
        return np.zeros((3, 4), dtype)
    top = 2 if dtype.kind == "b" else 256
    raw = random.integers(0, top, 12 * dtype.itemsize, dtype=np.uint8)
    if dtype.name.startswith(("int4", "uint4", "float4")):
        raw &= 15  # the other bits of the byte are no part of it
    if dtype.name.startswith(("int2", "uint2")):
        raw &= 3
    return np.frombuffer(raw.tobytes(), dtype).reshape(3, 4).copy()


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", [*OF_NUMPY, *OF_ML, *OTHERS], ids=str)
def test_every_type_comes_back_bit_for_bit_or_is_refused(tmp_path, dtype, x64):
    array = random_bits(dtype)
    swapped = array.astype(dtype.newbyteorder(">"))
    tree = {"a": array, "part": array[:, 1:3].T, "one": array[1, 2], "big": swapped}
    tree["zero"] = np.zeros(2, dtype)
    if dtype.kind in "fc":
        tree["minus"] = -tree["zero"]
    with enable_x64(x64):
        if dtype in OTHERS or dtype.name in UNKNOWN:
            with pytest.raises(ValueError, match="a is of type array of "):
                checkpoints.save(tmp_path, 1, tree)
            assert not [*tmp_path.iterdir()]
            return
        checkpoints.save(tmp_path, 1, tree)
        found = checkpoints.restore(tmp_path, tree)
        plain = checkpoints.restore(tmp_path)
        shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in tree.items()}
        again = checkpoints.restore(tmp_path, shapes)
    for name, leaf in tree.items():
        assert bits(found[name]) == bits(leaf)
        assert isinstance(found[name], np.generic) == isinstance(leaf, np.generic)
        assert not isinstance(found[name], jax.Array)
        for other in (plain, again):
            assert bits(other[name]) == bits(leaf)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "number",
    [True, 7, -(2**63), 2**40 + 5, np.pi, 1e300, -0.0, float("nan"), 1e-320, 1e300j],
)
def test_a_python_number_comes_back_as_one(tmp_path, number, x64):
    with enable_x64(x64):
        checkpoints.save(tmp_path, 1, {"a": [number]})
    for like in ({"a": [type(number)(0)]}, None):
        leaf = jax.tree.leaves(checkpoints.restore(tmp_path, like))[0]
        if type(number) is not bool or like is not None:
            assert type(leaf) is type(number)
        assert np.asarray(leaf).tobytes() == np.asarray(number).tobytes()


def test_a_number_of_more_than_64_bits_is_refused(tmp_path):
    for number in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(ValueError, match=f"a/b is {number}, .* 64 bits; split"):
            checkpoints.save(tmp_path, 1, {"a": {"b": number}})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("leaf", "named"),
    [
        ("text", "str"),
        (print, "builtin_function_or_method"),
        ({1: 2}.keys(), "dict_keys"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "MaskedArray"),
        (jax.ShapeDtypeStruct((2,), "float32"), "ShapeDtypeStruct"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, leaf, named):
    with pytest.raises(ValueError, match=f"a is of type {named}, .* convert it"):
        checkpoints.save(tmp_path, 1, {"a": leaf})
    assert not [*tmp_path.iterdir()]


def test_numbers_and_scalars_of_one_kind_are_exchanged_where_they_are_equal(tmp_path):
    checkpoints.save(tmp_path, 1, {"a": 2**40 + 5, "b": 0.5})
    shapes = jax.eval_shape(lambda: {"a": 1, "b": 0.5})
    with pytest.raises(
        checkpoints.CheckpointError,
        match=r"a was saved as the number 1099511627781, .* int32",
    ):
        checkpoints.restore(tmp_path, shapes)
    checkpoints.save(tmp_path, 1, {"a": 5, "b": 0.5})
    found = checkpoints.restore(tmp_path, shapes)
    assert (found["a"].dtype, int(found["a"])) == (jnp.int32, 5)
    assert found["b"].weak_type
    checkpoints.save(tmp_path, 1, {"a": 5, "b": 0.1})
    assert checkpoints.restore(tmp_path, shapes)["b"] == np.float32(0.1)
    with pytest.raises(
        checkpoints.CheckpointError, match=r"b was saved as the number 0.1, "
    ):
        checkpoints.restore(tmp_path, {"a": 0, "b": jnp.zeros((), jnp.float32)})
    # As Python numbers were written before, by way of JAX.
    checkpoints.save(tmp_path, 1, {"a": jnp.int32(5), "b": jnp.float32(0.5)})
    found = checkpoints.restore(tmp_path, {"a": 0, "b": 0.0})
    assert [(type(x), x) for x in found.values()] == [(int, 5), (float, 0.5)]
    with pytest.raises(checkpoints.CheckpointError, match="a is int32"):
        checkpoints.restore(tmp_path, {"a": 0.0, "b": 0.0})


def states():
    """One state in several places."""
    mesh = parallel.mesh(4)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params = {"w": jnp.linspace(0.1, 1, 8), "h": jnp.ones(8, jnp.bfloat16) / 3}
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    state = {
        "params": params,
        "opt": optimizer.init(params),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 4),
        "weak": jnp.full((8,), 0.3),
        "step": jnp.int32(4),
        "empty": jnp.zeros((4, 0)),
        "number": 0.1,
    }
    second = jax.devices()[2]
    keys = {"key": state["key"], "keys": state["keys"]}
    with jax.default_device(second):
        elsewhere = jax.tree.map(lambda x: x + 0, state["params"])
    return {
        "uncommitted": state,
        "parameters on a device": state | {"params": jax.device_put(params, second)},
        "all on a device": jax.device_put(state, second) | {"number": 0.1},
        "uncommitted on a device": state | {"params": elsewhere, "opt": None},
        "replicated": jax.device_put(state, whole) | {"number": 0.1},
        "replicated keys": state | jax.device_put(keys, whole),
        "split": state | {"params": jax.device_put(params, split)},
        "split keys": state | {"keys": jax.device_put(state["keys"], split)},
    }


STATES = states()


@jax.jit
def advanced(state):
    noise = jax.random.normal(state["key"], (8,))
    bits = jax.vmap(lambda key: jax.random.bits(key, (2,)))(state["keys"])
    rate = 0.1 if state["opt"] is None else state["opt"].hyperparams["learning_rate"]
    step = jax.tree.map(lambda x: rate * x * state["weak"], state["params"])
    return step, state["step"] + 1, noise.sum() * state["number"], bits


def placed(leaf):
    if not isinstance(leaf, jax.Array):
        return type(leaf)
    weak = getattr(leaf, "weak_type", False)
    return leaf.aval, leaf.sharding, leaf.committed, weak


@pytest.mark.parametrize("name", STATES)
def test_a_state_comes_back_where_it_was(tmp_path, name):
    """One compiled step after restoring equals one before."""
    state = STATES[name]
    before = advanced(state)
    checkpoints.save(tmp_path, 1, state)
    found = checkpoints.restore(tmp_path, state)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert placed(x) == placed(y)
    after = advanced(found)
    for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_shapes_without_a_place_are_uncommitted(tmp_path):
    state = STATES["replicated"]
    checkpoints.save(tmp_path, 1, state)
    for like in (jax.eval_shape(lambda: state), None):
        for leaf in jax.tree.leaves(checkpoints.restore(tmp_path, like)):
            assert not isinstance(leaf, jax.Array) or not leaf.committed


def test_a_template_may_have_been_donated(tmp_path):
    """Values of `like` do not matter, so it may have none."""
    state = jax.tree.map(jnp.copy, {"w": jnp.ones(3), "key": jax.random.key(1)})
    checkpoints.save(tmp_path, 1, state)
    for leaf in jax.tree.leaves(state):
        leaf.delete()
    found = checkpoints.restore(tmp_path, state)
    np.testing.assert_array_equal(found["w"], np.ones(3))
    assert jax.random.bits(found["key"]) == jax.random.bits(jax.random.key(1))


NAMES = st.text("ab01./%~ \\'\"é²A", max_size=3)
TREES = st.recursive(
    st.just(None),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_no_leaf_gets_the_value_of_another(tmp_path_factory, tree):
    count = iter(range(1000))
    tree = jax.tree.map(
        lambda _: np.int16(next(count)), tree, is_leaf=lambda leaf: leaf is None
    )
    folder = tmp_path_factory.mktemp("names")
    paths = jax.tree_util.tree_leaves_with_path(tree)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")
        for path, _ in paths
    ]
    try:
        checkpoints.save(folder, 1, tree)
    except ValueError:
        # Only where one name is another's, or is that of a folder.
        assert any(
            b == a or b.startswith(f"{a}.") for a, b in itertools.permutations(names, 2)
        )
        return
    found = checkpoints.restore(folder, tree, 1)
    assert jax.tree.leaves(found) == jax.tree.leaves(tree)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"a.b": 1, "a": {"b": 2}}, r"\['a'\]\['b'\] and \['a.b'\]"),
        ({"0": [1, 2], "0.1": 3}, r"\['0'\]\[1\] and \['0.1'\]"),
        ({"a.b": {"c": 1}, "a": {"b.c": 2}}, r"\['a'\]\['b.c'\] and \['a.b'\]\['c'\]"),
        ({"a.b/c": 1, "a": {"b": {"c": 2}}}, r"\['a'\]\['b'\]\['c'\] and \['a.b/c'\]"),
    ],
)
def test_names_that_differ_in_dots_alone_are_refused(tmp_path, tree, named):
    with pytest.raises(ValueError, match=f"{named}.*rename one"):
        checkpoints.save(tmp_path, 1, tree)
    assert not [*tmp_path.iterdir()]


INTEGERS = [int, np.int8, np.uint8, np.int64, np.uint64, np.array, jnp.int32]


@pytest.mark.parametrize("kind", INTEGERS)
def test_a_step_may_be_of_any_integer_type(tmp_path, kind):
    step = kind(3)
    checkpoints.save(tmp_path, step, {"a": 1}, notes={"n": np.arange(2), "s": step})
    assert checkpoints.steps(tmp_path) == [3]
    assert checkpoints.notes(tmp_path, step) == {"n": [0, 1], "s": 3}
    assert checkpoints.restore(tmp_path, {"a": 0}, step) == {"a": 1}
    assert checkpoints.is_good(tmp_path, step)
    assert checkpoints.newest_good(tmp_path, [step]) == 3
    checkpoints.remove(tmp_path, step)
    assert checkpoints.steps(tmp_path) == []


@pytest.mark.parametrize("step", [1.0, np.float32(1), "1", None, np.array([1])])
def test_a_step_that_is_no_integer_is_refused(tmp_path, step):
    calls = [
        lambda: checkpoints.save(tmp_path, step, {"a": 1}),
        lambda: checkpoints.remove(tmp_path, step),
        lambda: checkpoints.notes(tmp_path, step),
        lambda: checkpoints.is_good(tmp_path, step),
    ]
    for call in calls:
        # Shape checks of the tests come first, but where the type has an __index__.
        with pytest.raises(TypeError, match="step"):
            call()
    with pytest.raises(TypeError, match="step must be an integer, got "):
        places.as_step(step)
    with pytest.raises(TypeError, match="notes must be JSON"):
        checkpoints.save(tmp_path, 1, {"a": 1}, notes={"f": print})
    assert not [*tmp_path.iterdir()]


STRAY = (".DS_Store", "._x", ".nfs00a1", "Thumbs.db", "desktop.ini", ".directory")


@pytest.mark.parametrize("early", [False, True])
def test_what_file_managers_leave_is_ignored(tmp_path, early, monkeypatch):
    checkpoints.save(tmp_path, 7, {"a": np.arange(3)})
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        for name in STRAY:
            (folder / name).write_bytes(b"x")
    for name in ("²", "٣", "12", "1²"):
        (tmp_path / name).write_text("no folder, or no number")
    (tmp_path / "٤").mkdir()
    assert checkpoints.steps(tmp_path) == [7]
    assert checkpoints.is_good(tmp_path, 7)
    np.testing.assert_array_equal(checkpoints.restore(tmp_path)["a"], np.arange(3))
    checkpoints.save(tmp_path, 7, {"a": np.arange(4)})
    checkpoints.tidy(tmp_path)
    assert checkpoints.newest_good(tmp_path) == 7


def test_a_stray_file_that_comes_while_saving_is_no_part(tmp_path, monkeypatch):
    write = manifest.write

    def with_stray(path, *arguments):
        (path / ".DS_Store").write_bytes(b"1")
        write(path, *arguments)
        (path / ".DS_Store").write_bytes(b"2")

    monkeypatch.setattr(manifest, "write", with_stray)
    checkpoints.save(tmp_path, 7, {"a": np.arange(3)})
    assert checkpoints.is_good(tmp_path, 7)


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("~/run", pathlib.Path("~/run")):
        checkpoints.save(name, 1, {"a": 1})
        assert checkpoints.steps(name) == [1]
        assert checkpoints.restore(name, {"a": 0}) == {"a": 1}
        checkpoints.check_room(name, {"a": 1}, 1)
        checkpoints.remove(name, 1)
        checkpoints.tidy(name)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
