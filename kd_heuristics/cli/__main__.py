"""Entry point of `python -m kd_heuristics.cli`."""

from kd_heuristics.cli import main

main()
