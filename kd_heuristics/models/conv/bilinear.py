"""The convolution as one bilinear JAX primitive that is closed under derivatives.

Let <.,.> be the sum over all entries. The form T(x, k, y) = <conv(x, k), y> is linear
in each of the input x, the kernel k and the output y. Its three partial gradients,

    output(x, k) = dT/dy     input(y, k) = dT/dx     kernel(x, y) = dT/dk,

are bilinear, and each one's derivatives and transposes are the other two. So one
primitive whose `role` names the array that comes out holds the convolution, its
gradients and all their derivatives, and the platform is chosen below all of them:
only x, k and y are ever saved for a backward pass, never what a platform makes of
them. (`jax.custom_derivatives.linear_call` cannot do this: it has neither vmap nor a
derivative in its residuals.)
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kd_heuristics.models.conv import cpu, plain
from kd_heuristics.models.conv.geometry import INPUT, KERNEL, OUTPUT, Geometry

_OPERANDS = {OUTPUT: (INPUT, KERNEL), INPUT: (OUTPUT, KERNEL), KERNEL: (INPUT, OUTPUT)}

# A vmap over one operand alone folds into that operand's axis that is not summed
# over: (axis in the operand, axis in the result), for the first and second operand.
_FREE_AXES = {
    OUTPUT: ((0, 0), (3, 3)),  # images; output channels
    INPUT: ((0, 0), (2, 3)),  # images; input channels
    KERNEL: ((3, 2), (3, 3)),  # input channels; output channels
}

_conv_p = Primitive("kd_conv2d")


def bilinear_conv(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution of x [n, h, w, c] with kernel [kh, kw, c, d] -> [n, h', w', d].

    Args:
      x: `geometry.operand_dtype` [n, h, w, c].
      kernel: `geometry.operand_dtype` [kh, kw, c, d].
      geometry: sizes that agree with the arrays.
    """
    return _bind(x, kernel, role=OUTPUT, geometry=geometry, stacked=False)


def _bind(a, b, *, role, geometry, stacked):
    a, b = _vary_alike(a, b)
    return _conv_p.bind(a, b, role=role, geometry=geometry, stacked=stacked)


def _vary_alike(a, b):
    """Inside `jax.shard_map`: mark both arrays as varying over the same mesh axes.

    The marks' own derivative is the sum over devices that a replicated kernel's
    gradient needs.
    """
    axes_a, axes_b = _varying_axes(a), _varying_axes(b)
    return _vary(a, axes_b - axes_a), _vary(b, axes_a - axes_b)


def _varying_axes(array):
    kind = jax.typeof(array)
    if hasattr(kind, "manual_axis_type"):  # jax >= 0.10
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())


def _vary(array, axes):
    if not axes:
        return array
    if hasattr(jax.lax, "pcast"):  # jax >= 0.8
        return jax.lax.pcast(array, tuple(axes), to="varying")
    return jax.lax.pvary(array, tuple(axes))  # pyrefly: ignore


def _operation(table, role, geometry, stacked):
    operation = functools.partial(table[role], geometry=geometry)
    return jax.vmap(operation) if stacked else operation


def _plain(a, b, *, role, geometry, stacked):
    return _operation(plain.OPERATIONS, role, geometry, stacked)(a, b)


def _cpu(a, b, *, role, geometry, stacked):
    if stacked:
        return cpu.stacked(role, a, b, geometry)
    return cpu.OPERATIONS[role](a, b, geometry)


def _abstract(a, b, **params):
    # What the plain operation says of shape, type and sharding holds for all.
    closed = jax.make_jaxpr(functools.partial(_plain, **params))(a, b)
    return closed.out_avals[0]


def _run(a, b, **params):
    """The operation on known arrays: compiled, under `jax.disable_jit` too.

    Its lowering is all that there is of it; bound again it would call this again.
    """
    with jax.disable_jit(False):
        return _compiled(**params)(a, b)


@functools.cache
def _compiled(**params):
    return jax.jit(functools.partial(_conv_p.bind, **params))


def _transpose_rule(operand_index):
    """Cotangent rule for one operand: the form's gradient in that operand's place."""

    def rule(cotangent, a, b, *, role, geometry, stacked):
        wanted = _OPERANDS[role][operand_index]
        known = {
            role: cotangent,
            _OPERANDS[role][1 - operand_index]: b if operand_index == 0 else a,
        }
        first, second = (known[name] for name in _OPERANDS[wanted])
        return _bind(first, second, role=wanted, geometry=geometry, stacked=stacked)

    return rule


def _batch(args, dims, *, role, geometry, stacked):
    """vmap: fold into images or channels where possible, else stack the operands."""
    bind = functools.partial(_bind, role=role, geometry=geometry)
    if all(dim is not None for dim in dims):
        a, b = (jnp.moveaxis(arg, dim, 0) for arg, dim in zip(args, dims, strict=True))
        if not stacked:
            return bind(a, b, stacked=True), 0
        out = bind(_merge(a, 0), _merge(b, 0), stacked=True)
        return _split(out, 0, a.shape[0]), 0
    index = 0 if dims[0] is not None else 1
    source, target = (axis + stacked for axis in _FREE_AXES[role][index])
    size = args[index].shape[dims[index]]
    folded = list(args)
    folded[index] = _merge(jnp.moveaxis(args[index], dims[index], source), source)
    return _split(bind(*folded, stacked=stacked), target, size), target


def _merge(array, axis):
    """Merge `axis` and the next one."""
    shape = array.shape
    merged = (shape[axis] * shape[axis + 1],)
    return array.reshape(shape[:axis] + merged + shape[axis + 2 :])


def _split(array, axis, size):
    """Undo `_merge`, where the first of the two axes had length `size`."""
    shape = array.shape
    parts = (size, shape[axis] // size)
    return array.reshape(shape[:axis] + parts + shape[axis + 1 :])


def _jvp(primals, tangents, *, geometry, **params):
    """The bilinear rule; it marks the operation and its derivatives, for the CPU."""
    geometry = dataclasses.replace(geometry, differentiated=True)
    return _bilinear_jvp(primals, tangents, geometry=geometry, **params)


_conv_p.def_abstract_eval(_abstract)
_conv_p.def_impl(_run)
ad.defbilinear(_conv_p, _transpose_rule(0), _transpose_rule(1))
_bilinear_jvp = ad.primitive_jvps[_conv_p]
ad.primitive_jvps[_conv_p] = _jvp
batching.primitive_batchers[_conv_p] = _batch
mlir.register_lowering(_conv_p, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(
    _conv_p, mlir.lower_fun(_cpu, multiple_results=False), platform="cpu"
)
