"""`kd-heuristics similarity`: compares the layers of two networks."""

import dataclasses
import warnings
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kd_heuristics import similarity as tools
from kd_heuristics import training
from kd_heuristics.cli import output
from kd_heuristics.cli.connect import A, B
from kd_heuristics.cli.subject import Lab, Subject, make
from kd_heuristics.plots import maps, style
from kd_heuristics.runtime import nearest, parallel
from kd_heuristics.runtime.errors import InputError, checking_input
from kd_heuristics.similarity.measure import Name
from kd_heuristics.similarity.tokens import checked_mask, means

# Bound on the activations of a network, which a test and some measures hold at once.
_MOST_BYTES = 2**31


def similarity(
    a: A,
    b: B,
    /,
    *,
    subject: Annotated[Subject, tyro.conf.arg(name="")] = Subject(),  # noqa: B008
    model_b: str | None = None,
    model_b_options: tuple[str, ...] = (),
    measure: Name = "svcca",
    conv: Literal["auto", "dft", "positions", "mean"] = "auto",
    mask: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    k: int = 10,
    test: bool = False,
    permutations: int = 200,
    out: Path = Path("similarity"),
) -> None:
    r"""Measure the similarity of two networks' layers on test images.

    The noise floor accompanies the map: the same measure with the images of B in
    another order, so that the networks share nothing. A value that does not exceed the
    floor carries no information; more examples lower the floor. With --test, many such
    orders give calibrated values (0: unrelated, 1: identical) and p-values, corrected
    for the number of pairs.

    For example:

        kd-heuristics similarity runs/demo/warmup/checkpoints/small@0#0 \
            runs/demo/warmup/checkpoints/small#0

        kd-heuristics similarity teacher.npz student.npz --model resnet32 \
            --model-b shallow --data cifar10 --examples 10000 --measure cka --conv mean

        kd-heuristics similarity a.npz b.npz --model nets:make --data set.npz \
            --measure debiased_cka --conv mean --test

        kd-heuristics similarity a.npz b.npz --model lm.py:make --data text.npz \
            --mask attention_mask

    Writes results.json, arrays.npz and figures/similarity.png.

    Args:
      a: network of the rows.
      b: network of the columns.
      subject: model and data.
      model_b: model of the second network, if it differs; as --model.
      model_b_options: options of that model, as --model-options.
      measure: similarity measure; see `similarity.matrix` in the docs.
      conv: treatment of layers with positions: dft compares each frequency, positions
        takes every position as an example, mean takes channel means; auto takes dft for
        maps and mean for sequences. The results name the treatment of each layer.
      mask: name of an array in the data, [examples, tokens] of true and false or 1 and
        0, such as attention_mask: tokens with 0 are padding, which the means of layers
        [examples, tokens, units] leave out. The second axis of layers with four, such
        as [examples, tokens, heads, units], counts as that of the tokens, too.
      k: number of neighbours, for knn.
      test: run a permutation test of each pair of layers. It holds all activations in
        memory at once, as knn and rsa do.
      permutations: number of permutations of the test.
      out: folder of the results.
    """
    if test and permutations < 19:
        raise InputError(
            f"--permutations must be at least 19, for p-values below 0.05, got "
            f"{permutations}"
        )
    lab = other = make(subject, a, needs_loss=False)
    if model_b is not None:
        named = {"model": model_b, "model_options": model_b_options}
        changed = dataclasses.replace(subject, **named)
        other = make(changed, b, needs_loss=False)
    sides = [(lab, lab.variables(a)), (other, other.variables(b))]
    shapes = [_shapes(*side, lab.inputs) for side in sides]
    counts = None
    if mask is not None:
        counts, conv = _counts(lab, mask, conv, shapes), "mean"
    with output.folder(out):
        names = [list(own) for own in shapes]
        with checking_input():
            treatments = [tools.treatments(own, conv) for own in shapes]
        words = f"{len(names[0])} x {len(names[1])} layers, and their noise floor"
        if test or measure in ("knn", "rsa"):
            with output.progress(words, 1) as advance:
                first, second = (
                    _held(*side, lab.inputs, conv, subject.batch_size, counts)
                    for side in sides
                )
                how = {"conv": conv} | ({"k": k} if measure == "knn" else {})
                count = permutations if test else 0
                found = _tested(first, second, measure, count, how)
                advance(1)
        else:
            found = {}
            same = lab.inputs, counts  # jax takes None for an empty tree
            order = jax.random.permutation(jax.random.key(0), len(lab.inputs))
            other_order = jax.tree.map(lambda x: x[order], same)
            with output.progress(words, 2) as advance:
                for name, of_b in (("map", same), ("floor", other_order)):
                    how = measure, conv, subject.batch_size
                    found[name] = _map(sides, same, of_b, *how)
                    advance(1)
        results = {"a": a, "b": b, "measure": measure, "conv": conv}
        results |= {"layers_a": names[0], "layers_b": names[1]}
        results |= {"treatments_a": treatments[0], "treatments_b": treatments[1]}
        results |= {"examples": len(lab.inputs), "mask": mask}
        if test:
            results |= {"permutations": permutations}
        _tell(names, treatments, found)
        output.save(
            out, results, found, lambda path: _draw(path, names, found, measure)
        )


def _counts(lab: Lab, name: str, conv: str, shapes) -> jax.Array:
    """Returns the tokens that count, bool [examples, tokens], by an array's name."""
    if conv not in ("auto", "mean"):
        raise InputError(
            f"--mask is for means over tokens, --conv auto or mean, got --conv {conv}"
        )
    with checking_input():
        nearest.choose(name, sorted({*lab.test} - {lab.key}), "array of --mask")
    found = lab.test[name]
    if found.ndim != 2 or not np.isin(found, (0, 1)).all():
        raise InputError(
            f"--mask {name} must be [examples, tokens] of true and false, or of 1 and "
            f"0, got {found.dtype} {list(found.shape)} from {found.min()} to "
            f"{found.max()}"
        )
    for layer, shape in ((k, x.shape) for own in shapes for k, x in own.items()):
        if len(shape) > 2 and shape[1] != found.shape[1]:
            raise InputError(
                f"--mask {name} has {found.shape[1]} tokens for each example, and "
                f"layer {layer} has {shape[1]}; leave this layer out of the model's "
                "features"
            )
    with checking_input():
        found = checked_mask(found.astype(bool), len(found))
    return parallel.replicate(jnp.asarray(found), lab.mesh)


def _map(sides, of_a, of_b, measure, conv, batch_size) -> np.ndarray:
    """Returns the similarity of each layer of A to each layer of B.

    Both have their own images and tokens that count, which may be None.
    """
    (images_a, counts_a), (images_b, counts_b) = of_a, of_b
    features = []
    for key, (lab, variables) in zip("ab", sides, strict=True):
        bound = jax.tree_util.Partial(lab.task.features)
        features.append(
            jax.tree_util.Partial(_Side(key), bound, *training.unpacked(variables))
        )
    with checking_input(), warnings.catch_warnings():
        # The noise floor shows the saturation.
        warnings.simplefilter("ignore", tools.SaturationWarning)
        found = tools.stream_matrix(
            features[0],
            features[1],
            {"a": images_a, "b": images_b},
            measure,
            batch_size=batch_size,
            conv=conv,
            mask=None if counts_a is None else (counts_a, counts_b),
            mesh=sides[0][0].mesh,
        )
    return parallel.to_host(found)


def _held(lab, variables, images, conv, batch_size, counts) -> dict[str, np.ndarray]:
    """Returns a network's activations on the host; means if the treatment says so.

    `counts` are the tokens that count, or None.
    """
    features = jax.jit(lab.task.features)
    shapes = _shapes(lab, variables, images)
    averaged = {k for k, v in tools.treatments(shapes, conv).items() if v == "mean"}
    numbers = sum(
        leaf.shape[-1] if name in averaged else leaf.size
        for name, leaf in shapes.items()
    )
    if (size := 4 * numbers * len(images)) > _MOST_BYTES:
        raise InputError(
            f"the activations of {len(images)} images need {size / 2**30:.1f} GiB; use "
            f"--conv mean, or --examples {_MOST_BYTES // (4 * numbers)}"
        )
    trees, parts = training.unpacked(variables), dict[str, list]()
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        found = features(*trees, images[part])
        if counts is not None:
            found = means(found, counts[part])
        for name in sorted(found):
            array = parallel.to_host(found[name])
            if name in averaged and array.ndim > 2:
                array = array.mean(tuple(range(1, array.ndim - 1)))
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _tested(a, b, measure, permutations, how) -> dict[str, np.ndarray]:
    """Returns map and floor; with permutations, calibrated values and p-values too."""
    key = jax.random.key(0)
    with checking_input(), warnings.catch_warnings():
        # The noise floor shows the saturation.
        warnings.simplefilter("ignore", tools.SaturationWarning)
        found = {"floor": tools.shuffled_floor(a, b, key, measure, **how)}
        if permutations:
            test = tools.permutation_test(a, b, measure, permutations, key=key, **how)
            found |= {"map": test.value, "calibrated": test.calibrated}
            found["p_value"] = test.p_value
        else:
            found["map"] = tools.matrix(a, b, measure, **how)
    return {name: parallel.to_host(array) for name, array in found.items()}


@dataclasses.dataclass(frozen=True)
class _Side:
    """Features of one network on its own images; equal instances compile once."""

    key: str

    def __call__(self, features, params, batch_stats, images):
        return features(params, batch_stats, images[self.key])


def _shapes(lab: Lab, variables, images) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one example's activations, by layer; computes nothing."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    trees = training.unpacked(variables)
    return dict(sorted(jax.eval_shape(lab.task.features, *trees, one).items()))


def _tell(names, treatments, found) -> None:
    """Print the best match of each layer of A, with its noise floor."""
    rows = []
    for row, layer in enumerate(names[0]):
        best = int(np.argmax(found["map"][row]))
        value, floor = found["map"][row, best], found["floor"][row, best]
        which = names[1][best]
        seen = layer, treatments[0][layer], which, treatments[1][which]
        rows.append([*seen, float(value), float(floor)])
        if "p_value" in found:
            rows[-1] += [float(found[k][row, best]) for k in ("calibrated", "p_value")]
    columns = ["layer of A", "conv", "most like, of B", "conv of B"]
    columns += ["similarity", "noise floor"]
    if "p_value" in found:
        columns += ["calibrated", "p-value"]
    output.table("each layer of A", columns, rows)


def _draw(folder: Path, names, found, measure) -> None:
    with style.context():
        figure, axes = style.panels(1, 1, width=6.0, height=5.0)
        image = maps.heat_map(axes[0, 0], found["map"], *names, floor=found["floor"])
        axes[0, 0].set(xlabel="layer of B", ylabel="layer of A")
        label = f"{measure} (dots: not above the noise floor)"
        figure.colorbar(image, ax=axes[0, 0], label=label, shrink=0.8)
        style.save(figure, folder, "similarity")
