"""What becomes of sizes and boxes by resizing, known before any picture is read.

torch is not needed for it, so `rpn check` says at once which objects a run would be
unable to learn.

Dimension letters: G true boxes of an image.
"""

import math
from collections.abc import Sequence

import numpy as np

from rpn_lib.data.records import Boxes, Record

# Pixels; a box of which less is left marks nothing that could be learnt.
MIN_SIDE = 2.0

# Of objects this large after resizing, all but the smallest tenth are at least as large
# as the stride of the small backbone.
SMALLEST = 16


SIDES = (240, 800)  # least and largest shorter side that is chosen


def longest_side(side: int) -> int:
    """The longest that a longer side becomes, where the shorter one is to be `side`."""
    return side * 5 // 3


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of an image after resizing.

    The shorter side gets the given length and the longer one at most 5/3 of that; of a
    longer image the shorter side is less.

    Args:
        size: `(height, width)`, pixels.
        side: pixels.

    >>> fitted_size((192, 256), 96), fitted_size((100, 1000), 96)
    ((96, 128), (16, 160))
    """
    longest = longest_side(side)
    short, long = side, int(side * max(size) / min(size))
    if long > longest:
        short, long = max(int(longest * short / long), 1), longest
    return (short, long) if size[0] <= size[1] else (long, short)


def fitted_boxes(boxes: Boxes, size: tuple[int, int], side: int) -> Boxes:
    """The boxes of an image after resizing.

    Args:
        boxes: `(G, 4)`, float32, xyxy, pixels.
        size: `(height, width)` of the image, pixels.
        side: shorter side after resizing.

    >>> box = np.array([[0, 0, 40, 40]], dtype=np.float32)
    >>> fitted_boxes(box, (480, 640), 240).tolist()
    [[0.0, 0.0, 20.0, 20.0]]
    """
    height, width = fitted_size(size, side)
    ratios = np.array([width / size[1], height / size[0]] * 2, dtype=np.float32)
    limits = np.array([width, height] * 2, dtype=np.float32)
    fitted: Boxes = np.clip(boxes * ratios, 0, limits)
    return fitted


def choose_side(records: Sequence[Record]) -> int:
    """The shorter side at which all but the smallest tenth of the objects are large.

    Large enough for the small backbone, that is at least its stride. Small images train
    faster; more than 800 or less than 240 pixels are not chosen.

    Args:
        records: the annotations of the images.

    >>> from pathlib import Path
    >>> from rpn_lib.data.records import as_boxes
    >>> boxes = as_boxes([[0, 0, 40, 40]] * 10)
    >>> choose_side([Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])])
    240
    """
    relative = [
        np.sqrt((one.boxes[:, 2:] - one.boxes[:, :2]).prod(axis=1)) / min(one.size)
        for one in records
    ]
    sizes = np.concatenate([np.zeros(0, dtype=np.float32), *relative])
    if not len(sizes):
        return SIDES[0]
    wanted = SMALLEST / float(np.quantile(sizes, 0.1))
    return int(min(max(math.ceil(wanted / 16) * 16, SIDES[0]), SIDES[1]))


def too_small(records: Sequence[Record], side: int) -> tuple[int, int, int]:
    """How many objects become too small to be learnt, and where they would not.

    Args:
        records: the annotations of the images.
        side: shorter side after resizing.

    Returns:
        the number of those objects, of all objects, and a shorter side at which every
        one of them would be learnt.

    >>> from pathlib import Path
    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 90, 3]], dtype=np.float32)
    >>> too_small([Record("a", Path(), (960, 960), boxes, ["", ""], boxes[:0])], 240)
    (1, 2, 641)
    """
    small = wanted = 0
    for record in records:
        lost, larger = _lost(record, side)
        small += lost
        while lost:  # once as a rule; sides of a few pixels do not grow in proportion
            wanted = max(wanted, larger)
            lost, larger = _lost(record, larger)
    return small, sum(len(record.boxes) for record in records), wanted


def _lost(record: Record, side: int) -> tuple[int, int]:
    """How many boxes become too small, and a side where they should be large enough."""
    boxes = fitted_boxes(record.boxes, record.size, side)
    sides = boxes[:, 2:] - boxes[:, :2]
    lost = sides[(sides < MIN_SIDE).any(axis=1)]
    shortest = max(float(lost.min(initial=MIN_SIDE)), 1e-6)
    return len(lost), int(side * MIN_SIDE / shortest) + 1


def on_small_objects(records: Sequence[Record], side: int) -> tuple[str, bool]:
    """A sentence on objects that are too small to be learnt; empty where none is.

    Args:
        records: the annotations of the images.
        side: shorter side after resizing.

    Returns:
        the sentence, and whether it holds for every object, so that nothing is left to
        learn.
    """
    small, total, wanted = too_small(records, side)
    if not small:
        return "", False
    return (
        f"{small:,} of {total:,} objects are smaller than {MIN_SIDE:g} pixels where "
        f"the shorter side is {side}. They are not learnt, but count in recall; with "
        f"--side {wanted} all of them would be learnt."
    ), small == total
