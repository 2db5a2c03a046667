"""Defines views: which pixels of an image a teacher and its student see.

Source: Beyer et al. 2022, "A good teacher is patient and consistent", section 2 and
Figure 3. The first part of a name tells how the two crops relate (fix: the teacher's
target never changes; ind: independent crops; same: one crop for both), the second part
names the crop.

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
| mix ("FunMatch") | as same/ic, mixed with its neighbour's | the same mixture |
| ind/ic+mixup | its own crops, mixed | its own crops, mixed alike |

The last view is not in the paper. It separates the effect of mixup from consistency.
"""

import dataclasses
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from kd_heuristics.data import image_layout, rectangles
from kd_heuristics.data.mixup import mix, mixup_coefficient
from kd_heuristics.runtime import nearest, values

# Each name maps to the teacher's rectangle, the student's, whether they share one, and
# p of mixup's Beta(p, p), 0 for no mixup.
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

# Indices folded into a key, one per use.
_TEACHER, _STUDENT, _MIXUP = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Crops a batch for a teacher and a student; create it with `create`.

    Views with equal settings are equal functions, so they share compiled programs.

    Attributes:
      name: a key of `VARIANTS`.
      teacher_size: side in pixels of the teacher's crops.
      student_size: side in pixels of the student's crops.
      flip: whether to mirror random crops with probability one half, after cropping. A
        shared crop is mirrored for both. Whole images and central crops are never
        mirrored.
      mixup: p of Beta(p, p); 0 mixes nothing.
      fraction: side of mild and central crops; see `rectangles.rectangle`.
      area: area of inception crops; see `rectangles.rectangle`.
      aspect: aspect ratio of inception crops; see `rectangles.rectangle`.
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
        """Whether the teacher sees each batch; false if its targets are stored."""
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
        """Crops a batch for both; pure, works under jit, scan and vmap.

        Args:
          images: uint8 originals of one stored size.
          key: random key of crops, flips and mixup.

        Raises: ValueError for images of another type or layout.

        Returns: a dictionary of
          - "teacher" float32 [b, teacher_size, teacher_size, c] (absent for stored
            targets) and "student" likewise, in units of uint8 pixels but not rounded,
            for `normalize`;
          - "teacher_box" and "student_box" float32 [b, 4], their rectangles before
            mixing (top, left, height, width) in pixels of `images`;
          - "teacher_flip" and "student_flip" bool [b], their flips before mixing;
          - "mixup", a scalar, the coefficient with which `mix` mixed the images, 1 for
            none.
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
        """Draws rectangles [b, 4] and flips [b] of "student" and, if any, "teacher".

        Args:
          key: the key of `__call__`.
          count: number of images, b.
          height: image height in pixels.
          width: image width in pixels.
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
        """Computes the rectangle of "teacher" or "student" from draws in [0, 1).

        Args:
          who: "teacher" or "student".
          draws: NumPy or JAX array [..., 4]; see `rectangles.rectangle`.
          height: image height in pixels, a number or an array [...].
          width: image width, likewise.
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
        """Flips and mixes a batch that was already cropped, as `data.stream` returns.

        Args:
          batch: "student" and, unless both share pixels, "teacher", uint8 [b, s, s, c].
          key: the key of `__call__`.

        Returns: the entries of `__call__` and the other entries of the batch.
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
        """Returns the kind of rectangle of "teacher" or "student"."""
        teacher, student, *_ = VARIANTS[self.name]
        kind = teacher if who == "teacher" else student
        assert kind is not None, f"the teacher of {self.name} does not look"
        return kind

    def _look(self, who, key, count, height, width):
        """Draws rectangles and flips of "teacher" or "student"."""
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
    """Creates a view by its name in the paper.

    Args:
      name: one of `VARIANTS`.
      teacher_size: side in pixels of the teacher's crops, whatever the stored size.
      student_size: side in pixels of the student's crops; `None` uses the teacher's.
      flip: whether to mirror random crops with probability one half; use false for
        digits.
      mixup: p of Beta(p, p); `None` uses 1 for mix and ind/ic+mixup, else 0 (no mixup).
        The paper uses p = 1; its code tried 0, 0.1, 0.5 and 1.
      fraction: side of mild and central crops, as a fraction of the smaller side. The
        paper does not define a mild crop; 128 / 160 is its evaluation crop.
      area: smallest and largest fraction of the image that an inception crop covers.
      aspect: smallest and largest width / height of an inception crop.

    Raises: ValueError for an unknown name, a size below 1, a p below 0, mixup with
      fixed targets, or crop settings out of range.

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
        raise ValueError(
            f"mixup, p of Beta(p, p), must be at least 0 (no mixup), got {mixup}"
        )
    if mixup and name.startswith("fix/"):
        raise ValueError(
            f"mixup={mixup} would mix the images but not the fixed targets of "
            f"{name!r}; choose mixup=0, or the view mix, same/ic or ind/ic"
        )
    rectangles.check(fraction, area, aspect)
    return View(
        name=name,
        teacher_size=values.integer("teacher_size", teacher_size, 1),
        student_size=values.integer("student_size", student_size, 1),
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
    """Crops images for evaluation: the central crop, or the whole image.

    Args:
      images: uint8 of one stored size.
      size: side of the result in pixels.
      kind: "central" or "whole".
      fraction: side of a central crop; see `create`.

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
    """Raises ValueError for images of another layout than NHWC, or not uint8."""
    image_layout.check(images.shape)
    if images.dtype != jnp.uint8:
        raise ValueError(
            f"a view crops uint8 pixels, got {images.dtype}; give it the original "
            "images, and normalise what it returns with data.normalize"
        )
