"""What the paper has for each field of the SGDR study (sections 3, 8 and 9)."""

from experiments.common.protocol import GOTMARE, MAPS, Entry, ours

ENTRIES = {
    **GOTMARE,
    **MAPS,
    **ours(
        "eval_examples",
        "chain.drop_factor",
        "step_span",
        "chained",
        "stats_examples",
        "largest_end_loss",
        "more_arms",
        "cooldown_epochs",
        "fge_epochs",
        "fge_minima",
        "fge_rates",
        "twin_epochs",
        "averaged",
    ),
    "model": Entry("vgg16", "section 3 (the axes of Figure 14 list VGG-11 with BN)"),
    "augmented": Entry(True, "section 3 names mode G's setup; author's later code"),
    "peak_rate": Entry(0.05, "section 3"),
    "end_rate": Entry(1e-6, "section 3"),
    "epochs": Entry(200, "section 3"),
    "period_epochs": Entry(10, "section 3"),
    "mult": Entry(2, "section 3"),
    "warmup_epochs": Entry(0, "section 3"),
    "restarts": Entry("epoch", "read off Figure 2: cycles of 11, 21, 41, 81 epochs"),
    "drops_epochs": Entry((60, 150), "section 3"),
    "drop_factor": Entry(0.2, "section 3"),
    "sgdr_pairs": Entry(((30, 70), (70, 150), (30, 150)), "Figures 2, 11"),
    "step_pairs": Entry(((55, 65), (145, 155), (55, 155)), "Figures 2, 11"),
    "chain.epochs": Entry(101, "author's later code"),
    "chain.rate": Entry(0.1, "author's later code"),
    "chain.schedule": Entry("steps", "author's later code"),
    "chain.drops_epochs": Entry(
        (), "author's later code: its drops, at 45 and 80, never reach the update"
    ),
    "chain.momentum": Entry(0.0, "author's later code"),
    "chain.clip_norm": Entry(None, "not mentioned"),
    "chain.bend_decay": Entry(0.0, "author's later code"),
    "chain.path_decay": Entry(0.0, "author's later code"),
    "chain.num_t": Entry(1, "section 2.1"),
    "chain.stratified": Entry(False, "section 2.1"),
    "intervals": Entry(29, "read off Figures 1 and 2"),
    "planes": Entry(((70, 150), (30, 70)), "Figures 3, 12, 13"),
    "plane_iterates": Entry(
        (80, 90, 100, 110, 130),
        "Figure 3",
        "the first ones lie between the ends of the second plane",
    ),
    "plane_grid": Entry((72, 90), "read off Figure 3, about"),
    "plane_margin": Entry(
        "-16 to 19.5 by -30 to 14.5",
        "read off Figure 3",
        "a share of the extent fits the planes of every run",
    ),
    "map_layers": Entry("all", "Figure 14"),
    "map_pairs": Entry(((150, 155), (10, 150)), "Figure 14"),
}
PROTOCOL = {"cifar10": ENTRIES}
