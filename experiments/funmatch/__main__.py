"""The command line of the FunMatch study."""

from experiments.common import launch
from experiments.funmatch.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
