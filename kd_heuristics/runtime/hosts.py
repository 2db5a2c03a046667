"""Runs of several processes: their number, their index and what they agree on.

On several hosts, every process runs the same program on the same arrays, and all
devices take part in each computation. All processes must therefore take the same
branches. What only one process sees, a file or a signal, is read by one and broadcast.
Without `start`, everything here assumes one process and costs nothing.

    hosts.start("auto")                   # before any other use of JAX
    found = hosts.first(path.exists)      # process 0 looks, all know

An error inside `first` is raised in every process. Any other error in a single process
leaves the others waiting until JAX ends them (100 s after that process is gone).
"""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AUTO = "auto"
_SMALLEST = 1024  # bytes of a message; few sizes mean few compiled programs

_inside = False  # whether process 0 is inside a call of `first`


class HostError(Exception):
    """Error that the processes cannot work together; the message has the remedy."""


def start(where: str) -> None:
    """Joins the processes of a run; call it before any other use of JAX's devices.

    Args:
      where: "auto" on Slurm, Open MPI, Kubernetes and TPU, which list their processes
        (on the first two, a process has one GPU, that of its local rank); else
        "HOST:PORT,COUNT,INDEX": the address at which process 0 waits for the others,
        the number of processes, and the index of this one, from 0.

    Raises:
      ValueError: `where` is neither, or "auto" finds no cluster.
      HostError: the others were not reached within five minutes, or JAX's devices
        were used before.
    """
    given = {} if where == AUTO else _by_hand(where)
    # `interrupts` agrees on signals; JAX's own handler would replace it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**given)
    except ValueError as error:
        raise ValueError(
            f"no cluster was found ({error}); name the processes with --distributed "
            "HOST:PORT,COUNT,INDEX, for example 10.0.0.1:8476,2,0 in the first of two"
        ) from error
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        raise HostError(
            f"the processes did not come together ({words}); start each of them once, "
            "with the same address and count, and check that process 0 is reachable"
        ) from error
    _connect()


def _connect() -> None:
    """Connects all devices, and each device to its counterparts in other processes.

    Gloo, which connects CPUs, waits at most 30 s for another process when it connects,
    and longer afterwards; here the processes arrive at the same time.
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
    """Returns the arguments of `jax.distributed.initialize`.

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
        # Inside a Slurm job, JAX would use only the device of the local rank.
        "cluster_detection_method": "deactivate",
    }


def count() -> int:
    """Returns the number of processes; 1 inside `first`."""
    if _inside or not jax.distributed.is_initialized():
        return 1  # without initialising the devices
    return jax.process_count()


def index() -> int:
    """Returns the index of this process, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is process 0, which writes the files."""
    return index() == 0


def first(function: Callable, *arguments: Any, **named: Any) -> Any:
    """Calls a function in process 0; returns its result in every process.

    For everything that reads or writes files. Every process must make this call, and
    waits until process 0 is done. The function must not compute on other processes'
    devices.

    Args:
      function: its result must be picklable: plain values, NumPy arrays.
      *arguments: arguments of the function.
      **named: keyword arguments of the function.

    Raises: what the function raises, in every process; a `HostError` with the message
      if that error cannot be pickled. HostError: the result cannot be pickled.
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
    """Calls a function in this process without waiting for the others inside."""
    global _inside
    before, _inside = _inside, True
    try:
        return function(*arguments, **named)
    finally:
        _inside = before


def highest(number: int) -> int:
    """Returns the largest of the processes' numbers, int32."""
    if count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int32(number)).max())


def _told(content: bytes) -> bytes:
    """Broadcasts the content of process 0 to every process."""
    from jax.experimental import multihost_utils

    tell = multihost_utils.broadcast_one_to_all
    length = int(tell(np.int32(len(content))))
    size = max(_SMALLEST, 1 << length.bit_length())
    padded = np.zeros(size, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    return np.asarray(tell(padded))[:length].tobytes()


def _content(value: Any) -> bytes:
    """Pickles the result for the other processes."""
    try:
        return pickle.dumps((None, value))
    except Exception as error:  # each type raises its own
        raise HostError(
            f"process 0 returned a {type(value).__name__}, which cannot be sent to "
            f"the other processes ({error}); return plain values or NumPy arrays"
        ) from error


def _picklable(error: Exception) -> Exception:
    """Returns the error, or a HostError with its message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its __init__ takes other arguments
        return HostError(f"process 0: {type(error).__name__}: {error}")
    return error
