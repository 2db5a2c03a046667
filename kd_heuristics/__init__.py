"""Why training heuristics work: restarts, warmup and distillation, studied in JAX.

The tools are pure functions over pytrees and arrays and know nothing of our models:

    from kd_heuristics import curves, schedules, similarity

Importing the package touches no device and changes no setting of jax.
"""
