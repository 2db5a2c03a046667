"""The studies' claims: rules that the papers' own numbers pass, and the main ones."""

import dataclasses

import pytest

from experiments.common import fields, running
from experiments.reproduce import STUDIES
from kd_heuristics import runs

PRESETS = [(study, name) for study in STUDIES for name in study.presets]
MAIN = {
    "sgdr": {"barrier/sgdr/70-150", "barrier/step/145-155", "chain-gain"},
    "mode_connectivity": {"worst-minus-end", "worst-minus-segment"},
    "warmup": {
        "early-accuracy/warmup/large",
        "early-accuracy/freeze_fc/warmup",
        "fc-similarity/warmup/large",
    },
    "distillation": {"accuracy", "fc-change"},
    "fsp": {"accuracy/small_fsp/small", "accuracy/student/teacher"},
    "funmatch": {"distance/same/ic/fix/cc", "patience/mix"},
}


def claims_of(study, name):
    return study.claims(fields.resolved(study.presets[name]))


@pytest.mark.parametrize(
    ("study", "name"), PRESETS, ids=lambda x: getattr(x, "name", x)
)
def test_each_rule_passes_the_papers_own_value(study, name):
    for claim in claims_of(study, name):
        value = claim.paper
        if value is not None:
            found = runs.verdict(claim.kind, claim.smallest_effect, value, value, value)
            assert found == "reproduced", claim


@pytest.mark.parametrize(
    ("study", "name"), PRESETS, ids=lambda x: getattr(x, "name", x)
)
def test_each_claim_needs_trainings_that_the_study_trains(study, name):
    config = fields.resolved(study.presets[name])
    plan = study.plan(config)
    for claim in study.claims(config):
        assert {*claim.trainings} <= {*plan.stages, *plan.earlier}, claim.key


def test_a_claim_on_an_unknown_training_is_refused_before_the_run(monkeypatch):
    (study,) = (study for study in STUDIES if study.name == "warmup")
    config = fields.resolved(study.presets["smoke"])
    claims = list(study.claims(config))
    claims[0] = dataclasses.replace(claims[0], trainings=("warmup, end of warmpu",))
    wrong = dataclasses.replace(study, claims=lambda config: claims)
    words = f"training of claim '{claims[0].key}': .*'warmup, end of warmup'"
    with pytest.raises(ValueError, match=words):
        running.check_files(wrong, config)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_main_claims_are_these_and_no_others(study):
    claims = claims_of(study, "cifar10")
    assert {claim.key for claim in claims if claim.main} == MAIN[study.name]
    for name in study.presets:
        main = [claim for claim in claims_of(study, name) if claim.main]
        assert len(main) <= len(MAIN[study.name])
