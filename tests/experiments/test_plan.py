"""Plans: every preset at its true numbers, and a smoke run's own steps."""

import math

import jax
import jax.numpy as jnp
import pytest

from experiments.common import fields, plan
from experiments.reproduce import STUDIES
from kd_heuristics import data

PRESETS = [(study, name) for study in STUDIES for name in study.presets]


@pytest.mark.parametrize(
    ("study", "name"), PRESETS, ids=lambda x: getattr(x, "name", x)
)
def test_every_preset_is_planned_without_its_data(study, name):
    found = study.plan(fields.resolved(study.presets[name]))
    assert found.trainings
    assert found.steps > 0
    assert found.memory > 0
    for set_name, _ in found.sets:
        assert set_name in data.names()
    for its in found.trainings:
        assert its.steps >= 1
        assert its.members >= 1
        assert its.network.parameters > 0


def test_a_narrow_terminal_cuts_no_name(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    net = plan.network("shallow", 10, (8, 8, 1), {"width": 0.05})
    name = "a-training-with-a-name-of-" + "many-" * 6 + "letters"
    sizes = {"members": 1, "steps": 1, "batch_size": 1}
    its = plan.Training(name=name, network=net, **sizes)
    found = plan.Plan(sets=(), trainings=(its,))
    plan.show("title", found)
    plan.table_of_presets([(name, found)])
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    tables = printed.replace("title", "Plans").split("Plans")[1:]
    firsts = (
        line.split("│")[1]
        for part in tables
        for line in part.splitlines()
        if "│" in line
    )
    assert "".join(word.strip() for word in firsts) == name * 2


def test_parameters_are_those_of_the_network():
    net = plan.network("shallow", 10, (32, 32, 3), {"width": 0.05})
    image = jnp.zeros((1, 32, 32, 3))
    params = net.made.init(jax.random.key(0), image)["params"]
    leaves = jax.tree.leaves(params)
    assert net.parameters == sum(math.prod(leaf.shape) for leaf in leaves)
