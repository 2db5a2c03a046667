"""The losses in float64 NumPy, as the formulas stand; and their arguments."""

import numpy as np

BATCH, CLASSES = 5, 7


def log_softmax(logits, temperature=1.0):
    # 80 bits: the plain formula of `kl` loses up to 10 digits at high temperature.
    logits = np.asarray(logits, np.longdouble) / np.longdouble(temperature)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def softmax(logits, temperature=1.0):
    return np.exp(log_softmax(logits, temperature)).astype(np.float32)


def kl(student, teacher, temperature=1.0):
    log_q, log_p = log_softmax(student, temperature), log_softmax(teacher, temperature)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def soft_cross_entropy(student, teacher, temperature=1.0):
    log_q, log_p = log_softmax(student, temperature), log_softmax(teacher, temperature)
    return -(np.exp(log_p) * log_q).sum(-1)


def hard_labels(student, labels, smoothing=0.0):
    classes = student.shape[1]
    targets = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return -(targets * log_softmax(student)).sum(-1)


def logit_matching(student, teacher):
    difference = np.float64(student) - np.float64(teacher)
    return difference.var(-1) / 2


def square(student, teacher):
    difference = np.float64(student) - np.float64(teacher)
    return (difference**2).reshape(len(difference), -1).sum(-1)


def agreement(student, teacher, k):
    order = np.argsort(-student, axis=-1, kind="stable")[:, :k]
    return (order == teacher.argmax(-1)[:, None]).any(-1).astype(float)


def max_pool(maps, height, width):
    batch, h, w, channels = maps.shape
    out = np.empty((batch, height, width, channels))
    rows, columns = h // height, w // width
    for s in range(height):
        for t in range(width):
            window = maps[:, s * rows : (s + 1) * rows, t * columns : (t + 1) * columns]
            out[:, s, t] = window.max((1, 2))
    return out


def fsp_matrix(f1, f2):
    f1, f2 = np.float64(f1), np.float64(f2)
    height, width = (min(f1.shape[axis], f2.shape[axis]) for axis in (1, 2))
    f1, f2 = max_pool(f1, height, width), max_pool(f2, height, width)
    total = np.zeros((len(f1), f1.shape[-1], f2.shape[-1]))
    for s in range(height):
        for t in range(width):
            total += f1[:, s, t, :, None] * f2[:, s, t, None, :]
    return total / (height * width)


def fsp_loss(student_pairs, teacher_pairs, weights=None):
    weights = [1.0] * len(student_pairs) if weights is None else weights
    total = 0.0
    rows = zip(weights, student_pairs, teacher_pairs, strict=True)
    for weight, student, teacher in rows:
        difference = fsp_matrix(*student) - fsp_matrix(*teacher)
        total = total + weight * (difference**2).sum((1, 2))
    return total


def logits(seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-scale, scale, size=(BATCH, CLASSES)).astype(np.float32)


LABELS = np.array([0, 6, 2, 2, 5])


def pairs(seed=0):
    """Two sections, the second with maps of two sizes."""
    rng = np.random.default_rng(seed)
    sizes = [(4, 4, 2), (4, 4, 3)], [(4, 6, 3), (2, 2, 5)]
    return [
        tuple(rng.normal(size=(BATCH, *size)).astype(np.float32) for size in pair)
        for pair in sizes
    ]
