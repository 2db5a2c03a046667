"""What the paper has for each field of mode connectivity (sections 2.1 and 7)."""

from experiments.common.protocol import GOTMARE, OPEN, Entry, ours

ENTRIES = {
    **GOTMARE,
    **ours("eval_examples", "kinds", "bend_decay", "as_good_as", "aligned"),
    "model": Entry("vgg16", "section 2.1"),
    "train_metrics": Entry(
        "augmented",
        "inferred from Figures 8 and 9",
        "plain images are the set that the modes fit; the other is offered",
    ),
    "modes": Entry(("G", "A", "B", "C", "D", "E", "F"), "section 2.1"),
    "same_start": Entry(OPEN, why="independent starts are the harder case"),
    "rate": Entry(0.05, "section 2.1, mode G"),
    "drops_epochs": Entry((60, 120, 160), "section 2.1, mode G"),
    "drop_factor": Entry(0.2, "section 2.1, mode G"),
    "epochs": Entry(200, "section 2.1, mode G"),
    "large_batch_size": Entry(
        4000, "section 2.1, mode A; 13 steps an epoch, the last batch kept, inferred"
    ),
    "large_batch_rate": Entry(0.05, "section 2.1: mode A changes the batch alone"),
    "adam_rate": Entry(OPEN, "section 2.1, mode B", "Adam's usual rate"),
    "linear_end_rate": Entry(OPEN, "section 2.1, mode C", "the line ends at 0"),
    "low_decay": Entry(5e-6, "section 2.1, mode D"),
    "init_factor": Entry(
        OPEN,
        "section 2.1, mode E: a deviation or a variance of 3 sqrt(2/n)",
        "the deviation, the wider of the two",
    ),
    "wide_clip_norm": Entry(
        None, "not mentioned", "mode E diverges within two steps without it"
    ),
    "curve.epochs": Entry(
        OPEN, "Figure 1 ends at 80; author's later code has 101", "as in Figure 1"
    ),
    "curve.rate": Entry(0.1, "author's later code"),
    "curve.schedule": Entry("steps", "inferred from Figure 9: one drop"),
    "curve.drops_epochs": Entry(
        OPEN,
        "author's later code: none that acts",
        "Figure 9 shows the loss fall between epochs 60 and 80",
    ),
    "curve.drop_factor": Entry(OPEN, why="the usual drop"),
    "curve.momentum": Entry(0.0, "author's later code"),
    "curve.clip_norm": Entry(None, "not mentioned"),
    "curve.bend_decay": Entry(0.0, "author's later code; Figure 7 fits it"),
    "curve.path_decay": Entry(0.0, "author's later code"),
    "curve.num_t": Entry(1, "section 2.1"),
    "curve.stratified": Entry(False, "section 2.1"),
    "curve_epochs": Entry((20, 40, 60, 80), "Figure 1"),
    "intervals": Entry(29, "read off Figure 1"),
    "perplexity": Entry(
        OPEN, "Figure 10", "below the number of points, as t-SNE needs"
    ),
}
PROTOCOL = {"cifar10": ENTRIES}
