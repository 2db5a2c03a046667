"""The same small computations on any mesh, as numbers to compare."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import curves, data, distill, models, points, similarity, training
from kd_heuristics.models import layers
from kd_heuristics.models.normalization import BatchNorm
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

STEPS, LOG = 8, 4


class ConvNet(nn.Module):
    """A convolution, a batch norm and a dense layer: what differs over devices."""

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.convolution(4, 3)(images)
        x = nn.relu(BatchNorm(use_running_average=not train)(x))
        logits = nn.Dense(4)(x.mean((1, 2)))
        return logits, {"00_conv": x, "01_fc": logits}


RNG = np.random.RandomState(1)
SET = data.Dataset(
    RNG.randint(0, 256, (40, 8, 8, 3)).astype(np.uint8),
    RNG.randint(0, 4, 40).astype(np.int32),
    4,
)
BATCHES = data.train_batches(SET, 16, padding=1, flip=True)
EVAL = data.eval_batches(SET, 16)  # 40 = 2 * 16 + 8
OPTIMIZER = training.sgd(0.02, 0.9, weight_decay=1e-3)
NETWORK = models.from_linen("tiny", ConvNet())
CLASSIFIER = training.Classifier(NETWORK, (127.0,) * 3, (60.0,) * 3)


def start(seed=0):
    variables = NETWORK.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    return variables["params"], variables["batch_stats"]


def supervised(mesh, **options):
    """Trained with batch norm over the whole batch."""
    return training.fit(
        CLASSIFIER.supervised,
        *start(),
        OPTIMIZER,
        BATCHES,
        num_steps=STEPS,
        mesh=mesh,
        **grouped(options, log_every_steps=LOG),
    )


def taught(teacher, params, batch_stats, batch, key):
    """The Kullback-Leibler divergence from a teacher in evaluation."""
    images = CLASSIFIER.inputs(batch["images"])
    logits, stats = NETWORK.train(
        {"params": params, "batch_stats": batch_stats}, images, key
    )
    loss = distill.kl(logits, NETWORK.apply(teacher, images), 4.0).mean()
    return loss, (stats, {"loss": loss})


def distillation(mesh):
    """Taught by a fixed network."""
    teacher = dict(zip(("params", "batch_stats"), start(1), strict=True))
    return training.fit(
        jax.tree_util.Partial(taught, teacher),
        *start(),
        OPTIMIZER,
        BATCHES,
        num_steps=STEPS,
        mesh=mesh,
    )


def frozen_stats(batch_stats, params, _, batch, key):
    """A network's loss with the statistics of evaluation."""
    values = CLASSIFIER.metric(params, batch_stats, {**batch, "mask": jnp.ones(16)})
    return values["loss"].mean(), ({}, {})


def curve(mesh):
    """A bend, and the points of its curve with statistics of their own."""
    (a, stats), (b, _) = start(), start(1)
    objective = jax.tree_util.Partial(
        curves.CurveLoss(),
        (a, b),
        jax.tree_util.Partial(frozen_stats, stats),
    )
    bend = training.fit(
        objective,
        (curves.midpoint(a, b),),
        {},
        OPTIMIZER,
        BATCHES,
        num_steps=STEPS,
        mesh=mesh,
    ).params
    moments = points.input_moments(CLASSIFIER.metric)
    batches = parallel.split_batches(EVAL, mesh)
    a, b, stats = parallel.replicate((a, b, stats), mesh)
    found = points.evaluate(
        curves.polychain([a, *bend, b]).at,
        [0.0, 0.25, 0.5, 1.0],
        batches,
        counted,
        refresh_stats=points.refit_exact(moments, stats, batches),
    )
    shared_out = points.evaluate(
        curves.polychain([a, *bend, b]).at,
        [0.0, 0.3, 1.0],
        parallel.replicate(EVAL, mesh),
        counted,
        batch_stats=stats,
        mesh=mesh,
    )
    return bend, found, shared_out


def counted(params, batch_stats, batch):
    """The metrics, and whether an example is right or there at all, as counts."""
    found = CLASSIFIER.metric(params, batch_stats, batch)
    return {**found, "label": batch["labels"].astype(jnp.float32)}


def similarities(mesh):
    """A map of two networks, by CKA: no division by what is nearly nothing."""
    nets = parallel.replicate((start(), start(1)), mesh)
    images = parallel.replicate(jnp.asarray(SET.images), mesh)
    bound = jax.tree_util.Partial(CLASSIFIER.features)
    a, b = (jax.tree_util.Partial(bound, *net) for net in nets)
    return similarity.stream_matrix(
        a,
        b,
        images,
        "cka",
        batch_size=16,
        conv="mean",
        mesh=mesh,
    )


VIEW = data.views.create("mix", teacher_size=4)


def seen(params, batch_stats, batch, key):
    found = VIEW.finish(batch, key)["student"].mean((1, 2)) @ params - batch["labels"]
    value = (found**2).mean()
    return value, (batch_stats, {"loss": value})


def streamed(mesh):
    """Each process reads the rows of its devices."""
    stream = data.stream("caltech_birds2011", "train", 8, 5, view=VIEW, mesh=mesh)
    return training.fit(
        seen,
        jnp.zeros(3),
        {},
        optax.sgd(1e-6),
        stream,
        num_steps=STEPS,
        steps_per_call=3,
        mesh=mesh,
    )


def population(mesh, spread):
    """Eight members of rates of their own."""
    params, stats = start()
    members = [
        training.Member(
            objective=CLASSIFIER.supervised,
            params=params,
            batch_stats=stats,
            optimizer=training.bind(training.sgd, jnp.float32(rate)),
            seed=seed,
        )
        for seed, rate in enumerate(np.linspace(0.01, 0.05, 8))
    ]
    state = training.population(
        members, BATCHES, num_steps=STEPS, mesh=mesh, spread=spread
    )
    return state, training.evaluate_members(counted, state, EVAL)


def everything(mesh):
    """`{name: array}` of all recipes on a mesh."""
    state = supervised(mesh)
    taught = distillation(mesh)
    found = {
        "supervised": state,
        "evaluation": training.evaluate(
            counted, state.params, state.batch_stats, EVAL, mesh=mesh
        ),
        "distillation": taught,
        "distilled": training.evaluate(
            counted, taught.params, taught.batch_stats, EVAL, mesh=mesh
        ),
        "curve": curve(mesh),
        "similarity": similarities(mesh),
        "streamed": streamed(mesh),
    }
    return flat(found)


def flat(tree):
    """`{path: array}`, whole in every process."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): parallel.to_host(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
