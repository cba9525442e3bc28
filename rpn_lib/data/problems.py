"""What can be wrong with an annotation, said so that it can be put right.

A `Problem` names the file, the box in it, the reason and the fix. The readers
collect them; `rpn check` lists them all, and training refuses to start with the first.

Boxes here are four numbers as they stand in a file.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple


class Problem(NamedTuple):
    """Something that cannot be right in a data set.

    Attributes:
        file: where it stands.
        reason: what is wrong, a sentence.
        fix: what to do about it, a sentence.
        item: which box or entry of the file, `"object 3"`; empty for the whole file.
        droppable: whether the box can be left out and all else used.

    >>> print(Problem("a.xml", "The width is zero.", "Drop the box.", "object 3"))
    a.xml, object 3: The width is zero. Drop the box.
    """

    file: str
    reason: str
    fix: str
    item: str = ""
    droppable: bool = False

    def __str__(self) -> str:
        where = f"{self.file}, {self.item}" if self.item else self.file
        return f"{where}: {self.reason} {self.fix}".rstrip()


def box_problem(
    box: Sequence[float],
    image_size: tuple[float, float],
    names: Sequence[str] = ("x1", "y1", "x2", "y2"),
    tolerance: float = 0,
) -> tuple[str, str]:
    """What is wrong with a box.

    Args:
        box: `x1, y1, x2, y2`, pixels, from 0.
        image_size: `(height, width)`, pixels.
        names: what the file calls the four.
        tolerance: how far a box may reach outside, pixels: files with rounded numbers.

    Returns:
        the reason and the fix; both empty where nothing is wrong.

    >>> box_problem([10, 10, 10, 30], (100, 100))[0]
    'The width is zero.'
    >>> box_problem([10, 10, 20, 30], (100, 100))
    ('', '')
    """
    x1, y1, x2, y2 = box
    height, width = image_size
    if not all(map(math.isfinite, box)):
        return (
            "A coordinate is not a finite number.",
            "Look for a missing value or a division by zero in the tool that wrote it.",
        )
    if x2 < x1 or y2 < y1:
        low, high = names[::2] if x2 < x1 else names[1::2]
        return (
            f"{high} is less than {low}.",
            "The corners are swapped, or the numbers are x, y, width and height.",
        )
    if x1 == x2 or y1 == y2:
        return (
            f"The {'width' if x1 == x2 else 'height'} is zero.",
            "Such a box marks no object: delete it, or draw it anew.",
        )
    outside = max(-x1, -y1, x2 - width, y2 - height)
    if outside > tolerance:
        return (
            f"It reaches {outside:g} pixels outside the image, which is {width:g} wide "
            f"and {height:g} high.".replace(" 1 pixels ", " 1 pixel "),
            "Was the image resized or turned after it was annotated? If not, clip the "
            "box.",
        )
    return "", ""


def all_fit_as_xywh(
    boxes: Iterable[tuple[Sequence[float], tuple[float, float]]], least: int = 3
) -> bool:
    """Whether boxes that should be two corners look like x, y, width, height.

    Some have corners that are swapped, yet every one of them lies in its image when its
    last two numbers are taken for width and height.

    Args:
        boxes: four numbers from 0, and `(height, width)` of the image, of each box.
        least: with fewer boxes than this nothing is said.

    >>> all_fit_as_xywh([([60, 10, 20, 30], (100, 100))] * 3)
    True
    >>> all_fit_as_xywh([([60, 10, 90, 30], (100, 100))] * 3)
    False
    """
    numbers = [(box, size) for box, size in boxes if all(map(math.isfinite, box))]
    return (
        len(numbers) >= least
        and any(x2 < x1 or y2 < y1 for (x1, y1, x2, y2), _ in numbers)
        and all(
            min(x, y) >= -1
            and min(w, h) >= 0
            and x + w <= wide + 1
            and y + h <= high + 1
            for (x, y, w, h), (high, wide) in numbers
        )
    )


def all_fit_as_xyxy(
    boxes: Iterable[tuple[Sequence[float], tuple[float, float]]], least: int = 3
) -> bool:
    """Whether boxes that should be x, y, width, height look like two corners.

    Some reach outside their image, yet every one of them lies in it when its last two
    numbers are taken for a corner.

    Args:
        boxes: four numbers from 0, and `(height, width)` of the image, of each box.
        least: with fewer boxes than this nothing is said.

    >>> all_fit_as_xyxy([([60, 10, 90, 30], (100, 100))] * 3)
    True
    """
    numbers = [(box, size) for box, size in boxes if all(map(math.isfinite, box))]
    return (
        len(numbers) >= least
        and any(
            x + w > wide + 1 or y + h > high + 1
            for (x, y, w, h), (high, wide) in numbers
        )
        and all(
            0 <= x1 < x2 <= wide + 1 and 0 <= y1 < y2 <= high + 1
            for (x1, y1, x2, y2), (high, wide) in numbers
        )
    )


def leaves_folder(name: str) -> bool:
    """Whether a file name in a data set points out of the folder that it belongs to.

    >>> leaves_folder("street/01.jpg"), leaves_folder("../../etc/passwd")
    (False, True)
    """
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if path.is_absolute() or path.anchor or ".." in path.parts:
            return True
    return "\0" in name


def report(problems: Sequence[Problem], summary: str = "") -> str:
    """Every problem on a line of its own, and how many there are.

    Args:
        problems: what was found.
        summary: a sentence on what was looked at.

    >>> print(report([], "2 images, 3 boxes."))
    2 images, 3 boxes. Nothing is wrong with them.
    """
    if not problems:
        return f"{summary} Nothing is wrong with them.".lstrip()
    count = f"{len(problems)} problem" + ("" if len(problems) == 1 else "s")
    return "\n".join([*map(str, problems), f"{summary} {count}.".lstrip()])
