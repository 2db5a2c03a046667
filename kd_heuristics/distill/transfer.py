"""A network's weights for another label set.

A teacher's features serve a student of any label set: hints and flow matrices have no
classes. Its logits serve where classes are in common (`common_classes`). To go on
training it on the other set, `adapt` takes all of its weights but the last layer.

Weights come from a checkpoint (`checkpoints.restore`), from `.npz` files (`load_npz`)
or from elsewhere as nested dictionaries. The ImageNet teacher of Yim et al. 2017, table
5, a ResNet-34, is not ours to ship: see `imagenet`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import files, hosts, leaf_names

PyTree = Any


def adapt(
    target: PyTree, source: PyTree, replace: Callable[[str], bool] | None = None
) -> tuple[PyTree, tuple[str, ...]]:
    """The source's weights in the target's tree, but for the layer that is replaced.

    Args:
      target: what a network of the new label set was initialised to: a tree of
        parameters, or of all variables.
      source: a tree trained on another label set.
      replace: `path -> bool`, true for the leaves that keep the target's values, of
        paths such as "params/fc_2/kernel"; to be given where both sets have as many
        classes. None: the one layer whose shapes differ, if there is one.

    Returns: a tree of the target's form and types, and the paths of the leaves that
      are the target's: those to train at a higher rate, or to check by eye.

    Raises: ValueError, with the paths, where shapes of more than one layer differ, or
      of any besides those of `replace`; where leaves are missing or left over; where
      `replace` names none; where a leaf that stays is only a shape.

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
    """Nested dictionaries of an `.npz` file, whose names are paths.

    "params/conv_00/kernel" becomes tree["params"]["conv_00"]["kernel"]. Pickled objects
    are not read.

    Raises: FileNotFoundError; ValueError where the file is no `.npz` of arrays, or a
      name is both an array and a folder of others.
    """
    with files.path(path).open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:
            raise ValueError(
                f"{path} is no .npz file of plain arrays ({error}); write it with "
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
    """Writes a tree of nested dictionaries so that `load_npz` reads it.

    The file is written whole or not at all.

    Args:
      path: of the file; ".npz" is appended where it does not end so.
      tree: dictionaries of arrays; bfloat16, which NumPy's files do not know, is
        refused.

    Raises: ValueError for a type that would not be read back; files.WriteError where
      the file cannot be written.
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
    hosts.first(_write, target, arrays)


def _write(target, arrays):
    # Not allow_pickle=False: an array of that name to NumPy 2.0; the types are checked.
    with files.whole(target) as partial, partial.open("wb") as stream:
        np.savez(stream, **dict[str, Any](arrays))


def common_classes(
    student: Sequence[str], teacher: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the classes in common stand in two label sets.

    The losses compare `student_logits[:, s]` and `teacher_logits[:, t]`: predictions
    given that the class is one of these.

    Args:
      student: the names of the student's classes, in the order of its logits.
      teacher: the teacher's.

    Returns: integers s and t [classes in common], in the student's order.

    Raises: ValueError for a name given twice, and for fewer than two in common.

    >>> s, t = common_classes(["cat", "dog", "ship"], ["ship", "cat"])
    >>> s.tolist(), t.tolist()
    ([0, 2], [1, 0])
    """
    for whose, names in (("student", student), ("teacher", teacher)):
        twice = sorted({name for name in names if list(names).count(name) > 1})
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


def check_values(wanted: Mapping[str, Any], kept: Collection[str]) -> None:
    """Raises ValueError where a leaf that is to be kept is a shape without values."""
    for path in kept:
        if isinstance(wanted[path], jax.ShapeDtypeStruct):
            raise ValueError(
                f"{path} is to be kept, but of it only the shape is given, of "
                "jax.eval_shape; give what network.init returns"
            )


def _kept(wanted, found, replace) -> list[str]:
    """Paths of the leaves that keep the target's values."""
    if replace is not None:
        kept = [path for path in wanted if replace(path)]
        if not kept:
            raise ValueError(f"replace names none of {', '.join(wanted)}")
        return kept
    differ = [
        p for p in wanted if p in found and np.shape(wanted[p]) != np.shape(found[p])
    ]
    layers = {path.rpartition("/")[0] for path in differ}
    if len(layers) > 1:
        shapes = ", ".join(_shapes(path, wanted, found) for path in differ)
        raise ValueError(
            f"more than one layer differs in shape: {shapes}; give networks of one "
            "form, or name the layers to replace"
        )
    return [path for path in wanted if path.rpartition("/")[0] in layers]


def _check(wanted: Mapping, found: Mapping, kept: Sequence[str]) -> None:
    layers = {path.rpartition("/")[0] for path in kept}
    missing = [path for path in wanted if path not in kept and path not in found]
    left = [p for p in found if p not in wanted and p.rpartition("/")[0] not in layers]
    for paths, words in ((missing, "missing in"), (left, "left over from")):
        if paths:
            raise ValueError(
                f"{', '.join(paths)}: {words} the source; give networks of one form"
            )
    for path, leaf in wanted.items():
        if path not in kept and np.shape(leaf) != np.shape(found[path]):
            raise ValueError(
                f"{_shapes(path, wanted, found)}: the shapes differ; replace must name "
                "this layer too"
            )


def _shapes(path, wanted, found) -> str:
    return f"{path} {np.shape(wanted[path])} for {np.shape(found[path])}"
