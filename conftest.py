"""What every test runs under: strict promotion, four CPU devices, checked shapes."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shape annotations of the package are checked in tests, and only there.
install_import_hook("kd_heuristics", "beartype.beartype")
