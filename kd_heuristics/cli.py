"""`kd-heuristics`: tools on the command line for data and checkpoints of one's own."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics.data.prepare import DOWNLOADS, PrepareError
from kd_heuristics.data.prepare import prepare as prepare_set

FAILED, USAGE = 1, 2  # exit statuses, beside 0

Name = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="NAME", help=" | ".join(DOWNLOADS)),
]
DataDir = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR", help="tfds' folder; else TFDS_DATA_DIR or ~/tensorflow_datasets"
    ),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits with 0, 1 (it failed) or 2 (it was called wrongly).

    Args:
      arguments: the words after the program's name; None: those of the process.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="kd-heuristics", args=arguments, description=__doc__
        )
    except ValueError as error:
        _fail(error, USAGE)
    except PrepareError as error:
        _fail(error, FAILED)


def prepare(name: Name, data_dir: DataDir = None) -> None:
    """Downloads a set and stores it so that it is read without TensorFlow."""
    prepare_set(name, data_dir)


COMMANDS: dict[str, Callable[..., None]] = {"prepare": prepare}


def _fail(error: Exception, status: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
