"""Every public tool on tiny input, as functions of a `World`."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import (
    alignment,
    averaging,
    checkpoints,
    curves,
    data,
    distill,
    freezing,
    landscape,
    points,
    schedules,
    sharpness,
    similarity,
    training,
)
from tests.conditions import worlds
from tests.grouped import grouped

RNG = np.random.RandomState(1)
COUNTS = (0, 1, 3, 7, 12)
X = RNG.normal(size=(8, 3)).astype(np.float32)
Y = np.arange(8) % 2
ACTS = RNG.normal(size=(2, 40, 4)).astype(np.float32)
MAPS = RNG.uniform(size=(2, 40, 4, 4, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(2, 5, 7)).astype(np.float32)
LABELS = np.arange(5) % 7
IMAGES = RNG.randint(0, 256, (20, 8, 8, 3)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool's call and which of its inputs a world may change."""

    call: Callable[[worlds.World], dict]
    takes: frozenset[str]


TOOLS: dict[str, Tool] = {}


def tool(*takes):
    def register(call):
        TOOLS[call.__name__] = Tool(call, frozenset(takes))
        return call

    return register


def logits_of(params, x):
    """A network of two layers, whatever holds its three leaves."""
    bias, kernel, out = jax.tree.leaves(params)
    precision = jax.lax.Precision.HIGHEST
    hidden = jnp.tanh(jnp.dot(x, kernel, precision=precision) + bias[None])
    return jnp.dot(hidden, out, precision=precision)


def metric(params, batch_stats, batch):
    del batch_stats
    logits = logits_of(params, batch["x"])
    return training.cross_entropy_and_accuracy(logits, batch["y"])


def objective(params, batch_stats, batch, key):
    del key
    values = metric(params, batch_stats, batch)
    means = {name: value.mean() for name, value in values.items()}
    return means["loss"], (batch_stats, means)


def batch_of(seed, step):
    first = jax.random.fold_in(jax.random.key(seed), step)
    chosen = jax.random.randint(first, (4,), 0, 8, jnp.int32)
    return {"x": jnp.asarray(X)[chosen], "y": jnp.asarray(Y, jnp.int32)[chosen]}


BATCHES = {"x": X.reshape(2, 4, 3), "y": Y.reshape(2, 4).astype(np.int32)}


def numbered(tree):
    return dict(enumerate(jax.tree.leaves(tree)))


@tool("numbers")
def every_schedule(world):
    i, r = world.integer, world.real
    made = {
        "sgdr": schedules.sgdr(
            r(0.5), i(4), i(2), r(0.125), warmup_steps=i(1), peak_decay=r(0.5)
        ),
        "cosine": schedules.cosine_decay(r(0.5), i(10), r(0.125)),
        "linear": schedules.linear_decay(r(0.5), i(10), r(0.125)),
        "step": schedules.step_decay(r(0.5), [i(3), i(7)], r(0.25)),
        "cyclic": schedules.cyclic(r(0.5), i(4), r(0.125)),
        "warmup": schedules.warmup(
            schedules.linear_decay(r(0.5), i(10)), i(3), r(0.125)
        ),
        "per_epoch": schedules.per_epoch(schedules.linear_decay(r(0.5), i(5)), i(3)),
        "wsd": schedules.wsd(
            r(0.5), i(10), warmup_steps=i(2), cooldown_steps=i(4), end_value=r(0.125)
        ),
        "warmup_cosine": training.warmup_cosine(i(10), i(2)),
    }
    counts = jnp.asarray(COUNTS, jnp.int32)

    def values():
        found = {
            f"{name}/{count}": schedule(i(count))
            for name, schedule in made.items()
            for count in COUNTS
        }
        return found | {f"{name}/all": made[name](counts) for name in made}

    found = world.call(values)
    found["restarts"] = schedules.sgdr_restarts(i(4), i(2), i(40))
    found["scaling"] = schedules.linear_scaling(r(0.25), i(64), i(128))
    return found


@tool("numbers", "params")
def freeze(world):
    i, r = world.integer, world.real
    found = {}
    inner = training.sgd(r(0.125), r(0.5))
    frozen = freezing.freeze(inner, worlds.in_first_layer, until=i(2))
    found["is_frozen"] = freezing.is_frozen(i(1), i(2))
    return numbered([found, steps_of(frozen, world.params())])


@tool("numbers", "params")
def freeze_around_adam(world):
    inner = training.adam(world.real(0.125), clip_norm=world.real(1.0))
    frozen = freezing.freeze(inner, worlds.in_first_layer, until=world.integer(2))
    return numbered(steps_of(frozen, world.params()))


def steps_of(optimizer, params, num_steps=4):
    """The parameters after each step, the gradient a quarter of them."""
    state, found = optimizer.init(params), []
    for _ in range(num_steps):
        gradients = jax.tree.map(lambda leaf: leaf / 4, params)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        found.append(params)
    return found


@tool("params")
def gradients_stopped(world):
    params = world.params()

    def loss(params):
        stopped = freezing.stop_frozen(params, worlds.in_first_layer)
        return (logits_of(stopped, jnp.asarray(X)) ** 2).mean()

    kept = freezing.keep_batch_stats(params, world.params(1.0), worlds.in_first_layer)
    return numbered((jax.grad(loss)(params), kept))


@tool("numbers", "params")
def every_curve(world):
    i, r = world.integer, world.real
    a, b, c = (world.params(shift) for shift in (0.0, 1.0, -0.5))
    found = {"distance": curves.distance(a, b), "middle": curves.midpoint(a, b)}
    for name, curve in {
        "line": curves.line(a, b),
        "chain": curves.polychain([a, c, b]),
        "bezier": curves.bezier([a, c, b]),
    }.items():
        found[f"{name}/at"] = curve.at(r(0.25))
        found[f"{name}/bends"] = curves.bends(
            curves.with_bends(curve, curves.bends(curve))
        )
        found[f"{name}/length"] = curves.length(curve, i(8))
        found[f"{name}/uniform"] = curves.uniform_t(curve, i(3), i(8))
        values = jnp.asarray([1.0, 2.0, 0.5], jnp.float32)
        ts = jnp.asarray([0.0, 0.5, 1.0], jnp.float32)
        found[f"{name}/integral"] = curves.arc_integral(ts, values, curve, i(8))
    return numbered(found)


@tool("keys", "numbers", "params")
def curve_loss(world):
    i, r = world.integer, world.real
    a, b = world.params(), world.params(1.0)
    loss = curves.CurveLoss(num_t=i(2), weight_decay=r(0.125), decays=worlds.is_kernel)
    bends = (curves.midpoint(a, b),)
    batch = batch_of(0, 0)

    def value(bends):
        return loss((a, b), objective, bends, {}, batch, world.key(0))[0]

    drawn = curves.sample_t(world.key(1), i(4), stratified=True)
    return numbered([drawn, world.call(lambda: jax.value_and_grad(value)(bends))])


@tool("keys", "numbers", "params")
def planes_and_directions(world):
    r = world.real
    a, b, c = world.params(), world.params(1.0), world.params(-0.5, power=3)
    found = []
    for axes in ("pca", "gram_schmidt"):
        plane = landscape.plane(a, b, c, axes=axes)
        x, y = plane.project(c)
        # The sign of a principal axis is arbitrary, so points stand for it.
        found += [plane.at(x, y), x**2 + y**2]
    directions = [
        landscape.random_direction(world.key(seed), a, norm)
        for seed, norm in enumerate(("filter", "layer", "weight", None))
    ]
    span = landscape.span(a, *directions[:2])
    path = landscape.trajectory([a, b, c])
    back = path.span.at(*path.coordinates[1])
    return numbered([found, directions, span.at(r(0.5), r(-0.25)), back, path.shares])


@tool("numbers", "params")
def metrics_at_points(world):
    i, r = world.integer, world.real
    line = curves.line(world.params(), world.params(1.0))
    ts = [r(0.0), r(0.5), r(1.0)]
    found = points.evaluate(line.at, ts, BATCHES, metric, chunk=i(2))
    summary = points.path_summary(found["loss"], ts)
    return found | summary | {"barrier": points.barrier(found["loss"])}


@tool("numbers")
def statistics_at_points(world):
    r = world.real
    stats = {"mean": jnp.zeros(2), "var": jnp.ones(2)}

    def train(params, batch_stats, batch):
        h = jnp.dot(batch["x"], params, precision="highest")
        momentum = np.float32(0.5)
        new = {"mean": h.mean(0), "var": h.var(0)}
        return jax.tree.map(
            lambda old, new: momentum * old + momentum * new, batch_stats, new
        )

    def value(params, batch_stats, batch):
        h = jnp.dot(batch["x"], params, precision="highest")
        h = (h - batch_stats["mean"][None]) / jnp.sqrt(batch_stats["var"])[None]
        return {"loss": jnp.square(h).sum(1)}

    kernels = worlds.KERNEL, worlds.KERNEL**2
    line = curves.line(*map(jnp.asarray, kernels))
    found = {}
    for name, refresh in {
        "pooled": points.refit_pooled(train, stats, BATCHES),
        "cumulative": points.refit_cumulative(train, stats, BATCHES),
    }.items():
        found[name] = points.evaluate(
            line.at, [r(0.0), r(0.5)], BATCHES, value, refresh
        )["loss"]
    return found


def mean_loss(params, batch):
    return metric(params, {}, batch)["loss"].mean()


@tool("keys", "numbers", "params")
def every_sharpness(world):
    i, params = world.integer, world.params()
    options = {"key": world.key(0), "num_products": i(12)}  # all dimensions
    values, vectors = sharpness.top(mean_loss, params, BATCHES, i(2), **options)
    squares = [jax.tree.map(jnp.square, vector) for vector in vectors]  # any sign
    # Rounded leaves have other signs in each world; a sum over samples is a moment.
    nodes, weights = sharpness.density(
        mean_loss, params, BATCHES, num_samples=i(2), **options
    )
    moments = [(weights * nodes**power).sum() for power in (0, 1, 2)]
    traces = sharpness.trace(
        mean_loss, params, BATCHES, key=world.key(1), num_samples=i(4)
    )
    return numbered([values, squares, moments, traces])


@tool()
def aligned(world):
    params, other = world.params(), world.params(0.5)
    found = alignment.spec(logits_of, params, X[:2])
    moved = alignment.align(params, other, found, key=world.key(0))
    return numbered([moved, alignment.match(params, other, found, key=world.key(0))])


@tool("params")
def averages(world):
    networks = [world.params(shift) for shift in (0.0, 1.0, -0.5)]
    running = averaging.init(networks[0])
    for params in networks[1:]:
        running = averaging.update(running, params)
    found = averaging.mean(networks), averaging.result(running)
    return numbered([found, averaging.ensemble(LOGITS)])


@tool("keys", "numbers")
def every_similarity(world):
    i, r = world.integer, world.real
    x, y = ACTS[0], ACTS[1] + ACTS[0]
    return {
        "cca": similarity.cca(x, y),
        "svcca": similarity.svcca(x, y, r(0.875)),
        "pwcca": similarity.pwcca(x, y),
        "cka": similarity.cka(x, y),
        "google_cca": similarity.google_cca(x, y),
        "procrustes": similarity.procrustes(x, y),
        "knn": similarity.knn(x, y, i(5)),
        "rsa": similarity.rsa(x, y),
    }


def hidden(x):
    return {"h": x}


@tool("keys", "numbers")
def similarity_maps(world):
    i, r = world.integer, world.real
    maps = {"conv": MAPS[0], "fc": ACTS[0]}
    sequences = {"h": MAPS[0].reshape(40, 16, 3)}
    return {
        "floor": similarity.noise_floor(i(40), i(4), i(4)),
        "above": similarity.above_floor(r(0.5), r(0.25)),
        "tokens": similarity.tokens(sequences, take="each"),
        "treatments": [
            kind == "dft" for kind in similarity.treatments(maps, "auto").values()
        ],
        "dft_cca": similarity.dft_cca(MAPS[0], MAPS[1]),
        "matrix": similarity.matrix(maps, conv="mean", measure="cka"),
        "auto": similarity.matrix(maps | sequences, conv="auto", measure="cka"),
        "shuffled": similarity.shuffled_floor(
            maps, None, world.key(0), "cka", "mean", repeats=i(2)
        ),
        "tested": similarity.permutation_test(
            ACTS[0], ACTS[1], "cka", i(19), key=world.key(1)
        ).p_value,
        "several": similarity.stream_matrices(
            hidden, None, ACTS[0], ("cka", "cca"), batch_size=i(16)
        ),
        "streamed": similarity.stream_matrix(
            hidden, None, ACTS[0], "cka", batch_size=i(16)
        ),
    }


def flow_of(maps):
    return [distill.fsp_matrix(maps, maps)]


@tool("numbers")
def every_loss(world):
    r = world.real
    student, teacher = LOGITS
    pairs = [((m, m),) for m in MAPS]
    options = {"temperature": r(2.0)}
    return world.call(
        lambda: {
            "kl": distill.kl(student, teacher, **options),
            "soft": distill.soft_cross_entropy(student, teacher, **options),
            "hinton": distill.hinton(
                student,
                teacher,
                LABELS,
                soft_weight=r(0.5),
                hard_weight=r(0.25),
                **options,
            ),
            "logits": distill.logit_matching(student, teacher),
            "l2": distill.l2(student, teacher),
            "hard": distill.hard_labels(student, LABELS),
            "hint": distill.hint_loss(*MAPS),
            "fitnet": distill.fitnet_loss(student, teacher, LABELS, weight=r(2.0)),
            "fsp": distill.fsp_loss(*pairs),
            "flow": distill.fsp_matrix(*MAPS),
            "flow_distance": distill.fsp_distance(
                *([distill.fsp_matrix(m, m)] for m in MAPS)
            ),
            "agreement": distill.agreement(student, teacher),
            "dkd": distill.dkd(student, teacher, LABELS, beta=r(2.0), **options),
            "dist": distill.dist(student, teacher, gamma=r(0.5), **options),
            "standardize": distill.standardize(student),
            "reverse_kl": distill.reverse_kl(student, teacher, **options),
            "js": distill.js(student, teacher, weight=r(0.25), **options),
            "attention": distill.attention(*MAPS),
            "rkd": distill.rkd(*ACTS[:, :6], angle=r(0.5)),
        }
    )


@tool("keys", "numbers")
def contrastive_loss(world):
    i, r = world.integer, world.real
    start = distill.init_bank(world.key(0), i(12), i(4))
    student, teacher = ACTS[:, :5]
    negatives = np.arange(15).reshape(5, 3) % 12
    values, bank = world.call(
        lambda: distill.contrastive(
            student,
            teacher,
            2 * LABELS,
            start,
            negatives,
            temperature=r(0.5),
            momentum=r(0.25),
            normalizers=(r(2.0), r(1.0)),
        )
    )
    return {"values": values, "student": bank.student, "teacher": bank.teacher}


@tool("keys", "numbers")
def teachers(world):
    r = world.real
    members = [distill.Teacher(jnp.multiply, jnp.asarray(part)) for part in LOGITS]
    inputs = jnp.asarray(LOGITS[0])
    stored = distill.store(
        members[0], {"index": np.arange(10).reshape(2, 5), "x": LOGITS}["x"]
    )
    return {
        "mean": distill.mean_of_logits(members)(inputs),
        "probabilities": distill.mean_of_probabilities(members, r(2.0))(inputs),
        "stored": stored({"index": jnp.arange(3)}),
    }


@tool("keys", "numbers")
def images(world):
    i = world.integer
    labels = np.arange(20, dtype=np.int32) % 4
    dataset = data.Dataset(IMAGES, labels, 4)
    batches = data.train_batches(dataset, i(6), padding=i(1), flip=True, index=True)
    mean, std = data.channel_stats(dataset)
    batch = batches(i(3), i(5))
    key = world.key(0)
    return numbered(
        [
            batch,
            data.eval_batches(dataset, i(8)),
            data.batch_indices(i(0), i(2), i(20), i(6)),
            data.batch_indices(i(0), i(3), i(20), i(6), "carry"),
            data.augment(batch["images"], key, padding=i(1), flip=True),
            data.normalize(batch["images"], mean, std),
            data.steps_per_epoch(i(20), i(6)),
            data.num_steps(i(3), i(20), i(6), "carry"),
        ]
    )


@tool("keys")
def views_of_images(world):
    view = data.views.create("mix", teacher_size=6, student_size=4)
    return world.call(lambda: dict(view(jnp.asarray(IMAGES[:3]), world.key(0))))


@tool("numbers", "params")
def fit(world):
    i, r = world.integer, world.real
    start = world.params()
    options = {
        "num_steps": i(5),
        "seed": i(3),
        "log_every_steps": i(2),
        "steps_per_call": i(2),
    }
    optimizer = training.ema(training.sgd(r(0.125), r(0.5)), r(0.5))
    state = training.fit(objective, start, {}, optimizer, batch_of, **grouped(options))
    values = training.evaluate(metric, state.params, {}, BATCHES)
    averaged = training.ema_params(state.opt_state)
    return numbered([state.params, state.step, values, averaged])


@tool("numbers", "params")
def population(world):
    i, r = world.integer, world.real
    members = [
        training.Member(
            objective=objective,
            params=world.params(),
            batch_stats={},
            optimizer=training.bind(training.sgd, jnp.float32(r(rate))),
            seed=i(seed),
            stage=f"member {seed}",
        )
        for seed, rate in enumerate((0.125, 0.25))
    ]
    state = training.population(members, batch_of, num_steps=i(3), at_once=i(1))
    values = training.evaluate_members(metric, state, BATCHES)
    return numbered([state.params, values])


@tool("numbers", "params")
def decayed_sgd(world):
    return numbered(steps_of(decayed(training.sgd, world), world.params()))


@tool("numbers", "params")
def decayed_adam_and_shampoo(world):
    makes = training.adam, training.shampoo
    return numbered(
        [steps_of(decayed(make, world), world.params(), 2) for make in makes]
    )


def decayed(make, world):
    # A tuple does not say which leaves are kernels.
    mask = {"mask": kernels_by_place} if world.container == "tuple" else {}
    return make(world.real(0.125), weight_decay=world.real(0.125), **mask)


def kernels_by_place(params):
    return jax.tree.map(lambda leaf: leaf.ndim == 2, params)


@tool("keys", "numbers", "params")
def saved_and_restored(world):
    i = world.integer
    tree = {"params": world.params(), "key": world.key(7), "step": jnp.int32(5)}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(folder, i(3), tree)
        like = checkpoints.restore(folder, tree, i(3))
        plain = checkpoints.restore(folder)
    draws = [jax.random.bits(found["key"], dtype=jnp.uint32) for found in (like,)]
    numbers = [like["params"], like["step"], checkpoints.size(tree["params"])]
    return numbered([numbers, draws, plain["params"]])


@functools.cache
def expected(name):
    """The numbers of the world as it comes."""
    return as_numpy(TOOLS[name].call(worlds.World()))


def as_numpy(found):
    return jax.tree.map(
        lambda leaf: np.asarray(leaf), found, is_leaf=lambda x: x is None
    )
