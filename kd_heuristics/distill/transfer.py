"""Transfers a network's weights to another label set.

A teacher's features serve a student of any label set, because hints and flow matrices
have no classes. Its logits serve the classes that both sets share (`common_classes`).
To train the teacher further on the other set, `adapt` keeps all weights but the last
layer's.

Weights come from a checkpoint (`checkpoints.restore`), from `.npz` files (`load_npz`)
or from any nested dictionaries. We cannot ship the ImageNet teacher of Yim et al. 2017,
table 5, a ResNet-34: see `imagenet`.
"""

import collections
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kd_heuristics.distill import checks
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import files, hosts

PyTree = Any


def adapt(
    target: PyTree, source: PyTree, replace: Callable[[str], bool] | None = None
) -> tuple[PyTree, tuple[str, ...]]:
    """Copies the source's weights into the target's tree, except the replaced layer.

    Args:
      target: initial variables, or parameters, of a network for the new label set.
      source: the same tree trained on another label set.
      replace: `path -> bool`, true for leaves that keep the target's values. Paths are
        like "params/fc_2/kernel". It is needed if both sets have equally many classes.
        `None` replaces the one layer whose shapes differ, if any.

    Returns: a tree with the target's structure and types, and the paths of the leaves
      that kept the target's values, to train them at a higher rate or to check them.

    Raises: ValueError, with the paths, if shapes differ in more than one layer, or in a
      layer outside `replace`; if leaves are missing or left over; if `replace` selects
      no leaf; if a leaf to keep is a shape without values.

    >>> body, head = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.ones((2, 10))}
    >>> target = {"conv": {"kernel": jnp.zeros((2, 2))},
    ...           "fc": {"kernel": jnp.zeros((2, 5))}}
    >>> tree, replaced = adapt(target, {"conv": body, "fc": head})
    >>> float(tree["conv"]["kernel"].sum()), tree["fc"]["kernel"].shape, replaced
    (4.0, (2, 5), ('fc/kernel',))
    """
    wanted, found = leaf_names.flat(target), leaf_names.flat(source)
    kept = _kept(wanted, found, replace)
    check_values(wanted, kept)
    _check(wanted, found, kept)
    tree = jax.tree.structure(target).unflatten(
        leaf if path in kept else jnp.asarray(found[path], jnp.result_type(leaf))
        for path, leaf in wanted.items()
    )
    return tree, tuple(kept)


def load_npz(path: files.AnyPath) -> dict[str, Any]:
    """Reads an `.npz` file, whose names are paths, into nested dictionaries.

    "params/conv_00/kernel" becomes tree["params"]["conv_00"]["kernel"]. Pickled objects
    are not read.

    Raises: FileNotFoundError; ValueError if the file is not an `.npz` of arrays, or a
      name is both an array and a parent of others.
    """
    try:
        arrays = files.read_arrays(files.path(path))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not an .npz file of plain arrays ({error}); write it with "
            "transfer.save_npz or np.savez"
        ) from error
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *folders, last = name.split("/")
        node: Any = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path} has {name!r}, below another array")
        if last in node:
            raise ValueError(f"{path} has {name!r} and arrays below it")
        node[last] = value
    return tree


def save_npz(path: files.AnyPath, tree: PyTree) -> None:
    """Writes a tree of nested dictionaries atomically, for `load_npz`.

    Args:
      path: the file; ".npz" is appended if missing.
      tree: dictionaries of arrays. bfloat16 is refused, because NumPy's files do not
        support it.

    Raises: ValueError for a type that could not be read back; files.WriteError if the
      file cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in leaf_names.flat(tree).items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"{name} holds {array.dtype}, which .npz files do not keep; convert it "
                "with .astype('float32')"
            )
    target = files.path(path)
    if target.suffix != ".npz":
        target = target.with_name(f"{target.name}.npz")
    hosts.first(files.write_arrays, target, arrays)


def common_classes(
    student: Sequence[str], teacher: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the indices of the common classes in two label sets.

    The losses compare the logits that `on_common` takes, which are predictions given
    that the class is a common one. The tokens that two vocabularies share are such
    classes; positions must then be the same, as for texts of common tokens.

    Args:
      student: names of the student's classes, in the order of its logits.
      teacher: names of the teacher's classes, likewise.

    Returns: integers s and t [common classes], in the student's order.

    Raises: ValueError for a repeated name, or fewer than two common classes.

    >>> s, t = common_classes(["cat", "dog", "ship"], ["ship", "cat"])
    >>> s.tolist(), t.tolist()
    ([0, 2], [1, 0])
    """
    for whose, names in (("student", student), ("teacher", teacher)):
        counts = collections.Counter(names)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"the {whose}'s class {twice[0]!r} is named twice")
    places = {name: index for index, name in enumerate(teacher)}
    shared = [index for index, name in enumerate(student) if name in places]
    if len(shared) < 2:
        raise ValueError(
            f"{len(shared)} classes are in common, and a softmax compares at least 2; "
            "use hints or FSP, which need no classes"
        )
    return np.array(shared), np.array([places[student[index]] for index in shared])


def on_common(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    common: tuple[Any, Any],
) -> tuple[jax.Array, jax.Array]:
    """Takes the logits of the common classes of two label sets or vocabularies.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., other classes].
      common: integers s and t [common classes], from `common_classes`, or an index map
        of your own: class s[i] of the student is class t[i] of the teacher.

    Returns: float [batch, ..., common classes] of each, for any loss of logits.

    Raises: ValueError for indices that are no integers, outside the classes, repeated,
      of different lengths or fewer than two.

    >>> student, teacher = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[5.0, 6.0]])
    >>> s, t = on_common(student, teacher, ([2, 0], [1, 0]))
    >>> s.tolist(), t.tolist()
    ([[3.0, 1.0]], [[6.0, 5.0]])
    """
    both = []
    sides = ("student", student_logits), ("teacher", teacher_logits)
    for (whose, values), indices in zip(sides, common, strict=True):
        logits = checks.logits(f"{whose} logits", values)
        places = np.asarray(indices)
        if places.dtype.kind not in "iu" or places.ndim != 1 or len(places) < 2:
            raise ValueError(
                f"the {whose}'s common classes are {places.dtype}{list(places.shape)}; "
                "wanted at least 2 integers, as common_classes gives them"
            )
        size, remedy = logits.shape[-1], "give the places among that side's logits"
        name = f"the {whose}'s common classes"
        checks.within(name, cast(jax.Array, checks.integers(places)), size, remedy)
        if len(np.unique(places)) < len(places):
            raise ValueError(f"{name} repeat a class; {remedy}, each once")
        both.append(logits[..., places])
    if both[0].shape[-1] != both[1].shape[-1]:
        raise ValueError(
            f"{both[0].shape[-1]} of the student's classes and {both[1].shape[-1]} of "
            "the teacher's are common; give one place on each side for each class"
        )
    return both[0], both[1]


def check_values(wanted: Mapping[str, Any], kept: Collection[str]) -> None:
    """Raises ValueError if a leaf to keep is a shape without values."""
    for path in kept:
        if isinstance(wanted[path], jax.ShapeDtypeStruct):
            raise ValueError(
                f"{path} must keep its value, but is only a shape from "
                "jax.eval_shape; give what network.init returns"
            )


def _kept(wanted, found, replace) -> list[str]:
    """Lists the paths of the leaves that keep the target's values."""
    if replace is not None:
        kept = [path for path in wanted if replace(path)]
        if not kept:
            raise ValueError(
                f"replace selects none of {', '.join(wanted)}; it must select the "
                "leaves that keep the target's values"
            )
        return kept
    differ = [
        p for p in wanted if p in found and np.shape(wanted[p]) != np.shape(found[p])
    ]
    layers = {path.rpartition("/")[0] for path in differ}
    if len(layers) > 1:
        shapes = ", ".join(_shapes(path, wanted, found) for path in differ)
        raise ValueError(
            f"more than one layer differs in shape: {shapes}; give networks of the "
            "same architecture, or name the layers with replace"
        )
    return [path for path in wanted if path.rpartition("/")[0] in layers]


# Unlike `models.bit_weights`, it allows leaves left over beside the kept layers.
def _check(wanted: Mapping, found: Mapping, kept: Sequence[str]) -> None:
    """Raises ValueError for missing, extra or misshapen leaves outside `kept`."""
    layers = {path.rpartition("/")[0] for path in kept}
    missing = [path for path in wanted if path not in kept and path not in found]
    left = [p for p in found if p not in wanted and p.rpartition("/")[0] not in layers]
    for paths, words in ((missing, "missing in"), (left, "left over from")):
        if paths:
            raise ValueError(
                f"{', '.join(paths)}: {words} the source; give networks of the same "
                "architecture"
            )
    for path, leaf in wanted.items():
        if path not in kept and np.shape(leaf) != np.shape(found[path]):
            raise ValueError(
                f"{_shapes(path, wanted, found)}: the shapes differ; replace must "
                "select this layer too"
            )


def _shapes(path, wanted, found) -> str:
    """Formats a leaf's path, wanted shape and found shape."""
    return f"{path} {np.shape(wanted[path])} for {np.shape(found[path])}"
