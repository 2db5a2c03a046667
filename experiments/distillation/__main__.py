"""The command line of the distillation study."""

from experiments.common import launch
from experiments.distillation.study import STUDY

if __name__ == "__main__":
    launch.main(STUDY)
