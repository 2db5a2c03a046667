"""A study whose sets are absent is refused before anything is made."""

import dataclasses
import sys

import pytest
from etils import epath

from experiments.common import fields, launch
from experiments.reproduce import STUDIES
from kd_heuristics import data
from kd_heuristics.data import fashion_mnist

PACKAGED = {"digits", "digits_photo", "photo_patches"}


def presets(study):
    """The presets whose sets do not all come with the package."""
    for name, config in study.presets.items():
        sets = study.plan(fields.resolved(config)).sets
        if not {its for its, _ in sets} <= PACKAGED:
            yield name, config


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_absent_sets_leave_nothing(
    study, tmp_path, tmp_path_factory, monkeypatch, capsys
):
    weights = tmp_path_factory.mktemp("weights") / "any.npz"
    weights.touch()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", epath.Path(tmp_path / "debian"))
    monkeypatch.setattr("kd_heuristics.runtime.compile_cache.use", lambda: None)
    monkeypatch.chdir(tmp_path)
    found = [*presets(study)]
    assert found
    for name, config in found:
        monkeypatch.setattr(sys, "argv", [study.name, "--preset", name])
        with pytest.raises(SystemExit) as stop:
            launch.main(study)
        assert stop.value.code in (1, 2)
        error = capsys.readouterr().err
        # FunMatch misses its teacher's weights first.
        assert "kd-heuristics prepare" in error or "_weights" in error
        given = [k for k, v in vars(config).items() if v and k.endswith("_weights")]
        config = dataclasses.replace(config, **dict.fromkeys(given, str(weights)))
        with pytest.raises(data.MissingDatasetError, match="kd-heuristics prepare"):
            launch.run(study, config, tmp_path / "run")
    assert not any(tmp_path.iterdir())
