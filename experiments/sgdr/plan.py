"""Trainings of a run of the SGDR study."""

from experiments.common.plan import Plan, Training, epochs, network, of
from experiments.sgdr import twins
from experiments.sgdr.config import ARMS, Config


def plan(config: Config) -> Plan:
    """Lists the networks of all arms, and the chains between their iterates."""
    found = of(config)
    net = network(config.model, found.num_classes, found.shape, config.model_options)
    chains = sum(len(config.joined(arm)) for arm in ARMS)
    kept = {epoch for arm in ARMS for pair in config.pairs(arm) for epoch in pair}
    kept |= {*config.plane_iterates}
    kept |= {epoch for pair in config.map_pairs for epoch in pair}
    kept |= {*config.lens_iterates}
    return Plan(
        sets=((config.dataset, config.image_size),),
        trainings=(
            Training(
                name="train",
                network=net,
                members=config.seeds * len(config.arms),
                steps=epochs(found, config.batch_size, config.epochs),
                batch_size=config.batch_size,
                checkpoints=len(kept) + 2,
                stages=config.arms,
            ),
            Training(
                name="chains",
                network=net,
                members=config.seeds * chains,
                steps=epochs(found, config.batch_size, config.chain.epochs),
                batch_size=config.batch_size,
                moments=1 if config.chain.momentum else 0,
                stages=tuple(
                    f"{arm}-{first}-{last}"
                    for arm in ARMS
                    for first, last in config.joined(arm)
                ),
            ),
            *(
                Training(
                    name=f"twins from epoch {start} on",
                    network=net,
                    members=config.seeds,
                    steps=epochs(
                        found, config.batch_size, config.last_minimum + 1 - start
                    ),
                    batch_size=config.batch_size,
                    stages=(twins.name(start),),
                )
                for start in config.twin_epochs
            ),
        ),
    )
