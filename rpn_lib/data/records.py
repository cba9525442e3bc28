"""What is known of annotated images before any picture is read.

A reader (`rpn_lib.data.voc`, `coco`, `yolo`) scans all annotations of a split, notes
everything that cannot be right (`rpn_lib.data.problems`) and decodes no picture. torch
is not needed for it: boxes are numpy arrays until a sample is asked for
(`rpn_lib.data.dataset`).

Dimension letters: G true boxes of an image; I regions of it that are ignored.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from rpn_lib.data.images import image_size, look_at
from rpn_lib.data.problems import Fault, Problem
from rpn_lib.data.reading import Reading
from rpn_lib.errors import PictureError

if TYPE_CHECKING:
    from torch import Tensor

Boxes: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

Target = dict[str, Any]


Sample: TypeAlias = tuple["Tensor", Target]


Transform: TypeAlias = Callable[["Tensor", Target], Sample]


class Record(NamedTuple):
    """The annotation of one image.

    Attributes:
        name: what messages call it.
        path: the picture.
        size: `(height, width)` as the annotation says, pixels.
        boxes: `(G, 4)`, float32, xyxy, pixels from 0.
        classes: the name of the class of each box.
        crowds: `(I, 4)`, the same of regions to ignore: crowds that nobody has drawn
            one by one, and objects that are marked difficult.
    """

    name: str
    path: Path
    size: tuple[int, int]
    boxes: Boxes
    classes: list[str]
    crowds: Boxes


def as_boxes(rows: Sequence[Sequence[float]]) -> Boxes:
    """Rows of four numbers as `(G, 4)`, float32.

    >>> as_boxes([]).shape, as_boxes([[0, 1, 2, 3]]).shape
    ((0, 4), (1, 4))
    """
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


class Found(NamedTuple):
    """A box of an annotation.

    Attributes:
        box: xyxy, pixels from 0.
        label: the name of its class.
        difficult: whether the file marks it as an object that need not be found.
        crowd: whether it is a region of many objects.
    """

    box: Sequence[float]
    label: str
    difficult: bool = False
    crowd: bool = False


def make_record(
    name: str,
    path: Path,
    size: tuple[int, int],
    found: Sequence[Found],
    reading: Reading,
    counts: Counter[str],
) -> Record:
    """A record of what was found in an image.

    Args:
        name, path, size: what a `Record` says of the image.
        found: the boxes in the image.
        reading: what becomes of difficult objects.
        counts: what was met, for `notes_on`; it is added to.
    """
    boxes, classes, regions = [], [], []
    for one in found:
        counts["crowd"] += one.crowd
        counts[f"difficult {reading.difficult}"] += one.difficult and not one.crowd
        if one.crowd or (one.difficult and reading.difficult == "ignore"):
            regions.append(one.box)
        elif not (one.difficult and reading.difficult == "drop"):
            boxes.append(one.box)
            classes.append(one.label)
    return Record(name, path, size, as_boxes(boxes), classes, as_boxes(regions))


NOTES = {
    "size": "{} annotations give no size of the picture: it was read from the file.",
    "bndbox": "{} objects have several bndbox: each of these counts as an object.",
    "rotation": "{} boxes are turned (CVAT's rotation): their upright hulls are used.",
    "twice": "{} pictures are listed twice: each is read once.",
    "polygon": "{} rows are polygons or turned boxes: their upright hulls are used.",
    "crowd": "{} crowds are regions to ignore.",
    "difficult ignore": (
        "{} objects are marked difficult or to be ignored: they are regions to ignore; "
        'difficult="keep" or "drop" (--difficult) reads them otherwise.'
    ),
    "difficult keep": "{} objects that are marked difficult are kept as objects.",
    "difficult drop": "{} objects that are marked difficult are left out.",
}


def notes_on(counts: Counter[str]) -> list[str]:
    """Sentences on what a reader met and understood in its own way."""
    return [NOTES[key].format(f"{counts[key]:,}") for key in NOTES if counts[key]]


TRUE, FALSE = (
    ("1", "1.0", "true", "yes"),
    ("0", "0.0", "false", "no", "", "unspecified"),
)


def flag(name: str, value: object) -> tuple[bool, Fault | None]:
    """A yes or no as tools write it: 0 or 1, as a number or in quotes.

    Args:
        name: what the file calls it.
        value: as it stands there; `None` where it does not.

    >>> flag("iscrowd", "0"), flag("iscrowd", 1)
    ((False, None), (True, None))
    >>> flag("iscrowd", 2)[1].reason
    'iscrowd is 2.'
    """
    text = "" if value is None else str(value).strip().lower()
    if text in TRUE or text in FALSE:
        return text in TRUE, None
    return False, Fault("flag", f"{name} is {value!r}.", "Write 0 or 1.")


def whole(value: object) -> int | None:
    """A whole number, also one that a tool wrote as `"7"` or `7.0`.

    >>> whole("7"), whole(7.0), whole("seven"), whole(True)
    (7, 7, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([-+]?\d{1,400})(\.0*)?\s*", value)
        return int(match[1]) if match else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def upright_hull(
    box: Sequence[float], degrees: float, size: tuple[int, int]
) -> list[float]:
    """The upright box around one that is turned about its centre, cut at the image.

    Args:
        box: xyxy, before it is turned.
        degrees: how far it is turned.
        size: `(height, width)` of the image.

    >>> [round(x) for x in upright_hull([0, 20, 40, 40], 90, (100, 100))]
    [10, 10, 30, 50]
    """
    x1, y1, x2, y2 = box
    cos, sin = (
        abs(math.cos(math.radians(degrees))),
        abs(math.sin(math.radians(degrees))),
    )
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    wide, high = w * cos + h * sin, w * sin + h * cos
    return [
        max(x - wide, 0.0),
        max(y - high, 0.0),
        min(x + wide, float(size[1])),
        min(y + high, float(size[0])),
    ]


@dataclass
class Scan:
    """All annotations of a split, and what is wrong with them.

    Attributes:
        records: the images.
        classes: names of the classes; labels count from 1 in this order.
        problems: what cannot be right.
        annotations: the file or folder that the annotations come from.
        notes: what a user should know though nothing is wrong.
        reading: how all was understood.
        warnings: what is most likely wrong, but can be trained on.
        is_pool: whether train and val are parts of it that a hash chooses.
    """

    records: list[Record]
    classes: list[str]
    problems: list[Problem]
    annotations: Path
    notes: list[str] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)
    warnings: list[Problem] = field(default_factory=list)
    is_pool: bool = False

    def count(self) -> str:
        """Images, boxes and regions to ignore, in words."""
        boxes = sum(len(record.boxes) for record in self.records)
        regions = sum(len(record.crowds) for record in self.records)
        return counted(len(self.records), boxes, regions)


def counted(images: int, boxes: int, regions: int) -> str:
    """A sentence on what there is.

    >>> counted(3, 1200, 0), counted(1, 2, 1)
    ('3 images, 1,200 boxes.', '1 images, 2 boxes, 1 regions to ignore.')
    """
    more = f", {regions:,} regions to ignore" if regions else ""
    return f"{images:,} images, {boxes:,} boxes{more}."


def nothing_to_learn(scan: Scan) -> Problem | None:
    """A split without a single object, which can be neither learnt nor measured.

    Args:
        scan: the annotations of the split.
    """
    if any(len(record.boxes) for record in scan.records):
        return None
    if not scan.records:
        fault = Fault("no object", "It names no image.", "Is it the right file?")
        return Problem(str(scan.annotations), fault)
    regions = sum(len(record.crowds) for record in scan.records)
    what = f"The {len(scan.records):,} images hold no object"
    if regions:
        fault = Fault(
            "no object",
            f"{what}: all {regions:,} annotations are crowds or regions to ignore.",
            "A network would learn nothing. If they are single objects, set iscrowd to "
            '0 (COCO), or read difficult ones with difficult="keep" (--difficult '
            "keep).",
        )
    else:
        fault = Fault(
            "no object",
            f"{what}.",
            "There is nothing to learn and nothing to measure: is it the right file?",
        )
    return Problem(str(scan.annotations), fault)


def unreadable_problem(path: Path, error: PictureError) -> Problem:
    """A picture that cannot be read."""
    reason = f"It cannot be read as an image: {error.reason}"
    return Problem(str(path), Fault("bad picture", reason, error.fix))


def size_or_problem(path: Path, reading: Reading) -> tuple[int, int] | Problem:
    """Height and width of a picture, or why it cannot be read.

    Args:
        path: the picture.
        reading: how pictures are read.
    """
    try:
        return image_size(path, reading.exif, reading.max_pixels)
    except PictureError as error:
        return unreadable_problem(path, error)


def picture_problem(
    record: Record, decode: bool = True, reading: Reading | None = None
) -> Problem | None:
    """What is wrong with the picture of an annotation, or `None`.

    Args:
        record: the annotation.
        decode: read all of the picture, which alone shows that it is truncated; if not,
            only its size.
        reading: how pictures are read.
    """
    how = reading or Reading()
    try:
        look = look_at(record.path, decode, how.exif, how.max_pixels)
    except PictureError as error:
        return unreadable_problem(record.path, error)
    if look.size == record.size:
        return None
    return size_problem(record, look.size, look.orientation >= 5)


def size_problem(
    record: Record, found: tuple[int, int], on_side: bool = True
) -> Problem:
    """A picture whose size is not that of its annotation.

    Args:
        record: the annotation.
        found: `(height, width)` of the picture.
        on_side: whether its camera noted that it is stored on its side, or may have.
    """
    height, width = record.size
    fix = "One of them was resized or turned without the other."
    if found == (width, height) and not on_side:
        fix += " Or width and height are exchanged in the annotation."
    elif found == (width, height):
        fix += (
            " If the boxes were drawn on the picture as it is stored, not as its "
            'camera turned it, read it with exif="ignore" (--exif ignore).'
        )
    fault = Fault(
        "size",
        f"It is {found[1]} x {found[0]} pixels, but its annotation says {width} x "
        f"{height}.",
        fix,
    )
    return Problem(str(record.path), fault)
