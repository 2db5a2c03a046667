"""Several processes of one program: which one this is, and what they agree on.

On several hosts every process runs the same program on the same arrays, and each
computation is one of all devices together. So all must take the same way through the
program: what a process alone sees, a file or a signal, is asked of one of them and told
to all. Without `start` everything here is of one process and costs nothing.

    hosts.start("auto")                   # before anything else of JAX
    found = hosts.first(path.exists)      # process 0 looks, all know

An error of `first` is raised in every process. One that is raised in a single process
by anything else leaves the others waiting, until JAX ends them (100 s after the process
is gone).
"""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AUTO = "auto"
_SMALLEST = 1024  # bytes of a message: few sizes, few compiled programs

_inside = False  # a call of `first`, which process 0 alone is in


class HostError(Exception):
    """The processes cannot work together; the message says what helps."""


def start(where: str) -> None:
    """Joins the processes of a run; before anything else that uses JAX's devices.

    Args:
      where: "auto" on Slurm, Open MPI, Kubernetes and TPU, which say themselves where
        the processes are (under the first two a process has one GPU, that of its local
        rank); else "HOST:PORT,COUNT,INDEX", the same in each process but
        for the index: the address at which process 0 waits for the others, their
        number, and which this one is, from 0.

    Raises:
      ValueError: neither, or "auto" where no cluster is found.
      HostError: the others were not reached (within five minutes), or JAX's devices
        were used before.
    """
    given = {} if where == AUTO else _by_hand(where)
    # A signal is agreed on by `interrupts`; JAX's own handler would replace it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**given)
    except ValueError as error:
        raise ValueError(
            f"no cluster was found ({error}): give the processes by hand, "
            "--distributed HOST:PORT,COUNT,INDEX, say 10.0.0.1:8476,2,0 in the first "
            "of two"
        ) from error
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        raise HostError(
            f"the processes did not come together ({words}); start each of them once, "
            "with the same address and number, and let process 0 be reached there"
        ) from error
    _connect()


def _connect() -> None:
    """Connects all devices, and each with those of its place in other processes.

    Gloo, which does it on CPU, waits for another process at most 30 s when it connects,
    and for longer afterwards; here the processes come at the same time.
    """
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("all",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    ones = np.ones(len(devices), np.float32)
    every = jax.make_array_from_callback(ones.shape, split, lambda at: ones[at])
    assert float(jax.jit(jnp.sum)(every)) == len(devices)
    _told(b"")
    highest(0)


def _by_hand(where: str) -> dict[str, Any]:
    """The arguments of `jax.distributed.initialize`.

    >>> _by_hand("10.0.0.1:8476,2,0")["num_processes"]
    2
    """
    address, *numbers = where.split(",")
    host, _, port = address.rpartition(":")
    whole = len(numbers) == 2 and all(part.isdigit() for part in (port, *numbers))
    if not (whole and host and int(numbers[1]) < int(numbers[0])):
        raise ValueError(
            f"--distributed takes {AUTO} or HOST:PORT,COUNT,INDEX with an index from 0 "
            f"to COUNT - 1, say 10.0.0.1:8476,2,0; got {where!r}"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(numbers[0]),
        "process_id": int(numbers[1]),
        # Inside a Slurm job JAX would keep to the device of the local rank.
        "cluster_detection_method": "deactivate",
    }


def count() -> int:
    """How many processes take part; 1 inside `first`."""
    if _inside or not jax.distributed.is_initialized():
        return 1  # without a look at the devices
    return jax.process_count()


def index() -> int:
    """Which process this is, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is process 0, which writes the files."""
    return index() == 0


def first(function: Callable, *arguments: Any, **named: Any) -> Any:
    """Calls a function in process 0; its result, or its error, in every process.

    For all that looks at files or writes them. Every process must come here, and waits
    until process 0 is done. The function must not compute on the devices of others.

    Args:
      function: its result must be picklable: plain values, NumPy's arrays.
      *arguments: of the function.
      **named: of the function.

    Raises: what the function raises, in every process; an error that cannot be
      pickled as a `HostError` with its words. HostError: the result cannot be pickled.
    """
    if count() == 1:
        return function(*arguments, **named)
    if not is_first():
        error, value = pickle.loads(_told(b""))
        if error is not None:
            raise error
        return value
    error, value = None, None
    try:
        value = alone(function, *arguments, **named)
        content = _content(value)
    except Exception as found:
        error = found
        content = pickle.dumps((_picklable(error), None))
    _told(content)
    if error is not None:
        raise error
    return value


def alone(function: Callable, *arguments: Any, **named: Any) -> Any:
    """Calls a function in this process, which waits for no other inside."""
    global _inside
    before, _inside = _inside, True
    try:
        return function(*arguments, **named)
    finally:
        _inside = before


def highest(number: int) -> int:
    """The highest of the processes' numbers, int32."""
    if count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int32(number)).max())


def _told(content: bytes) -> bytes:
    """What process 0 has, in every process."""
    from jax.experimental import multihost_utils

    tell = multihost_utils.broadcast_one_to_all
    length = int(tell(np.int32(len(content))))
    size = max(_SMALLEST, 1 << length.bit_length())
    padded = np.zeros(size, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    return np.asarray(tell(padded))[:length].tobytes()


def _content(value: Any) -> bytes:
    """What the other processes are told of a result."""
    try:
        return pickle.dumps((None, value))
    except Exception as error:  # each type has its own
        raise HostError(
            f"process 0 returned a {type(value).__name__}, which the other processes "
            f"cannot be told ({error}); return plain values or NumPy's arrays"
        ) from error


def _picklable(error: Exception) -> Exception:
    """The error as another process can raise it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an __init__ of other arguments
        return HostError(f"process 0: {type(error).__name__}: {error}")
    return error
