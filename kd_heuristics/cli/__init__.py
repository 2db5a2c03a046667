r"""Command-line tools for your own networks and data.

Give two trained networks, A and B, as checkpoints. A checkpoint is one of

    runs/demo/sgdr/checkpoints/train   a folder of steps, ours or an orbax manager's
    ...train@450                       one step of it; without @, the newest
    ...train@450#2                     one network of a checkpoint that holds several
    model.npz, model.safetensors       arrays named params/fc/kernel or fc.kernel
    model.msgpack                      the output of flax.serialization.to_bytes
    checkpoint                         the output of any orbax checkpointer

In one of our run folders, model and data are known; otherwise name them:

    kd-heuristics connect a.npz b.npz --model vgg11 --model-options width=0.25 \
        --data digits_photo
    kd-heuristics surface a.npz b.npz --model nets:make --data my.npz

Each command has its own help: kd-heuristics connect --help.

Exit status: 0 success; 1 failure (diverged training, failed download, set not prepared,
disk full, other processes not reached); 2 invalid arguments or a damaged checkpoint
(one line on stderr names the error); 130 interrupted. A traceback (status 1) is a bug,
here or in your model.

Shell completion, for bash (or zsh, tcsh):

    kd-heuristics --tyro-write-completion bash \
        ~/.local/share/bash-completion/completions/kd-heuristics
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import tyro

from kd_heuristics.checkpoints import CheckpointError
from kd_heuristics.cli import (
    align,
    compare,
    connect,
    export,
    info,
    judge,
    prepare,
    report,
    sharpness,
    similarity,
    surface,
)
from kd_heuristics.data import MissingDatasetError
from kd_heuristics.data.prepare import PrepareError
from kd_heuristics.runs import RunError
from kd_heuristics.runtime.errors import InputError
from kd_heuristics.runtime.files import WriteError
from kd_heuristics.runtime.hosts import HostError
from kd_heuristics.training import NonFiniteError

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # exit statuses, beside 0

COMMANDS: dict[str, Callable[..., None]] = {
    "connect": connect.connect,
    "surface": surface.surface,
    "align": align.align,
    "similarity": similarity.similarity,
    "sharpness": sharpness.sharpness,
    "judge": judge.judge,
    "report": report.report,
    "compare": compare.compare,
    "export": export.export,
    "prepare": prepare.prepare,
    "info": info.info,
}


_FAILURES = (PrepareError, MissingDatasetError, NonFiniteError, HostError, WriteError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; failures exit with a status that the program's help lists.

    Args:
      arguments: words after the program's name; `None` takes those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else USAGE)
    try:
        with _plain_warnings():
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="kd-heuristics", args=words, description=__doc__
            )
    except (InputError, CheckpointError, RunError) as error:
        _fail(error, USAGE)
    except _FAILURES as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show each warning as one line, without a place in the code, in the context."""
    shown = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = shown


def overview() -> str:
    """Returns the program's help, with a line for each command."""
    lines = [f"  {name:<12}{_summary(command)}" for name, command in COMMANDS.items()]
    return "\n".join([__doc__ or "", "Commands:", "", *lines])


def _summary(command: Callable[..., None]) -> str:
    """Returns the first line of a command's help."""
    return (command.__doc__ or "").partition("\n")[0]


def _fail(error: Exception, status: int) -> None:
    """Print an error in one line and exit."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status)
