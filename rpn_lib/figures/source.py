"""Source code on a page: what the library runs, short enough to read."""

import inspect
import re
from collections.abc import Callable
from typing import Any

_DOCSTRING = re.compile(r'\n +"""(?:[^"]|"(?!""))*"""(?=\n)')


def show_source(*functions: Callable[..., Any]) -> None:
    """Print functions or classes as the library has them, without their docstrings.

    Args:
        *functions: what to print, in this order, a blank line between two.

    >>> from rpn_lib.boxes import box_area
    >>> show_source(box_area)
    def box_area(boxes: Tensor) -> Tensor:
        boxes = upcast(boxes)
        return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    """
    sources = [inspect.getsource(function).rstrip() for function in functions]
    print("\n\n".join(_DOCSTRING.sub("", source) for source in sources))
