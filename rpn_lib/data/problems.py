"""What can be wrong with an annotation, said so that it can be put right.

A `Problem` names the file, the box in it, the kind, the reason and the fix. The readers
collect them; `rpn check` lists them all, and training refuses to start with the first.
What a program does about a problem hangs on its kind, never on its words.

Boxes here are four numbers as they stand in a file.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple

from rpn_lib.box_faults import box_fault

Kind = Literal[
    "unreadable",  # files
    "no annotation",
    "no picture",
    "bad picture",
    "leaves",
    "twice",
    "number",  # entries of them
    "size",
    "id",
    "image",
    "class",
    "flag",
    "row",
    "not finite",  # boxes
    "swapped",
    "zero",
    "outside",
    "first pixel",
    "format",
    "duplicate",  # the data set as a whole
    "shared",
    "leak",
    "whole image",
    "no object",
    "too small",
    "dark",
]

GROUPED = 10  # of one kind; where there are more, `report` gives an example and a count


LARGEST = 10**9  # pixels of a side; no picture has more


THIN = 1e-3  # pixels; in float32 the sides of such a box may be equal


class Fault(NamedTuple):
    """What is wrong, without the place.

    Attributes:
        kind: a word by which programs tell faults apart.
        reason: what is wrong, a sentence.
        fix: what to do about it, a sentence.
    """

    kind: Kind
    reason: str
    fix: str = ""


class Problem(NamedTuple):
    """Something that cannot be right in a data set.

    Attributes:
        file: the file or folder that it was found in.
        fault: what is wrong.
        item: which box or entry of the file, `"object 3"`; empty for the whole file.
        droppable: whether the box can be left out and all else used.

    >>> fault = Fault("zero", "The width is zero.", "Drop the box.")
    >>> print(Problem("a.xml", fault, "object 3"))
    a.xml, object 3: The width is zero. Drop the box.
    """

    file: str
    fault: Fault
    item: str = ""
    droppable: bool = False

    @property
    def kind(self) -> Kind:
        """What sort of problem it is."""
        return self.fault.kind

    @property
    def reason(self) -> str:
        """What is wrong."""
        return self.fault.reason

    def __str__(self) -> str:
        where = f"{self.file}, {self.item}" if self.item else self.file
        return f"{where}: {self.fault.reason} {self.fault.fix}".rstrip()


def box_problem(
    box: Sequence[float],
    image_size: tuple[float, float],
    names: Sequence[str] = ("x1", "y1", "x2", "y2"),
    tolerance: float = 0,
) -> Fault | None:
    """What is wrong with a box.

    Args:
        box: `x1, y1, x2, y2`, pixels, from 0.
        image_size: `(height, width)`, pixels.
        names: what the file calls the four.
        tolerance: how far a box may reach outside, pixels: files with rounded numbers.

    Returns:
        kind, reason and fix; `None` where nothing is wrong.

    >>> box_problem([10, 10, 10, 30], (100, 100)).reason
    'The width is zero.'
    >>> box_problem([10, 10, 20, 30], (100, 100)) is None
    True
    """
    found = box_fault(box, image_size, THIN, tolerance)
    if found is None:
        return None
    if found.kind == "not finite":
        infinite = any(map(math.isinf, box))
        return Fault(
            "not finite",
            f"A coordinate is {'infinite' if infinite else 'not a finite number'}.",
            "Look for a missing value or a division by zero in the tool that wrote it.",
        )
    if found.kind == "swapped":
        low, high = names[::2] if found.along == "x" else names[1::2]
        return Fault(
            "swapped",
            f"{high} is less than {low}.",
            "The corners are swapped, or the numbers are x, y, width and height.",
        )
    if found.kind == "zero":
        length = f"{found.pixels:.1g} pixels" if found.pixels else "zero"
        return Fault(
            "zero",
            f"The {found.side} is {length}.",
            "Such a box marks no object: delete it, or draw it anew.",
        )
    height, width = image_size
    return Fault(
        "outside",
        f"It reaches {found.pixels:g} pixels outside the image, which is {width:g} "
        f"wide and {height:g} high.".replace(" 1 pixels ", " 1 pixel "),
        "Was the image resized or turned after it was annotated? If not, clip the box.",
    )


def clipped(
    box: Sequence[float], image_size: tuple[float, float]
) -> list[float] | Fault:
    """A box cut at the border of its image, or a fault where nothing is left of it.

    Args:
        box: `x1, y1, x2, y2`, pixels, from 0.
        image_size: `(height, width)`, pixels.

    >>> clipped([-0.5, 2, 10, 8], (100, 100))
    [0.0, 2, 10, 8]
    >>> clipped([-9, 2, 0, 8], (100, 100)).reason
    'It lies outside the image.'
    """
    x1, y1, x2, y2 = box
    height, width = image_size
    x1, y1 = max(x1, 0.0), max(y1, 0.0)
    x2, y2 = min(x2, float(width)), min(y2, float(height))
    if x1 >= x2 or y1 >= y2:
        return Fault("outside", "It lies outside the image.", "Delete it.")
    return [x1, y1, x2, y2]


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


LOOKS_LIKE_SHARES = Fault(
    "format",
    "All coordinates lie between 0 and 1: they look like shares of the width and the "
    "height.",
    "Multiply them by width and height; in this format they are pixels.",
)


def all_are_shares(
    boxes: Iterable[tuple[Sequence[float], tuple[float, float]]], least: int = 3
) -> bool:
    """Whether boxes that should be pixels look like shares of width and height.

    Args:
        boxes: four numbers, and `(height, width)` of the image, of each box.
        least: with fewer boxes than this nothing is said.

    >>> all_are_shares([([0.1, 0.2, 0.3, 0.4], (100, 100))] * 3)
    True
    """
    numbers = [box for box, _ in boxes]
    return len(numbers) >= least and all(0 <= n <= 1 for box in numbers for n in box)


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


def leaving_problem(file: str, item: str, name: str) -> Problem:
    """A name in a file that points out of the data folder."""
    fault = Fault(
        "leaves",
        f"{name!r} points out of the data folder.",
        "Nothing outside it is read: copy the picture into it and name it there.",
    )
    return Problem(file, fault, item)


def report(problems: Sequence[Problem], summary: str = "", every: bool = False) -> str:
    """Each problem on a line of its own, and how many there are.

    Of a kind that there are more than ten of, the first one stands for all.

    Args:
        problems: what was found.
        summary: a sentence on what was looked at.
        every: list all of them, however many.

    >>> print(report([], "2 images, 3 boxes."))
    2 images, 3 boxes. Nothing is wrong with them.
    >>> zero = Problem("a.xml", Fault("zero", "The width is zero."), "object 3")
    >>> print(report([zero] * 12))
    a.xml, object 3: The width is zero. (11 more of this kind)
    12 problems.
    """
    if not problems:
        return f"{summary} Nothing is wrong with them.".lstrip()
    count = f"{len(problems):,} problem" + ("" if len(problems) == 1 else "s")
    return "\n".join([*lines_of(problems, every), f"{summary} {count}.".lstrip()])


def lines_of(problems: Sequence[Problem], every: bool = False) -> list[str]:
    """A line for each problem, or for each kind that there is too much of.

    Args:
        problems: what was found.
        every: list all of them, however many.
    """
    counts = Counter(problem.kind for problem in problems)
    lines: list[str] = []
    told: set[Kind] = set()
    for problem in problems:
        if every or counts[problem.kind] <= GROUPED:
            lines.append(str(problem))
        elif problem.kind not in told:
            told.add(problem.kind)
            more = counts[problem.kind] - 1
            lines.append(f"{problem} ({more:,} more of this kind)")
    return lines
