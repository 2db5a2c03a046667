"""What every study's figures are drawn from: its run folder alone."""

from typing import Any

from kd_heuristics import files, runs
from kd_heuristics.plots import style


def read(
    path: files.AnyPath, subject: str = "{model} on {dataset}"
) -> tuple[runs.RunFolder, dict[str, Any], dict[str, Any], str]:
    """A run folder, its config and arrays, and the words under its figures' titles.

    Args:
      path: of the folder, <preset>/<study>.
      subject: what was trained on what, with fields of the config.

    Raises:
      RunError: a file is missing or damaged.
    """
    run = runs.RunFolder(path)
    config = run.read_json("config.json")["config"]
    words = (
        f"{run.path.parent.name} preset, {subject.format_map(config)}, "
        f"{style.seeds_words(config['seeds'])}"
    )
    return run, config, run.load_arrays("arrays.npz"), words
