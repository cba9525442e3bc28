"""Numbers of a Pascal-VOC file, and what is wrong with them."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from rpn_lib.data.problems import (
    LOOKS_LIKE_SHARES,
    Fault,
    Problem,
    all_are_shares,
    all_fit_as_xywh,
    box_problem,
)

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_fault(
    corners: Sequence[float], size: tuple[int, int], first_pixel: int
) -> Fault | None:
    """What is wrong with a box as Pascal VOC writes it."""
    xmin, ymin, xmax, ymax = corners
    # A box of one point, xmin = xmax, is one pixel wide in VOC's way of counting, but
    # it marks no object: it is what a slip of the mouse leaves behind.
    everywhere = (math.inf, math.inf)
    fault = box_problem(corners, everywhere, CORNERS, tolerance=math.inf)
    if fault is not None:
        return fault
    if first_pixel and -1 < min(xmin, ymin) < 1:
        return Fault(
            "first pixel",
            f"{'xmin' if xmin < 1 else 'ymin'} is below 1, and VOC counts pixels from "
            "1.",
            "If the tool that wrote the file counts from 0, read it with first_pixel=0 "
            "(--first-pixel 0).",
        )
    return box_problem([xmin - first_pixel, ymin - first_pixel, xmax, ymax], size)


def read_number(element: Element, key: str) -> tuple[float, str]:
    """A number of an annotation, and why it cannot be one."""
    text = element.findtext(key)
    if text is None or not text.strip():
        return math.nan, f"{key} is missing."
    try:
        return float(text), ""
    except ValueError:
        return math.nan, f"{key} is {text!r}, which is no number."


def rotation_of(element: Element) -> float:
    """Degrees by which CVAT turned a box, 0 where nothing is noted."""
    for attribute in element.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            degrees, _ = read_number(attribute, "value")
            return degrees if math.isfinite(degrees) else 0.0
    return 0.0


LOOKS_LIKE_XYWH = Fault(
    "format",
    "The boxes look like x, y, width and height: read so, every one lies in its image; "
    "read as two corners, some have their corners swapped.",
    "Convert all of them: xmax = xmin + width - 1, ymax = ymin + height - 1.",
)


def of_another_format(
    problems: list[Problem],
    boxes: Sequence[tuple[Sequence[float], tuple[float, float]]],
    root: Path,
) -> list[Problem]:
    """One message for the data set in place of one for every box that happens to show.

    The boxes whose numbers happen to fit would be silently wrong.

    Args:
        problems: what was found in all boxes.
        boxes: four numbers as they stand, and `(height, width)` of the image.
        root: the folder.
    """
    where = str(root / "Annotations")
    if all_fit_as_xywh(boxes):
        others = [one for one in problems if one.kind != "swapped"]
        return [Problem(where, LOOKS_LIKE_XYWH), *others]
    if all_are_shares(boxes):
        others = [one for one in problems if one.kind != "first pixel"]
        return [Problem(where, LOOKS_LIKE_SHARES), *others]
    return problems
