"""Who sees which pixels: the ways in which a teacher and its student look at an image.

Beyer et al. 2022, "A good teacher is patient and consistent", section 2 and Figure 3.
The first word of a name says how the two are tied (fix: the teacher's target never
changes; ind: each crops for itself; same: one crop for both), the second which crop.

    view = views.create("same/ic", teacher_size=64, student_size=32)
    seen = view(images, key)  # under jit; the same key, the same pixels
    targets, logits = teacher(seen["teacher"]), student(seen["student"])

| name | the teacher sees | the student sees |
|---|---|---|
| fix/rs | the whole image, resized | the same |
| fix/cc | the central crop | a mild random crop |
| fix/ic_ens | many inception crops, once: see `targets` | an inception crop |
| ind/rc, ind/ic | its own mild or inception crop | another one |
| same/rc, same/ic | one mild or inception crop | the same crop |
| mix ("FunMatch") | as same/ic, mixed with the next image's | the same mixture |
| ind/ic+mixup | as ind/ic, mixed | its own crops, mixed alike |

The last one is not the paper's: it tells mixup's effect from consistency's.
"""

import dataclasses
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from kd_heuristics import image_layout, integers, nearest
from kd_heuristics.data import rectangles
from kd_heuristics.data.mixup import mix, mixup_coefficient

# Of each name: the teacher's rectangle, the student's, whether they are one, and p of
# mixup's Beta(p, p), 0 for none.
VARIANTS: dict[str, tuple[str | None, str, bool, float]] = {
    "fix/rs": ("whole", "whole", True, 0.0),
    "fix/cc": ("central", "mild", False, 0.0),
    "fix/ic_ens": (None, "inception", False, 0.0),
    "ind/rc": ("mild", "mild", False, 0.0),
    "ind/ic": ("inception", "inception", False, 0.0),
    "same/rc": ("mild", "mild", True, 0.0),
    "same/ic": ("inception", "inception", True, 0.0),
    "mix": ("inception", "inception", True, 1.0),
    "ind/ic+mixup": ("inception", "inception", False, 1.0),
}

# What the parts of a key are for.
_TEACHER, _STUDENT, _MIXUP = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How a teacher and a student look at a batch; made by `create`.

    Views of equal settings are equal functions, so that they share compiled programs.

    Attributes:
      name: a key of `VARIANTS`.
      teacher_size: pixels a side of what the teacher sees.
      student_size: pixels a side of what the student sees.
      flip: mirrors random crops with probability one half, after the crop; one crop
        for both is mirrored for both. Fixed looks are never mirrored.
      mixup: p of Beta(p, p); 0 mixes nothing.
      fraction: of mild and central crops.
      area: of inception crops.
      aspect: of inception crops; all three see `rectangles.rectangle`.
    """

    name: str
    teacher_size: int
    student_size: int
    flip: bool
    mixup: float
    fraction: float
    area: tuple[float, float]
    aspect: tuple[float, float]

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher looks at each batch; false where targets are stored."""
        return VARIANTS[self.name][0] is not None

    @property
    def is_fixed(self) -> bool:
        """Whether the target of an image is the same at every step."""
        return VARIANTS[self.name][0] not in rectangles.RANDOM

    @property
    def is_shared(self) -> bool:
        """Whether the student sees the teacher's rectangle."""
        return VARIANTS[self.name][2]

    def __call__(
        self, images: UInt8[Array, "b h w c"], key: jax.Array
    ) -> dict[str, jax.Array]:
        """What both see of a batch; pure, for jit, scan and vmap.

        Args:
          images: uint8 of one stored size, the originals that crops are cut from.
          key: of all that is random.

        Raises: ValueError for images of another type or layout.

        Returns: "teacher" float32 [b, teacher_size, teacher_size, c] (left out for
          stored targets) and "student" likewise, in units of uint8 pixels but not
          rounded, for `normalize`; their rectangles "teacher_box" and "student_box"
          float32 [b, 4] (top, left, height, width) in pixels of `images`, and
          "teacher_flip" and "student_flip" bool [b], all before mixing; and "mixup", a
          scalar, the coefficient of `mix` with which images were mixed, 1 for none.
        """
        _check_images(images)
        count, height, width, _ = images.shape
        coefficient = mixup_coefficient(jax.random.fold_in(key, _MIXUP), self.mixup)
        looks = self.looks(key, count, height, width)
        seen: dict[str, jax.Array] = {"mixup": coefficient}
        for who, (box, flipped) in looks.items():
            size = self.teacher_size if who == "teacher" else self.student_size
            if who == "student" and self.is_shared and size == self.teacher_size:
                pixels = seen["teacher"]
            else:
                pixels = rectangles.cut(images, box, size, flipped)
                pixels = mix(pixels, coefficient) if self.mixup else pixels
            seen |= {who: pixels, f"{who}_box": box, f"{who}_flip": flipped}
        return seen

    def looks(
        self, key: jax.Array, count: int, height: int, width: int
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Rectangles [b, 4] and flips [b] of "teacher", where it looks, and "student".

        Args:
          key: as for the call.
          count: of images, b.
          height: of the images, in pixels.
          width: as `height`.
        """
        looks = {}
        if self.has_teacher:
            looks["teacher"] = self._look("teacher", key, count, height, width)
        looks["student"] = (
            looks["teacher"]
            if self.is_shared
            else self._look("student", key, count, height, width)
        )
        return looks

    def box(self, who: str, draws: Any, height: Any, width: Any) -> Any:
        """The rectangle of "teacher" or "student" from draws [..., 4] in [0, 1).

        Args:
          who: "teacher" or "student".
          draws: NumPy's on a host, JAX's on a device; see `rectangles.rectangle`.
          height: of the images, in pixels; a number or an array [...].
          width: as `height`.
        """
        return rectangles.rectangle(
            self._kind(who),
            draws,
            height,
            width,
            fraction=self.fraction,
            area=self.area,
            aspect=self.aspect,
        )

    def finish(self, batch: dict[str, Any], key: jax.Array) -> dict[str, Any]:
        """Flips and mixes crops that were cut elsewhere: a batch of `data.stream`.

        Args:
          batch: "student" and, unless it is the same, "teacher", uint8 [b, s, s, c].
          key: as for the call.

        Returns: as the call does, beside what else the batch holds.
        """
        coefficient = mixup_coefficient(jax.random.fold_in(key, _MIXUP), self.mixup)
        looks = self.looks(key, len(batch["student"]), 1, 1)  # for their flips
        seen = {**batch, "mixup": coefficient}
        for who, (_, flipped) in looks.items():
            pixels = jnp.asarray(batch.get(who, batch["student"]))
            flips = flipped[:, None, None, None]
            pixels = jnp.where(flips, pixels[:, :, ::-1], pixels).astype(jnp.float32)
            pixels = mix(pixels, coefficient) if self.mixup else pixels
            box = batch.get(f"{who}_box", batch.get("student_box"))
            seen |= {who: pixels, f"{who}_box": box, f"{who}_flip": flipped}
        return seen

    def _kind(self, who):
        teacher, student, *_ = VARIANTS[self.name]
        kind = teacher if who == "teacher" else student
        assert kind is not None, f"the teacher of {self.name} does not look"
        return kind

    def _look(self, who, key, count, height, width):
        own = jax.random.fold_in(key, _TEACHER if who == "teacher" else _STUDENT)
        shape = count, rectangles.NUM_DRAWS + 1
        draws = jax.random.uniform(own, shape, jnp.float32)
        mirrored = self.flip and self._kind(who) in rectangles.RANDOM
        flipped = draws[:, -1] < (0.5 if mirrored else 0.0)
        return self.box(who, draws[:, :-1], height, width), flipped


def create(
    name: str,
    *,
    teacher_size: SupportsIndex,
    student_size: SupportsIndex | None = None,
    flip: bool = True,
    mixup: float | None = None,
    fraction: float = rectangles.FRACTION,
    area: tuple[float, float] = rectangles.AREA,
    aspect: tuple[float, float] = rectangles.ASPECT,
) -> View:
    """A way of looking, by its name in the paper.

    Args:
      name: one of `VARIANTS`.
      teacher_size: pixels a side of what the teacher sees, whatever is stored.
      student_size: of what the student sees; None: the teacher's.
      flip: mirrors random crops with probability one half; false for digits.
      mixup: p of Beta(p, p); None: 1 for mix and ind/ic+mixup, else 0, none. The paper
        has p = 1, its code tried 0, 0.1, 0.5 and 1.
      fraction: the side of mild and central crops, a part of the smaller side. The
        paper does not define a mild crop; 128 / 160 is how its evaluation crops.
      area: smallest and largest part of the image that an inception crop covers.
      aspect: smallest and largest width / height of an inception crop.

    Raises: ValueError for an unknown name, a size below 1, a p below 0, mixup of fixed
      targets, or crops that are none.

    >>> view = create("same/ic", teacher_size=8, student_size=4)
    >>> seen = view(jnp.zeros((2, 16, 16, 3), jnp.uint8), jax.random.key(0))
    >>> seen["teacher"].shape, seen["student"].shape
    ((2, 8, 8, 3), (2, 4, 4, 3))
    >>> bool((seen["teacher_box"] == seen["student_box"]).all())
    True
    """
    nearest.choose(name, VARIANTS, "view")
    student_size = teacher_size if student_size is None else student_size
    mixup = VARIANTS[name][3] if mixup is None else float(mixup)
    if not mixup >= 0:
        raise ValueError(f"mixup is p of Beta(p, p), at least 0 (none), got {mixup}")
    if mixup and name.startswith("fix/"):
        raise ValueError(
            f"mixup={mixup} of the images would not mix the fixed targets of {name!r}; "
            "choose mixup=0, or mix, same/ic or ind/ic"
        )
    rectangles.check(fraction, area, aspect)
    return View(
        name=name,
        teacher_size=integers.integer("teacher_size", teacher_size, 1),
        student_size=integers.integer("student_size", student_size, 1),
        flip=bool(flip),
        mixup=mixup,
        fraction=float(fraction),
        area=(float(area[0]), float(area[1])),
        aspect=(float(aspect[0]), float(aspect[1])),
    )


def look(
    images: UInt8[Array, "b h w c"],
    size: int,
    kind: str = "central",
    fraction: float = rectangles.FRACTION,
) -> Float32[Array, "b size size c"]:
    """What a network sees in evaluation: the central crop, or the whole image.

    Args:
      images: uint8 of one stored size.
      size: pixels a side of the result.
      kind: "central" or "whole".
      fraction: of a central crop, as in `create`.

    >>> look(jnp.zeros((2, 16, 16, 3), jnp.uint8), 8).shape
    (2, 8, 8, 3)
    """
    nearest.choose(kind, ("central", "whole"), "kind of look")
    rectangles.check(fraction, rectangles.AREA, rectangles.ASPECT)
    _check_images(images)
    count, height, width, _ = images.shape
    draws = jnp.zeros((count, rectangles.NUM_DRAWS), jnp.float32)
    box = rectangles.rectangle(kind, draws, height, width, fraction=fraction)
    return rectangles.cut(images, box, size)


def _check_images(images):
    image_layout.check(images.shape)
    if images.dtype != jnp.uint8:
        raise ValueError(
            f"a view cuts uint8 pixels, got {images.dtype}; give it the originals, and "
            "what it returns to data.normalize"
        )
