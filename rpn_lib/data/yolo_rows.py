"""YOLO text files: where they lie, and their rows of boxes, polygons, key points."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rpn_lib.data.layout import PICTURES
from rpn_lib.data.problems import Fault


def read_row(
    words: Sequence[str], key_points: int = 0
) -> tuple[int, list[float], bool] | Fault:
    """The class and the box of a row, in shares of the picture.

    Args:
        words: what stands in the row.
        key_points: numbers behind the box in rows of key points; 0 if not known.

    Returns:
        class, `x1, y1, x2, y2`, and whether it is the hull of a polygon; or what is
        wrong.

    >>> read_row("2 0.5 0.5 0.2 0.4".split())
    (2, [0.4, 0.3, 0.6, 0.7], False)
    >>> read_row("0 0.1 0.2 0.5 0.2 0.3 0.9".split())
    (0, [0.1, 0.2, 0.5, 0.9], True)
    """
    numbers = _numbers(words)
    if isinstance(numbers, Fault):
        return numbers
    values = numbers[1:]
    # A float would round what is longer than 15 digits.
    label = int(words[0]) if words[0].isdecimal() else int(numbers[0])
    kind = _row_kind(len(values), key_points)
    if kind is None:
        return Fault(
            "row",
            f"It has {len(numbers)} numbers.",
            "A row is: class cx cy w h. A sixth number is the score of a prediction: "
            "these are not annotations.",
        )
    values = values if kind == "polygon" else values[:4]
    if max(values) > 1.5:
        return Fault(
            "format",
            f"A coordinate is {max(values):g}, above 1.",
            "YOLO's coordinates are shares of the width and the height: are these "
            "pixels? Divide them.",
        )
    if kind == "polygon":
        xs, ys = values[::2], values[1::2]
        return label, [min(xs), min(ys), max(xs), max(ys)], True
    cx, cy, w, h = values
    if w < 0 or h < 0:
        name = "width" if w < 0 else "height"
        return Fault("swapped", f"The {name} is negative.", "Draw the box anew.")
    return label, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], False


def _numbers(words: Sequence[str]) -> list[float] | Fault:
    """The numbers of a row: a class and at least four others."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return Fault(
            "number",
            f"{' '.join(words)[:60]!r} are not numbers alone.",
            "A row is: class cx cy w h, with spaces between them.",
        )
    if not all(map(math.isfinite, numbers)):
        return Fault("not finite", "A number is not finite.", "Delete or correct it.")
    if len(numbers) < 5 or not numbers[0].is_integer():
        return Fault(
            "row",
            f"{' '.join(words)[:60]!r} is no row of YOLO's.",
            "A row is: class cx cy w h, or a class and the corners of a polygon.",
        )
    return numbers


def _row_kind(
    count: int, key_points: int
) -> Literal["box", "key points", "polygon"] | None:
    """What so many numbers behind the class are; nothing that is known if `None`."""
    if count == 4:
        return "box"
    if key_points and count == 4 + key_points:
        return "key points"
    if count >= 6 and count % 2 == 0:
        return "polygon"
    # Key points of three numbers each, x, y and whether they are seen.
    return "key points" if (count - 4) % 3 == 0 else None


def label_file(picture: Path) -> Path:
    """The text file of a picture: in `labels` instead of the last `images` or the like.

    Where there is none, but one beside the picture, it is that.

    >>> label_file(Path("a/images/train/b.jpg")).as_posix()
    'a/labels/train/b.txt'
    """
    beside, parts = picture.with_suffix(".txt"), picture.parts
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() in PICTURES:
            above = Path(*parts[:i])
            there = [x for x in ("labels", "Labels") if (above / x).is_dir()]
            if there or (parts[i].lower() == "images" and not beside.is_file()):
                name = there[0] if there else "labels"
                found = above.joinpath(name, *parts[i + 1 :]).with_suffix(".txt")
                return beside if beside.is_file() and not found.is_file() else found
            break
    return beside


def first_row(path: Path) -> bool:
    """Whether a text file begins with a row such as YOLO's, a class and numbers.

    Rows with a name or with commas are none, but are meant to be: the reader says so.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            words = file.readline().replace(",", " ").split()
        return len(words) >= 5 and all(math.isfinite(float(w)) for w in words[1:])
    except (OSError, ValueError):
        return False
