"""The boxes and lines of a figure: what is wrong with one, and its numbers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rpn_lib.box_faults import BoxFault, box_fault
from rpn_lib.boxes import box_iou
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.figures.boxes import STYLES


def read_box(xyxy: Sequence[float] | Tensor, where: str) -> list[float]:
    """The coordinates as numbers; `where` is what an error says first.

    >>> read_box((5, 0, 1), "box 3")
    Traceback (most recent call last):
    rpn_lib.errors.BoxError: box 3: (5, 0, 1) is not four finite numbers.
    """
    try:
        given = xyxy.tolist() if isinstance(xyxy, Tensor) else xyxy
        corners = [float(value) for value in given]
    except (TypeError, ValueError):
        corners = []
    fault = box_fault(corners) if len(corners) == 4 else BoxFault("not finite")
    if fault is not None and fault.kind == "not finite":
        raise BoxError(f"{where}: {xyxy} is not four finite numbers.")
    if fault is not None and fault.kind == "swapped":  # a box without area can be drawn
        raise BoxError(
            f"{where}: {corners} is not (x1, y1, x2, y2), x1 <= x2, y1 <= y2."
        )
    return corners


def read_points(points: Any, where: str) -> list[float]:
    """`x, y, x, y, ...`, rounded.

    >>> read_points([(0.04, 1.26), (3, 4)], "line 0")
    [0, 1.3, 3, 4]
    """
    try:
        pairs = [[float(value) for value in point] for point in points]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or any(len(p) != 2 or not all(map(math.isfinite, p)) for p in pairs):
        raise SettingError(f"{where}: {points} is not a list of finite points (x, y).")
    return [tenths(value) for pair in pairs for value in pair]


def check_style(style: str, label: str, where: str) -> None:
    """Refuse an unknown style, and a label that is no text."""
    if style not in STYLES:
        raise SettingError(f"{where}: style {style!r} is none of {', '.join(STYLES)}.")
    if not isinstance(label, str):
        raise SettingError(f"{where}: the label is {label!r}, not a text.")


def best_ious(
    corners: Sequence[Sequence[float]], is_true: Sequence[bool]
) -> list[list[int]]:
    """In thousandths, the largest IoU of each box with a true box; else an empty list.

    Not in hundredths: 0.698 misses a threshold that 0.70 would seem to reach.

    >>> best_ious([[0, 0, 4, 4], [0, 0, 4, 2]], [True, False])
    [[], [500]]
    """
    truths = [xyxy for xyxy, true in zip(corners, is_true) if true]
    if not truths:
        return [[] for _ in corners]
    every, true = (
        torch.tensor(rows, dtype=torch.float64) for rows in (corners, truths)
    )
    best = box_iou(every, true).amax(dim=1).tolist()
    return [[] if true else [round(1000 * v)] for true, v in zip(is_true, best)]


def tenths(value: float) -> float:
    """Rounded to a tenth; whole numbers without a point, which takes less room.

    >>> tenths(1.26), tenths(-0.04)
    (1.3, 0)
    """
    value = round(value, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return int(value) if value.is_integer() else value
