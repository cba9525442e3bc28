"""Numbers of a COCO file as tools write them, and what is wrong with them."""

import math
from typing import Any

from rpn_lib.data.problems import (
    LARGEST,
    Fault,
    box_problem,
)
from rpn_lib.data.records import whole

# COCO's own files have boxes that reach out by parts of a pixel, from rounding.
COCO_TOLERANCE = 1.0


LOOKS_LIKE_XYXY = Fault(
    "format",
    "The boxes look like two corners: read so, every one lies in its image; read as x, "
    "y, width and height, some reach outside.",
    "COCO's bbox is [x, y, width, height]: convert all of them.",
)


def shown(value: object) -> str:
    """A value for a message, not longer than that.

    >>> shown("7"), shown("x" * 100)[-5:]
    ("'7'", 'xx...')
    """
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def as_float(number: float | str) -> float:
    """A number of a JSON file, where whole ones may have any length.

    >>> as_float(7), as_float("7"), as_float(10**400)
    (7.0, 7.0, inf)
    """
    try:
        return float(number)
    except OverflowError:
        return -math.inf if str(number).startswith("-") else math.inf


def four_numbers(box: object) -> list[float] | None:
    """The four numbers of a box, also where a tool wrote them in quotes.

    >>> four_numbers([1, 2.5, "3", "4.5"])
    [1.0, 2.5, 3.0, 4.5]
    >>> four_numbers([1, 2, 3]) or four_numbers([1, 2, 3, "four"])
    """
    if not (isinstance(box, list) and len(box) == 4):
        return None
    if not all(isinstance(number, int | float | str) for number in box):
        return None
    try:
        return [as_float(number) for number in box]
    except ValueError:
        return None


def read_key(value: object) -> int | str | None:
    """What an id is compared by: 7, 7.0 and "7" are the same."""
    number = whole(value)
    return value if number is None and isinstance(value, str) else number


def coco_fault(
    x: float, y: float, w: float, h: float, size: tuple[int, int]
) -> Fault | None:
    """What is wrong with a box as COCO writes it, `None` where nothing is."""
    if all(map(math.isfinite, (x, y, w, h))) and (w < 0 or h < 0):
        return Fault(
            "swapped",
            f"The {'width' if w < 0 else 'height'} is negative.",
            "COCO's bbox is [x, y, width, height]: are these two corners?",
        )
    corners = [x, y, x + w, y + h]
    if not all(map(math.isfinite, (w, h))):  # infinite less infinite is no number
        corners = [x, y, w, h]
    return box_problem(corners, size, tolerance=COCO_TOLERANCE)


def read_size(row: dict[str, Any]) -> tuple[tuple[int, int] | None, Fault | None]:
    """Height and width of an image, and what is wrong with them.

    Both are `None` where the file does not say: VIA 3 writes -1.
    """
    given = row.get("height"), row.get("width")
    if any(value is None or whole(value) == -1 for value in given):
        return None, None
    height, width = map(whole, given)
    if height is not None and width is not None:
        lowest, highest = sorted((height, width))
        if lowest >= 1 and highest <= LARGEST:
            return (height, width), None
    return None, Fault(
        "size",
        f"height and width are {shown(row.get('height'))} and "
        f"{shown(row.get('width'))}.",
        "Write the size of the picture there, in pixels.",
    )


def rotation_of(row: dict[str, Any]) -> float:
    """Degrees by which CVAT turned a box, 0 where nothing is noted."""
    attributes = row.get("attributes")
    value = attributes.get("rotation") if isinstance(attributes, dict) else None
    try:
        degrees = float(value) if value is not None else 0.0
    except (TypeError, ValueError):
        return 0.0
    return degrees if math.isfinite(degrees) else 0.0


def order_of(key: int | str) -> tuple[bool, int | str]:
    """What ids are sorted by: numbers first."""
    return isinstance(key, str), key
