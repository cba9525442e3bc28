"""What can be wrong with a box: one judgement, which each message words in its own way.

`rpn_lib.boxes` words it for who writes a program, `rpn_lib.data.problems` for who has
drawn the boxes, `rpn_lib.figures` for who draws them. Boxes here are four plain
numbers; neither torch nor numpy is needed.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple


class BoxFault(NamedTuple):
    """What is wrong with a box.

    Attributes:
        kind: a coordinate that is no finite number; a side that is turned round, so
            that x2 < x1 or y2 < y1; one without length; a box that reaches outside its
            image.
        along: `"x"` or `"y"`: which side is turned round or has no length.
        pixels: how long the side is, or how far the box reaches outside.
    """

    kind: Literal["not finite", "swapped", "zero", "outside"]
    along: Literal["x", "y"] = "x"
    pixels: float = 0.0

    @property
    def side(self) -> str:
        """The side in words, `width` or `height`."""
        return "width" if self.along == "x" else "height"


def box_fault(
    box: Sequence[float],
    image_size: Sequence[float] | None = None,
    thin: float = 0.0,
    tolerance: float = 0.0,
) -> BoxFault | None:
    """What is wrong with a box; of several faults the first in the order of the kinds.

    Args:
        box: `x1, y1, x2, y2`, pixels.
        image_size: `(height, width)`, pixels; without it the borders are not looked at.
        thin: a side shorter than this has no length, pixels.
        tolerance: how far a box may reach outside, pixels.

    Returns:
        `None` where nothing is wrong.

    >>> box_fault([10, 10, 10, 30])
    BoxFault(kind='zero', along='x', pixels=0)
    >>> box_fault([10, 10, 20, 30], (40, 15))
    BoxFault(kind='outside', along='x', pixels=5)
    >>> box_fault([-10, 10, 20, 30]) is None
    True
    """
    if not all(map(math.isfinite, box)):
        return BoxFault("not finite")
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        return BoxFault("swapped", "x" if x2 < x1 else "y")
    if x1 == x2 or x2 - x1 < thin:
        return BoxFault("zero", "x", x2 - x1)
    if y1 == y2 or y2 - y1 < thin:
        return BoxFault("zero", "y", y2 - y1)
    if image_size is None:
        return None
    height, width = image_size
    outside = max(-x1, -y1, x2 - width, y2 - height)
    return BoxFault("outside", pixels=outside) if outside > tolerance else None
