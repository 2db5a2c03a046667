"""What the paper has for each field of the warmup study (sections 4 and 10)."""

from experiments.common.protocol import GOTMARE, MAPS, OPEN, Entry, ours

_VGG = {
    **GOTMARE,
    **MAPS,
    "map_layers": Entry("all", "Figure 5"),
    **ours("clip_norm"),  # of the arm "clip", which is ours
    **ours("sharpness_steps", "sharpness_examples", "sharpness_products"),
    "batch_norm": Entry("global", "section 4, inferred: true batches of 5000"),
    "model": Entry("vgg11_bn", "section 4"),
    "batch_size": Entry(5000, "section 4"),
    "micro_batches": Entry(1, "section 4, inferred: true batches of 5000"),
    "rate": Entry(2.5, "section 4"),
    "small_batch_size": Entry(100, "section 4"),
    "small_rate": Entry(0.05, "section 4"),
    "warmup_epochs": Entry(20, "section 4: 200 iterations"),
    "init_rate": Entry(0.0005, "read off Figure 4b"),
    "drops_epochs": Entry((60, 120, 150), "section 4"),
    "drop_factor": Entry(0.1, "section 4"),
    "epochs": Entry(300, "read off Figure 4"),
    "momentum": Entry(0.9, "section 4"),
    "weight_decay": Entry(0.0005, "author's later code"),
    "arms": Entry(
        ("small", "large", "warmup", "freeze_fc"),
        "Figure 4",
        "controls that the paper lacks",
    ),
}


def _resnet(name: str) -> dict[str, Entry]:
    """The entries of Figure 15."""
    return {
        **_VGG,
        **ours("classifier_width", "dropout_rate", "map_examples", "measure"),
        "model": Entry(name, "Figure 15"),
        "rate": Entry(5.0, "Figure 15"),
        "init_rate": Entry(OPEN, "Figure 15", "as for VGG-11"),
        "epochs": Entry(OPEN, "Figure 15 shows 19", "as for VGG-11"),
        "arms": Entry(
            ("large", "warmup", "freeze_fc"),
            "Figure 15",
            "small batches, and controls that the paper lacks",
        ),
    }


PROTOCOL = {
    "cifar10": _VGG,
    "cifar10_resnet18": _resnet("resnet18"),
    "cifar10_resnet32": _resnet("resnet32"),
}
