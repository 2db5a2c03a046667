"""What a run of the warmup study trains."""

from experiments.common.plan import Plan, Training, epochs, network, of
from experiments.warmup.claims import early_training
from experiments.warmup.config import ARMS, Config


def plan(config: Config) -> Plan:
    """The arms of small batches, and those of large ones."""
    found = of(config)
    net = network(config.model, found.num_classes, found.shape, config.model_options)
    trainings = []
    for small in (True, False):
        arms = [arm for arm in config.arms if ARMS[arm].small == small]
        size = config.small_batch_size if small else config.batch_size
        if arms:
            trainings.append(
                Training(
                    name=" ".join(arms),
                    network=net,
                    members=config.seeds * len(arms),
                    steps=epochs(found, size, config.epochs),
                    batch_size=size,
                    checkpoints=4 + len(config.sharpness_steps),
                    stages=tuple(arms),
                )
            )
    return Plan(
        sets=((config.dataset, config.image_size),),
        trainings=tuple(trainings),
        earlier=tuple(map(early_training, config.arms)),
    )
