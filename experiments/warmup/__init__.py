"""The warmup study; its question stands in `study.py`."""

from experiments.common.python import runner

run = runner("warmup")
