"""Figures of runs that were made before a field of the config came."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.common import fields, figures
from kd_heuristics import runs
from kd_heuristics.plots import FigureError
from kd_heuristics.runs.descriptions import to_json
from tests.report import folders

STUDIES = pytest.mark.parametrize("name", folders.MAKERS)


class Asked(dict):
    """A config that lists what was read of it."""

    def __init__(self, config):
        super().__init__(config)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


class Folder:
    """A run folder of numbers at random, and what its figures read of the config."""

    def __init__(self, name, path):
        self.study = folders.STUDIES[name]
        config, arrays, results = folders.MAKERS[name](np.random.default_rng(0))
        self.config = folders.COMMON | config
        self.run = runs.RunFolder(path)
        self.run.open(self.study.opening | {"config": self.config})
        self.run.write_json(
            "environment.json", {"invocations": [{"git_commit": "7113c89"}]}
        )
        self.run.save_arrays("arrays.npz", arrays)
        self.run.write_json("results.json", {"claims": [], **results})
        asked = Asked(self.run.read_json("config.json")["config"])
        self.study.figures(asked, self.run.read_json("results.json"), arrays)
        self.asked = asked.names

    def figures(self, config):
        """The figures of the folder with this config, as JSON."""
        described = self.run.read_json("config.json") | {"config": config}
        self.run.write_json("config.json", described)
        made = figures.described(self.study, self.run.path)
        return {name: json.dumps(to_json(own)) for name, own in made.items()}


def kind(study):
    return study.presets["smoke"]


@STUDIES
def test_a_field_that_came_later_is_at_its_default(name, tmp_path):
    folder = Folder(name, tmp_path)
    own = kind(folder.study)
    defaults = {
        field.name: to_json(field.default)
        for field in dataclasses.fields(own)
        if field.default is not dataclasses.MISSING
    }
    # Others would need arrays of their own.
    off = {key for key in folder.asked & {*defaults} if not folder.config[key]}
    off = {key for key in off if not defaults[key]}
    if name not in ("fsp", "funmatch"):
        assert off
    for key in (*sorted(off), [*defaults][-1]):
        there = folder.config | {key: defaults[key]}
        absent = {other: value for other, value in there.items() if other != key}
        assert folder.figures(absent) == folder.figures(there), key


@STUDIES
def test_a_field_that_follows_from_others_is_named(name, tmp_path):
    folder = Folder(name, tmp_path)
    own = kind(folder.study)
    derived = [key for key in fields.derived(own) if getattr(type(own), key) is None]
    assert derived or name != "sgdr"
    for key in {*derived} & folder.asked:
        absent = {k: value for k, value in folder.config.items() if k != key}
        with pytest.raises(FigureError, match=f"the field '{key}' .* commit 7113c89"):
            folder.figures(absent)


def test_fields_of_configs_inside_are_completed_too():
    study = folders.STUDIES["funmatch"]
    config = to_json(dataclasses.asdict(fields.resolved(kind(study))))
    setting = dataclasses.fields(kind(study).settings[0])
    newest = [f for f in setting if f.default is not dataclasses.MISSING][-1]
    for own in config["settings"]:
        del own[newest.name]
    found = figures.later.completed(config, [kind(study)], "7113c89")
    default = to_json(newest.default)
    assert [own[newest.name] for own in found["settings"]] == [default] * 2


def test_a_default_that_a_function_makes_is_a_default():
    @dataclasses.dataclass(frozen=True)
    class Config:
        names: list = dataclasses.field(default_factory=lambda: ["a"])

    found = figures.later.completed({}, [Config()], "7113c89")
    assert found == {"names": ["a"]}


@STUDIES
@pytest.mark.parametrize("preset", ["smoke", "digits"])
def test_titles_name_the_preset_whose_config_it_is(name, preset):
    """Wherever the run lies, and whatever its seeds."""
    study = folders.STUDIES[name]
    own = vars(fields.resolved(study.presets[preset]))
    config = json.loads(json.dumps(to_json(own))) | {"seeds": 3, "first_seed": 100}
    assert figures.settings_of(study, config) == f"{preset} preset"
    del config["dtype"]  # as if it came later
    assert figures.settings_of(study, config) == f"{preset} preset"
    assert figures.settings_of(study, config | {"batch_size": 7}) == "own settings"
