"""Command line of the SGDR study."""

from experiments.common import launch
from experiments.sgdr.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
