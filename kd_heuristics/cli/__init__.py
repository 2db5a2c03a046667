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
disk full, other processes not reached, output that nobody reads any more); 2 invalid
arguments or a damaged checkpoint (one line on stderr names the error); 130 interrupted.
A traceback (status 1) is a bug, here or in your model.

Shell completion, for bash (or zsh, tcsh):

    kd-heuristics --tyro-write-completion bash \
        ~/.local/share/bash-completion/completions/kd-heuristics
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

from kd_heuristics.runtime import pipes

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # exit statuses, beside 0

# Name and first line of help; `NAME.NAME` below is the function. Help comes at once
# because only the command that runs is imported.
COMMANDS = {
    "connect": "Evaluate losses between two networks: on the segment, on a curve.",
    "surface": "Evaluate train and test loss on the plane through three networks.",
    "align": "Permute the units of B onto those of A; its function stays the same.",
    "similarity": "Measure the similarity of two networks' layers on test images.",
    "sharpness": "Measure the Hessian of the loss: top eigenvalues and traces.",
    "judge": "Judge claims on the numbers of your own runs, as the studies do.",
    "report": "Write one page of runs: verdicts, figures, protocols, failures.",
    "compare": "Write one page that sets runs of a study beside each other.",
    "export": "Write the numbers of runs as tidy CSV tables, one row for each number.",
    "prepare": "Download a set and store it, readable without TensorFlow.",
    "info": "List devices, versions, prepared sets and models, for a bug report.",
}


@pipes.unread_ends_quietly()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; failures exit with a status that the program's help lists.

    Args:
      arguments: words after the program's name; `None` takes those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else USAGE)
    from kd_heuristics.cli.failures import FAILURES, INVALID

    try:
        with _plain_warnings():
            _run(words)
    except INVALID as error:
        _fail(error, USAGE)
    except FAILURES as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _run(words: Sequence[str]) -> None:
    import tyro

    name, *rest = words
    if name in COMMANDS:
        tyro.cli(command(name), prog=f"kd-heuristics {name}", args=rest)
        return
    every = {name: command(name) for name in COMMANDS}
    tyro.extras.subcommand_cli_from_dict(
        every, prog="kd-heuristics", args=words, description=__doc__
    )


def command(name: str) -> Callable[..., None]:
    """The function of a command, imported when it is asked for."""
    return getattr(importlib.import_module(f"kd_heuristics.cli.{name}"), name)


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
    lines = [f"  {name:<12}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join([__doc__ or "", "Commands:", "", *lines])


def _fail(error: Exception, status: int) -> None:
    """Print an error in one line and exit."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status)
