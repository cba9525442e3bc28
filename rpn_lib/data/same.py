"""What stands twice in a data set: boxes of an image, and pictures in two splits.

Dimension letters: see `rpn_lib.data.records`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from rpn_lib.data.records import Boxes, Record

SAME = 0.99  # IoU of two boxes of a class that are one box twice


def same_boxes(record: Record) -> list[tuple[int, int]]:
    """Pairs of boxes of one class that are practically the same.

    Args:
        record: the annotation of an image.

    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 8]], dtype=np.float32)
    >>> same_boxes(Record("a", Path("a"), (9, 9), boxes, ["x", "x", "x"], boxes[:0]))
    [(0, 1)]
    """
    if len(record.boxes) < 2:
        return []
    boxes = record.boxes.astype(np.float64)
    order = np.argsort(boxes[:, 0], kind="stable")
    pairs = []
    # Boxes that are the same begin at nearly the same x: a window, not all pairs.
    for place, i in enumerate(order):
        width = boxes[i, 2] - boxes[i, 0]
        for j in order[place + 1 :]:
            if boxes[j, 0] - boxes[i, 0] > (1 - SAME) * width:
                break
            if (
                record.classes[i] == record.classes[j]
                and _iou(boxes[i], boxes[j]) > SAME
            ):
                pairs.append((int(min(i, j)), int(max(i, j))))
    return sorted(pairs)


def _iou(a: Boxes, b: Boxes) -> float:
    """As `rpn_lib.boxes.box_iou`, for two boxes; the check of a folder has no torch."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    overlap = float(sides.prod())
    areas = float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod())
    return overlap / (areas - overlap)


def same_pictures(
    of_one_length: Iterable[list[Path]], split_of: Mapping[Path, str]
) -> Iterator[tuple[Path, Path]]:
    """Pictures that are the same to the byte as one of another split, and that one.

    Args:
        of_one_length: files that have the same number of bytes.
        split_of: the split that each belongs to.

    >>> list(same_pictures([[Path("a"), Path("b")]], {Path("a"): "x", Path("b"): "x"}))
    []
    """
    for paths in of_one_length:
        if len({split_of[path] for path in paths}) < 2:
            continue  # so most files need not be read once more
        first: dict[bytes, Path] = {}
        for path in paths:
            digest = hashlib.sha256(path.read_bytes()).digest()
            other = first.setdefault(digest, path)
            if split_of[other] != split_of[path]:
                yield path, other
