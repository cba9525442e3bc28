"""The objects of a data set as a run sees them, after resizing.

Objects of which resizing leaves next to nothing are counted, and it is said what would
keep them.

Dimension letter: G true boxes of an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from rpn_lib.cli.console import log
from rpn_lib.data.batches import InMemory
from rpn_lib.data.records import Record, Scan, nothing_to_learn
from rpn_lib.data.resize import Resize, learnable
from rpn_lib.data.sides import choose_side, on_small_objects
from rpn_lib.errors import DataError


class Objects(NamedTuple):
    """The objects that there are to learn, after resizing.

    Attributes:
        boxes: `(G, 4)` of each image, xyxy, pixels after resizing.
        sizes: `(height, width)` of each image after resizing.
        names: what each image is called in messages.
        side: shorter side that photographs are resized to; `None` for scenes.
    """

    boxes: list[Tensor]
    sizes: list[tuple[int, int]]
    names: list[str]
    side: int | None


def objects_of_scenes(scenes: InMemory) -> Objects:
    """The objects of synthetic scenes, which are not resized."""
    return Objects(
        [target["boxes"] for _, target in scenes.samples],
        [(image.shape[1], image.shape[2]) for image, _ in scenes.samples],
        [str(target["image_id"]) for _, target in scenes.samples],
        None,
    )


def objects_of(records: Sequence[Record], side: int | None = None) -> Objects:
    """The objects of annotated photographs that are large enough to be learnt.

    Args:
        records: the annotations of the photographs.
        side: shorter side to resize to; chosen by `choose_side` if not given.

    >>> from pathlib import Path
    >>> from rpn_lib.data.records import as_boxes
    >>> boxes = as_boxes([[0, 0, 40, 40], [0, 0, 2, 2]])
    >>> record = Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])
    >>> objects_of([record], 240).boxes[0].tolist()
    [[0.0, 0.0, 20.0, 20.0]]
    """
    side = side or choose_side(records)
    fit = Resize(side)
    fitted = [fit.boxes_of(record.boxes, record.size) for record in records]
    return Objects(
        [boxes[learnable(boxes)] for boxes in fitted],
        [fit.size_of(record.size) for record in records],
        [record.name for record in records],
        side,
    )


def refuse_nothing(scan: Scan, side: int) -> str | None:
    """Stop a run that has nothing to learn before it starts.

    Args:
        scan: the annotations that are to be learnt.
        side: shorter side that images are resized to.

    Returns:
        a sentence on objects that are too small to be learnt; `None` where none is.

    Raises:
        DataError: no object, or none that is large enough after resizing.
    """
    empty = nothing_to_learn(scan)
    if empty is not None:
        raise DataError(str(empty))
    text, everything = on_small_objects(scan.records, side)
    if everything:
        raise DataError(f"There is nothing to learn: {text}")
    return text or None


def check_objects(train_scan: Scan, val_scan: Scan, side: int) -> None:
    """Say what will not be learnt or measured.

    Args:
        train_scan, val_scan: the annotations.
        side: shorter side that images are resized to.

    Raises:
        DataError: there is nothing to learn.
    """
    small = refuse_nothing(train_scan, side)
    if small is not None:
        log.info(f"note: {small}")
    unmeasured = nothing_to_learn(val_scan)
    if unmeasured is not None:
        log.info(f"note: no recall can be measured. {unmeasured}")
