"""The command line of the mode connectivity study."""

from experiments.common import launch
from experiments.mode_connectivity.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
