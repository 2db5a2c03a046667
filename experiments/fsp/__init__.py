"""The FSP study; `study.py` states its question."""

from experiments.common.python import runner

run = runner("fsp")
