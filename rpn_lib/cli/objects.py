"""The objects of a data set as a run sees them, and what is chosen to suit them.

Anchors and the size of the images are chosen from the training boxes. Objects of which
resizing leaves next to nothing are counted, and it is said what would keep them.

Dimension letters: G true boxes of an image; K anchor shapes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.cli.console import log
from rpn_lib.coverage import coverage
from rpn_lib.data.batches import InMemory
from rpn_lib.data.records import Record, Scan, nothing_to_learn
from rpn_lib.data.resize import Resize, learnable
from rpn_lib.data.sides import choose_side, on_small_objects
from rpn_lib.errors import DataError, SettingError
from rpn_lib.models import SIZES, count_levels
from rpn_lib.shapes import suggest_shapes
from rpn_lib.training.config import NetworkConfig

SHAPES = 12  # anchor shapes of a single level; with a pyramid 3 for each


class Objects(NamedTuple):
    """The objects that there are to learn, after resizing.

    Attributes:
        boxes: `(G, 4)` of each image, xyxy, pixels after resizing.
        sizes: `(height, width)` of each image after resizing.
        names: of the images.
        side: shorter side that photographs are resized to; `None` for scenes.
    """

    boxes: list[Tensor]
    sizes: list[tuple[int, int]]
    names: list[str]
    side: int | None


def objects_of_scenes(scenes: InMemory) -> Objects:
    """The objects of synthetic scenes, which are not resized."""
    return Objects(
        [target["boxes"].as_subclass(Tensor) for _, target in scenes.samples],
        [(image.shape[1], image.shape[2]) for image, _ in scenes.samples],
        [str(target["image_id"]) for _, target in scenes.samples],
        None,
    )


def objects_of(records: Sequence[Record], side: int | None = None) -> Objects:
    """The objects of annotated photographs that are large enough to be learnt.

    Args:
        records: of a folder.
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


def choose_anchors(config: NetworkConfig, objects: Objects) -> NetworkConfig:
    """Anchors that fit the objects, where nothing else is given.

    Args:
        config: comes back as it is if it has `sizes` or `anchors`.
        objects: to fit the shapes of the anchors to.

    Raises:
        DataError: no object to fit anchors to.
        SettingError: more levels than there are different ones.
    """
    if config.sizes is not None or config.anchors is not None:
        return config
    if objects.side is None and not config.fpn:
        return replace(config, sizes=SIZES)
    levels = count_levels(config.backbone, config.fpn)
    per_level = config.shapes or (3 if config.fpn else SHAPES)
    boxes = torch.cat([torch.zeros(0, 4), *objects.boxes])
    if not len(boxes):
        raise DataError(
            "There is no object to fit anchors to. Give their sizes with --sizes."
        )
    sides = (boxes[:, 2:] - boxes[:, :2]).tolist()
    different = len(set(map(tuple, sides)))
    count = min(levels * per_level, different // levels * levels)
    if not count:
        raise SettingError(
            f"{different} different shapes of objects are too few for {levels} "
            "levels. Give anchor sizes with --sizes."
        )
    sample = boxes[torch.linspace(0, len(boxes) - 1, min(len(boxes), 5000)).long()]
    found = suggest_shapes(sample, min(count, len(sample))).tolist()
    shapes = tuple((round(width, 2), round(height, 2)) for width, height in found)
    return replace(config, anchors=shapes)


def coverage_line(anchors: AnchorGenerator, objects: Objects) -> str:
    """One line on how well anchors fit the training boxes."""
    found = coverage(anchors, objects.boxes, objects.sizes)
    return (
        f"{len(found.boxes):,} objects, {sum(anchors.num_anchors)} anchor shapes: "
        f"{found.recall(0.5):.0%} have an anchor of IoU 0.5, {found.recall(0.7):.0%} "
        "one of 0.7"
    )
