"""The command line of the FSP study."""

from experiments.common import launch
from experiments.fsp.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
