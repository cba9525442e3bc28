"""How annotations and pictures are to be understood: defaults, choices and their check.

The settings of a run (`rpn_lib.training.config`) take them from here. Neither torch nor
numpy is needed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from rpn_lib.data.problems import Fault
from rpn_lib.errors import SettingError, refuse_other

LEAST_SIDE = 32  # pixels: what the shorter side of an image is resized to, at the least

FirstPixel = Literal[0, 1]

Difficult = Literal["ignore", "keep", "drop"]

Exif = Literal["apply", "ignore"]

OnBadBox = Literal["error", "drop"]


class ReadingOptions(TypedDict, total=False):
    """The fields of `Reading`, as functions take them after their own arguments."""

    classes: Sequence[str] | None
    first_pixel: FirstPixel
    difficult: Difficult
    exif: Exif
    max_pixels: int | None


@dataclass(frozen=True)
class Reading:
    """How annotations and pictures are to be understood.

    Args:
        classes: the names that objects may have; any if not given.
        first_pixel: Pascal VOC counts pixels from 1 and includes the last one; 0 for
            tools that count from 0 and exclude it.
        difficult: what VOC calls `difficult`, and what COCO files call `ignore`, is a
            region to `ignore`, as in VOC's own evaluation; `keep` takes it for an
            object like any other, `drop` for background.
        exif: `apply` turns photographs upright as their camera noted; `ignore` leaves
            them as they are stored, for boxes that were drawn on them so.
        max_pixels: the most that a picture may have; about 179 million if not given.

    Raises:
        SettingError: another value.

    >>> Reading(difficult="hide")
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: difficult is ignore, keep or drop, not 'hide'.
    """

    classes: Sequence[str] | None = None
    first_pixel: FirstPixel = 1
    difficult: Difficult = "ignore"
    exif: Exif = "apply"
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        refuse_other("first_pixel", self.first_pixel, get_args(FirstPixel))
        refuse_other("difficult", self.difficult, get_args(Difficult))
        refuse_other("exif", self.exif, get_args(Exif))
        if self.max_pixels is not None and self.max_pixels < 1:
            raise SettingError(f"max_pixels={self.max_pixels} must be 1 or more.")

    def unknown_class(self, name: str) -> Fault | None:
        """A class that is not wanted."""
        if self.classes is None or name in self.classes:
            return None
        return Fault(
            "class",
            f"The class {name!r} is unknown.",
            f"Known are {', '.join(self.classes)}: correct the name, or add it.",
        )
