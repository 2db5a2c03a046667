"""Curvature of a loss: eigenvalues, traces and spectral density of its Hessian.

Every function takes `loss(params, batch) -> scalar mean`, any tree of parameters, and
batches as in `points.evaluate`. None forms the Hessian:

values, vectors = sharpness.top(loss, params, batches, k=3, key=key)
by_layer = sharpness.trace(loss, params, batches, key=key, group=layer_of)
nodes, weights = sharpness.density(loss, params, batches, key=key)
"""

from kd_heuristics.sharpness.spectrum import density, top
from kd_heuristics.sharpness.traces import trace

__all__ = ["density", "top", "trace"]
