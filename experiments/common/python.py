"""A study called from Python, on the user's own network and images."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.common import blocks, own
from kd_heuristics import data, models
from kd_heuristics.runtime import files


def runner(name: str) -> Callable[..., Any]:
    """The function `run` of a study's package, which imports the study when called."""

    def run(
        config: Any,
        workdir: files.AnyPath,
        network: models.Network | None = None,
        dataset: data.Dataset | Mapping[str, data.Dataset] | None = None,
        teacher: models.Network | None = None,
    ) -> Any:
        """Runs the study in a run folder; returns the folder.

        Args:
          config: one of the study's `PRESETS`, or changed by `dataclasses.replace`.
          workdir: the run folder; another network or other images are refused there.
          network: a network of your own, in place of `config.model`.
          dataset: images of your own, in place of `config.dataset`: a `data.Dataset`,
            of which a tenth each is drawn for validation and test, or `{"train": ...,
            "validation": ..., "test": ...}`.
          teacher: a network of your own, in place of `config.teacher`, in studies that
            have one.

        Raises:
          ValueError: the study takes no network or images of your own, or these do not
            fit. Others as of `blocks.run`.
        """
        study = importlib.import_module(f"experiments.{name}.study").STUDY
        its = own.Own.of(network, dataset, teacher)
        return blocks.run(study, config, workdir, own=its)

    return run
