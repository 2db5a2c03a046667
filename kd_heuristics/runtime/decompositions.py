"""Eigenvectors and singular vectors of batches, without XLA's deadlock on CPU.

On CPU, jaxlib hands a batch of decompositions to XLA's thread pool and waits for it
(`ParallelBatchMap` in its LAPACK kernels). XLA runs independent operations of a program
on the same pool. If as many batches run at once as there are threads, every thread
waits and none is left to work. Seen with jaxlib 0.10.2 on 2 cores for two batched
`eigh` in one program, in similarities and in Shampoo. A single matrix never waits, and
batching does not speed it up, so here a batch on CPU is a sequential map. (`FftThunk`
has the same deadlock; `similarity.views` avoids it.)
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import threadpoolctl
from jaxtyping import Array, Float, Inexact


def now(function: Callable, *arguments: Any) -> Any:
    """Calls a function and waits for its value; LAPACK has one thread on CPU.

    The threads of SciPy's LAPACK, which jaxlib calls, compete with XLA's: with two of
    each on 2 cores, a map of 512-unit layers took 1.4 times as long. The limit applies
    to the whole process during the call.
    """
    if jax.default_backend() != "cpu":
        return function(*arguments)
    with one_thread():
        return jax.block_until_ready(function(*arguments))


def one_thread() -> contextlib.AbstractContextManager:
    """Limits the process's BLAS and LAPACK to one thread, in the context."""
    return _blas().limit(limits=1, user_api="blas")


@functools.cache
def _blas() -> threadpoolctl.ThreadpoolController:
    """Returns the controller of the threads of SciPy's LAPACK."""
    import scipy.linalg  # noqa: F401 - only libraries that are loaded are found

    return threadpoolctl.ThreadpoolController()


def _one_by_one_on_cpu(function):
    """Makes vmap map `function` over matrices one by one on CPU, batched elsewhere."""

    @jax.custom_batching.custom_vmap
    def single(matrix):
        return function(matrix)

    @single.def_vmap
    def _batched(axis_size, in_batched, matrices):
        out = jax.lax.platform_dependent(
            matrices,
            cpu=functools.partial(jax.lax.map, single),
            default=jax.vmap(function),
        )
        return out, jax.tree.map(lambda _: True, out)

    return single


def eigh(
    matrix: Inexact[Array, "p p"],
) -> tuple[Float[Array, " p"], Inexact[Array, "p p"]]:
    """Eigenvalues, largest first, and eigenvectors of a Hermitian matrix."""
    values, vectors = _eigh(matrix)
    return values[::-1], vectors[:, ::-1]


def svd(
    matrix: Inexact[Array, "p q"],
) -> tuple[Inexact[Array, "p k"], Float[Array, " k"], Inexact[Array, "k q"]]:
    """Thin singular value decomposition: u, s, v^H."""
    return _svd(matrix)


def svd_values(matrix: Inexact[Array, "p q"]) -> Float[Array, " k"]:
    """Singular values, largest first."""
    return _svd_values(matrix)


_eigh = _one_by_one_on_cpu(
    lambda matrix: tuple(jnp.linalg.eigh(matrix, symmetrize_input=False))
)
_svd = _one_by_one_on_cpu(
    lambda matrix: tuple(jnp.linalg.svd(matrix, full_matrices=False))
)
_svd_values = _one_by_one_on_cpu(
    lambda matrix: jnp.linalg.svd(matrix, compute_uv=False)
)
