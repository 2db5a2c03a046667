"""The command line of the warmup study."""

from experiments.common import launch
from experiments.warmup.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
