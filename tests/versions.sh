#!/bin/sh
# sh tests/versions.sh PYTHON lowest|newest: a part of the tests with those versions.
# Makes an environment in build/versions, which it keeps; minutes and about 1 GB.
set -eu
python=$1 set=$2
folder=build/versions/$(basename "$python")-$set
case $set in
  lowest) pins="jax==0.7.2 jaxlib==0.7.2 flax==0.11.2 numpy==2.0.*" ;;
  newest) pins="--upgrade jax jaxlib flax numpy optax orbax-checkpoint" ;;
  *) echo "lowest or newest, got $set"; exit 2 ;;
esac
echo "== $python with the $set versions; some minutes."
[ -e "$folder/bin/python" ] || "$python" -m venv "$folder"
# shellcheck disable=SC2086 # pins are words
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check $pins \
  --editable '.[test]'
"$folder/bin/python" -m pip list 2>/dev/null | grep -E '^(jax|jaxlib|flax|numpy) '
# Where XLA does not know a flag of XLA_FLAGS, it ends pytest without a word; here it says so.
"$folder/bin/python" -c 'import jax; jax.devices()'
"$folder/bin/python" -m pytest -q -m "not long" -p no:cacheprovider \
  tests/test_checkpoints.py tests/training tests/test_files.py tests/test_locks.py \
  tests/test_interrupts.py tests/test_runs.py tests/data/test_order.py \
  tests/data/test_golden.py tests/test_schedules.py tests/test_freezing.py \
  tests/curves tests/distill/test_losses.py tests/test_conformance.py tests/faults
