"""Run folders such as the studies leave, with numbers drawn at random."""

import numpy as np

from experiments.common import figures, maps
from experiments.distillation import study as distillation
from experiments.fsp import study as fsp
from experiments.funmatch import study as funmatch
from experiments.mode_connectivity import study as mode_connectivity
from experiments.sgdr import study as sgdr
from experiments.warmup import study as warmup
from kd_heuristics import report, runs
from kd_heuristics.plots import stored, style

LAYERS = np.array(["00_conv", "01_relu", "02_fc"])
SEEDS, POINTS = 2, 3
COMMON = {"dataset": "digits_photo", "model": "vgg11", "seeds": SEEDS, "first_seed": 0}


def write(root, names=None):
    """The folders of these studies (None: all) below `root`; their arrays by study."""
    random = np.random.default_rng(0)
    found = {}
    for name in names or MAKERS:
        config, arrays, results = MAKERS[name](random)
        run = runs.RunFolder(root / name)
        its = STUDIES[name]
        run.open({**its.opening, "config": COMMON | config})
        run.begin()
        run.save_arrays("arrays.npz", arrays)
        run.write_json("results.json", {"claims": [_claim()], **results})
        for figure, data in figures.described(its, run.path).items():
            stored.save(data, run.path, figure)
            with style.context():  # smaller than the real ones, which take seconds
                image, _ = style.panels(1, 1, width=2.0, height=1.5)
                style.save(image, run.path, figure)
        found[name] = arrays
    return found


def _claim(key="barrier/sgdr/0-2"):
    claim = report.Claim(
        key=key,
        words="it rises",
        kind="difference",
        smallest_effect=0.1,
        unit="nats",
        paper=0.5,
        main=True,
    )
    [judged] = report.judge_all([claim], {claim.key: [1.0, 1.1, 0.9]}, looks=(3,))
    return judged


def _by_measure(arrays, name, measure, key):
    """Calibrated maps of a map's name, and results of a claim about them."""
    row = {kind: {"mean": 0.1} for kind in maps.endings(measure)}
    arrays |= {f"{name}{end}": arrays[name] for end in maps.endings(measure).values()}
    return {"claims": [_claim(), _claim(key)], "similarities_by_measure": {key: row}}


def _sgdr(random):
    config = {
        "sgdr_pairs": [[0, 2]],
        "step_pairs": [[0, 1]],
        "planes": [[0, 2]],
        "map_pairs": [[0, 1], [0, 2]],
        "measure": "svcca",
        "smallest_effect": 0.05,
        "more_arms": [],
        "averaged": [],
        "twin_epochs": [],
    }
    arrays = {"t": np.linspace(0, 1, POINTS), "layers": LAYERS}
    for arm, pair in (("sgdr", "0-2"), ("step", "0-1"), ("cosine", "0-2")):
        arrays[f"{arm}/test_accuracy"] = random.random((SEEDS, 4))
        arrays[f"{arm}/{pair}/distance"] = random.random(SEEDS)
        arrays[f"{arm}/rate_epoch"] = np.arange(4.0)
        arrays[f"{arm}/rate"] = random.random(4)
        for path in ("segment", "chain"):
            for metric in (
                "train_loss",
                "test_loss",
                "train_accuracy",
                "test_accuracy",
            ):
                arrays[f"{arm}/{pair}/{path}/{metric}"] = random.random((SEEDS, POINTS))
    for name in ("restart", "first-last", "seeds", "floor"):
        arrays[f"maps/{name}"] = random.random((SEEDS, 3, 3))
    plane = {
        "xs": np.linspace(0, 1, 4),
        "ys": np.linspace(0, 1, 3),
        "anchors": random.random((3, 2)),
        "train_loss": np.array([[0.0, 1, 2, np.inf]] * 3),
        "test_loss": random.random((3, 4)),
        "affine": random.random((1, 2)),
        "epochs": np.array([1]),
    }
    arrays |= {f"plane-0-2/{k}": v for k, v in plane.items()}
    return (
        config,
        arrays,
        _by_measure(arrays, "maps/restart", "svcca", "similarity/restart-whole"),
    )


def _mode_connectivity(random):
    config = {"modes": ["G", "A"], "curve_epochs": [1, 2], "as_good_as": 0.02}
    config |= {"kinds": ["chain", "decayed", "bezier"], "aligned": []}
    arrays = {"t": np.linspace(0, 1, POINTS), "map": random.random((SEEDS, 3, 2))}
    for metric in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        arrays[f"GA/segment/{metric}"] = random.random((SEEDS, POINTS))
        for kind in ("chain", "decayed", "bezier"):
            arrays[f"GA/{kind}/{metric}"] = random.random((SEEDS, 2, POINTS))
    return config, arrays, {}


def _warmup(random):
    arms = ["small", "large", "warmup", "freeze_fc", "clip"]
    config = {"arms": arms, "epochs": 4, "warmup_epochs": 2, "measure": "cca"}
    config["sharpness_steps"] = []
    arrays = {"layers": LAYERS, "similarity_floor": random.random((3, 3))}
    arrays["kernels"] = np.array(["conv", "fc"])
    arrays["warmup/similarity_later"] = random.random((SEEDS, 3, 3))
    for arm in arms:
        arrays[f"{arm}/test_accuracy"] = random.random((SEEDS, 4))
        arrays[f"{arm}/change"] = random.random((SEEDS, 2))
        arrays[f"{arm}/rate_rest"] = random.random(4)
        arrays[f"{arm}/similarity"] = random.random((SEEDS, 3, 3))
    return (
        config,
        arrays,
        _by_measure(arrays, "warmup/similarity", "cca", "fc-similarity/warmup/large"),
    )


def _distillation(random):
    config = {"temperature": 5.0, "temperatures": [5.0], "kinds": ["hint"]}
    config |= {"measure": "svcca", "teacher": "vgg11", "losses": [], "nulls": []}
    arrays = {"layers": LAYERS[:2], "teacher_layers": LAYERS}
    second = ("second/distilled", "second/independent")
    for arm in ("soft-5", "independent", "hint", "other_independent", *second):
        arrays[f"map/{arm}"] = random.random((SEEDS, 3, 2))
    for arm in ("soft-5", "independent", "hint", "teacher"):
        arrays[f"{arm}/test_accuracy"] = random.random((SEEDS, 4))
    return config, arrays, _by_measure(arrays, "map/soft-5", "svcca", "fc-change")


def _fsp(random):
    arrays = {}
    for arm in ("teacher", "teacher_fast", "fitnet", "student"):
        arrays[f"{arm}/step"] = np.arange(4)
        for metric in ("loss", "test_accuracy"):
            arrays[f"{arm}/{metric}"] = random.random((SEEDS, 3, 4))
    config = {"teacher": "resnet8", "paper_tables": ["table1", "table3", "table5"]}
    row = {
        "nets": [[0.9, 0.92]],
        "average": report.summary([0.9, 0.92]),
        "ensemble": report.summary([0.93]),
    }
    tables = {"fast": {"teacher": row}, "small": {}, "transfer": {}}
    tables["fidelity"] = {}
    tables["paper"] = {"table1": {"teacher": {"average": 0.9175, "ensemble": 0.9348}}}
    return config, arrays, tables


def _funmatch(random):
    config = {"main": ["mix", "fix/cc"], "settings": [{"epochs": 1}, {"epochs": 2}]}
    config["teacher"] = "vgg11"
    numbers = ("test_accuracy", "test_kl", "test_agreement")
    arms = {
        arm: {
            epochs: {key: report.summary(random.random(SEEDS)) for key in numbers}
            | {"setting": {"epochs": int(epochs)}}
            for epochs in ("1", "2")
        }
        for arm in config["main"]
    }
    arrays = {}
    for stage in ("mix@2", "fix-cc@2"):
        arrays[f"{stage}/step"] = np.arange(3)
        for key in ("kl", "validation_kl", "validation_accuracy"):
            arrays[f"{stage}/{key}"] = random.random((SEEDS, 3))
    return config, arrays, {"arms": arms, "teacher_accuracy": {"test": 0.9}}


MODULES = (sgdr, mode_connectivity, warmup, distillation, fsp, funmatch)
STUDIES = {module.STUDY.name: module.STUDY for module in MODULES}


MAKERS = {
    "sgdr": _sgdr,
    "mode_connectivity": _mode_connectivity,
    "warmup": _warmup,
    "distillation": _distillation,
    "fsp": _fsp,
    "funmatch": _funmatch,
}
