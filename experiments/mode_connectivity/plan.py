"""What a run of the mode connectivity study trains."""

from experiments.common.plan import Plan, Training, epochs, network, of
from experiments.mode_connectivity.config import MODES, Config


def plan(config: Config) -> Plan:
    """The modes, a population for each group, and the curves between them."""
    found = of(config)
    net = network(config.model, found.num_classes, found.shape, config.model_options)
    trainings = []
    for group in config.groups:
        size, remainder = config.batch_size, "drop"
        if group == "large":
            size, remainder = config.large_batch_size, "keep"
        modes = [mode for mode in config.modes if MODES[mode].group == group]
        trainings.append(
            Training(
                name=f"modes {' '.join(modes)}",
                network=net,
                members=config.seeds * len(modes),
                steps=epochs(found, size, config.epochs, remainder),
                batch_size=size,
                moments=2 if group == "adam" else 1,
                stages=tuple(modes),
            )
        )
    trainings += [
        Training(
            name=f"{kind} curves",
            network=net,
            members=config.seeds * len(config.pairs),
            steps=epochs(found, config.batch_size, config.curve.epochs),
            batch_size=config.batch_size,
            moments=1 if config.curve.momentum else 0,
            checkpoints=len(config.curve_epochs) + 2,
            stages=tuple(f"{pair}-{kind}" for pair in config.pairs),
        )
        for kind in config.kinds
    ]
    return Plan(sets=((config.dataset, config.image_size),), trainings=tuple(trainings))
