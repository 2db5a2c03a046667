"""The table of differences in docs/tools/distill.md, measured in float64.

`python -m tests.distill.test_loss_table` measures again and writes it.
"""

import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill import test_divergences as logit
from tests.distill import test_relations as relation
from tests.distill.oracles import LABELS
from tests.modes import enable_x64

PAGE = pathlib.Path(__file__).parents[2] / "docs/tools/distill.md"
BEGIN, END = "<!-- differences: written by a test -->\n", "<!-- end -->\n"
HEAD = "| loss | formula | largest relative difference | published code, same input |\n"
HEAD += "|---|---|---|---|\n"
MDISTILLER = "[mdistiller](https://github.com/megvii-research/mdistiller)"
DIST_KD = "[DIST_KD](https://github.com/hunto/DIST_KD)"
STANDARD = "https://github.com/sunshangquan/logit-standardization-KD"


def maps(seed):
    return oracles.pairs(seed)[0][0]


def hint(student, teacher):
    return oracles.square(student, teacher) / 2


def fitnet(student, teacher):
    soft = oracles.soft_cross_entropy(student, teacher, 3.0)
    return oracles.hard_labels(student, LABELS) + 4 * soft


def hinton(student, teacher):
    hard = oracles.hard_labels(student, LABELS)
    return oracles.kl(student, teacher, 3.0) + hard / 2


def contrastive(student, teacher):
    bank = relation.bank()
    loss, _ = distill.contrastive(
        student, teacher, relation.INDEX, bank, relation.NEGATIVES
    )
    return loss


# name: (ours, float64 NumPy, input of a seed, formula, published code as measured once)
CASES = {
    "kl": (
        functools.partial(distill.kl, temperature=3.0),
        lambda s, t: oracles.kl(s, t, 3.0),
        oracles.logits,
        "Hinton et al. 2015, sec. 2",
        "–",
    ),
    "hinton": (
        lambda s, t: distill.hinton(s, t, LABELS, 3.0),
        hinton,
        oracles.logits,
        "the same, with labels",
        "–",
    ),
    "soft_cross_entropy": (
        functools.partial(distill.soft_cross_entropy, temperature=3.0),
        lambda s, t: oracles.soft_cross_entropy(s, t, 3.0),
        oracles.logits,
        "Romero et al. 2015, eq. 4",
        "–",
    ),
    "fitnet_loss": (
        lambda s, t: distill.fitnet_loss(s, t, LABELS, 4.0),
        fitnet,
        oracles.logits,
        "Romero et al. 2015, eq. 4",
        "–",
    ),
    "logit_matching": (
        distill.logit_matching,
        oracles.logit_matching,
        oracles.logits,
        "Hinton et al. 2015, sec. 2.1",
        "–",
    ),
    "l2": (
        distill.l2,
        oracles.square,
        oracles.logits,
        "Ba and Caruana 2014, eq. 1, per example",
        "–",
    ),
    "hint_loss": (distill.hint_loss, hint, maps, "Romero et al. 2015, eq. 3", "–"),
    "fsp_loss": (
        distill.fsp_loss,
        oracles.fsp_loss,
        oracles.pairs,
        "Yim et al. 2017, eq. 1 and 2",
        "–",
    ),
    "dkd": (
        lambda s, t: distill.dkd(s, t, LABELS),
        logit.dkd,
        oracles.logits,
        "Zhao et al. 2022, eq. 7",
        f"{MDISTILLER}, its authors': 1.4e-16",
    ),
    "dist": (
        lambda s, t: distill.dist(s, t).mean(),
        logit.dist,
        oracles.logits,
        "Huang et al. 2022, sec. 3",
        f"{DIST_KD}, its authors': 6.4e-10, by the 1e-8 it adds to norms",
    ),
    "standardize": (
        lambda s, t: distill.kl(*map(distill.standardize, (s, t)), 2.0),
        lambda s, t: oracles.kl(logit.standardize(s), logit.standardize(t), 2.0),
        oracles.logits,
        "Sun et al. 2024, with `kl`",
        f"[its authors']({STANDARD}): 7.4e-8, by the 1e-7 it adds to the deviation, "
        "at $T \\sqrt{C / (C - 1)}$ for its unbiased deviation",
    ),
    "reverse_kl": (
        lambda s, t: distill.reverse_kl(s, t, 3.0),
        lambda s, t: oracles.kl(t, s, 3.0),
        oracles.logits,
        "Gu et al. 2024",
        "–",
    ),
    "js": (distill.js, logit.js, oracles.logits, "Agarwal et al. 2024", "–"),
    "attention": (
        distill.attention,
        relation.attention,
        maps,
        "Zagoruyko and Komodakis 2017, eq. 2",
        'RepDistiller: 1.7e-16, with `reduction="mean"` (the paper has the norm)',
    ),
    "rkd": (
        distill.rkd,
        relation.rkd,
        oracles.logits,
        "Park et al. 2019, sec. 3.2",
        "RepDistiller: 2.6e-16, but for its division by $n^2$ and $n^3$ in place of "
        "the numbers of pairs and triples",
    ),
    "contrastive": (
        contrastive,
        lambda s, t: relation.contrastive(s, t, relation.bank())[0],
        lambda seed: (relation.X, relation.Y)[seed % 2],
        "Tian et al. 2020, sec. 3.2",
        "RepDistiller: 9.1e-7, by the 1e-7 it adds to denominators, 0 without; the "
        "banks 2.2e-16; with its constants Z as `normalizers`",
    ),
}


def measured(name):
    """The largest relative difference of a loss in float64, on ten random inputs."""
    ours, oracle, make, *_ = CASES[name]
    worst = 0.0
    for seed in range(10):
        student, teacher = make(seed), make(seed + 1)
        expected = np.asarray(oracle(student, teacher), np.longdouble)
        with enable_x64(True):
            wide = (
                jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), side)
                for side in (student, teacher)
            )
            found = np.asarray(ours(*wide))
        assert found.dtype == np.float64
        worst = max(worst, float(np.max(np.abs(found - expected) / np.abs(expected))))
    return worst


def row(name):
    """A row; the difference is rounded up to a power of ten."""
    *_, formula, code = CASES[name]
    power = math.ceil(math.log10(max(measured(name), 1e-16)))
    return f"| `{name}` | {formula} | below {10.0**power:.0e} | {code} |\n"


def page():
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table, after = rest.split(END)
    return before, table, after


@pytest.mark.parametrize("name", CASES)
def test_the_page_has_the_largest_difference(name):
    *_, formula, code = CASES[name]
    (line,) = (
        line for line in page()[1].splitlines() if line.startswith(f"| `{name}` |")
    )
    _, _, its_formula, difference, its_code, _ = map(str.strip, line.split("|"))
    assert (its_formula, its_code) == (formula, code)
    # Another processor rounds otherwise.
    assert measured(name) <= 10 * float(difference.removeprefix("below "))


def test_the_page_has_every_loss():
    lines = page()[1].splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == list(CASES)
    words = page()[0].split("## Losses")[1]
    assert all(f"`{name}`" in words for name in CASES)


if __name__ == "__main__":
    first, _, last = page()
    text = f"{first}{BEGIN}{HEAD}{''.join(map(row, CASES))}{END}{last}"
    PAGE.write_text(text, encoding="utf-8")
