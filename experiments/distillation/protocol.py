"""What the paper has for each field of the distillation study (section 5)."""

from experiments.common.protocol import GOTMARE, MAPS, OPEN, Entry, ours

ENTRIES = {
    **GOTMARE,
    **MAPS,
    **ours("first_stage_epochs", "first_stage_rate", "first_stage_clip_norm"),
    **ours("model_layers", "teacher_layers", "smallest_gap", "nulls", "losses"),
    "seeds": Entry(5, "section 5: 5 runs of each student"),
    "teacher": Entry("vgg16", "section 5"),
    "teachers": Entry("one", "section 5, inferred: it speaks of the teacher"),
    "teacher_width": Entry(1.0, "section 5"),
    "model": Entry("shallow", "section 5"),
    "width": Entry(
        OPEN, "section 5 names the layers", "channels as in the teacher's first section"
    ),
    "batch_size": Entry(OPEN, why="as section 2.1"),
    "teacher_epochs": Entry(OPEN, why="as section 2.1"),
    "teacher_rate": Entry(OPEN, why="as section 2.1, on one cosine"),
    "epochs": Entry(OPEN, why="a shallow net is given fewer than its teacher"),
    "rate": Entry(OPEN, why="the same for students of every kind"),
    "momentum": Entry(OPEN, why="as section 2.1"),
    "weight_decay": Entry(OPEN, why="as section 2.1"),
    "clip_norm": Entry(None, "not mentioned"),
    "temperature": Entry(5.0, "section 5"),
    "temperatures": Entry((5.0,), "section 5", "a sweep, which the paper lacks"),
    "kinds": Entry((), "section 5", "other kinds of knowledge, which the paper lacks"),
}
PROTOCOL = {"cifar10": ENTRIES}
