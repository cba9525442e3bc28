"""The objects of a data set as a run sees them, and what is chosen to suit them.

Anchors and the size of the images are chosen from the training boxes. Objects of which
resizing leaves next to nothing are counted, and it is said what would keep them.

Dimension letters: G true boxes of an image; K anchor shapes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.coverage import coverage, suggest_shapes
from rpn_lib.data.batches import InMemory
from rpn_lib.data.records import Record
from rpn_lib.data.resize import MIN_SIDE, Resize
from rpn_lib.errors import BoxError, DataError
from rpn_lib.training.config import NetworkConfig

# Of objects this large after resizing, all but the smallest tenth are at least as large
# as the stride of the small backbone.
SMALLEST = 16


SIDES = (240, 800)  # least and largest shorter side that is chosen


SHAPES = 12  # anchor shapes of a single level; with a pyramid 3 for each


class Objects(NamedTuple):
    """The objects that there are to learn, after resizing.

    Attributes:
        boxes: `(G, 4)` of each image, xyxy, pixels after resizing.
        sizes: `(height, width)` of each image after resizing.
        names: of the images.
        side: shorter side that photographs are resized to; `None` for scenes.
        small: how many more there are, too small to be learnt after resizing.
        side_for_small: shorter side at which those would be learnt too.
        ignored: how many regions are ignored.
    """

    boxes: list[Tensor]
    sizes: list[tuple[int, int]]
    names: list[str]
    side: int | None
    small: int = 0
    side_for_small: int = 0
    ignored: int = 0

    @property
    def total(self) -> int:
        """How many there are to learn."""
        return sum(map(len, self.boxes))


def objects_of_scenes(scenes: InMemory) -> Objects:
    """The objects of synthetic scenes, which are not resized."""
    return Objects(
        [target["boxes"].as_subclass(Tensor) for _, target in scenes.samples],
        [(image.shape[1], image.shape[2]) for image, _ in scenes.samples],
        [str(target["image_id"]) for _, target in scenes.samples],
        None,
    )


def objects_of(records: Sequence[Record], side: int | None = None) -> Objects:
    """The objects of annotated photographs.

    Args:
        records: of a folder.
        side: shorter side to resize to; chosen by `choose_side` if not given.

    >>> from pathlib import Path
    >>> boxes = torch.tensor([[0.0, 0, 40, 40], [0, 0, 2, 2]])
    >>> record = Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])
    >>> found = objects_of([record], 240)
    >>> found.boxes[0].tolist(), found.small, found.side_for_small
    ([[0.0, 0.0, 20.0, 20.0]], 1, 480)
    """
    side = side or choose_side(records)
    fit = Resize(side)
    fitted = [fit_record(record, fit) for record in records]
    small = sum(len(record.boxes) for record in records)
    small -= sum(len(boxes) for boxes, _ in fitted)
    return Objects(
        [boxes for boxes, _ in fitted],
        [size for _, size in fitted],
        [record.name for record in records],
        side,
        small,
        max((_side_for(record) for record in records), default=0) if small else 0,
        sum(len(record.crowds) for record in records),
    )


def _side_for(record: Record) -> int:
    """The least shorter side at which every object of an image is learnt."""
    if not len(record.boxes):
        return 0
    least = float((record.boxes[:, 2:] - record.boxes[:, :2]).min())
    # The longer side of an image may be 5/3 of `side`, see `Resize`.
    across = max(min(record.size), 0.6 * max(record.size))
    side = max(math.ceil(MIN_SIDE / least * across), 32)
    while len(fit_record(record, Resize(side))[0]) < len(record.boxes):
        side += 1  # sizes are rounded down
    return side


def choose_side(records: Sequence[Record]) -> int:
    """The shorter side at which all but the smallest tenth of the objects are large.

    Large enough for the small backbone, that is at least its stride. Small images train
    faster; more than 800 or less than 240 pixels are not chosen.

    Args:
        records: of a folder.

    >>> from pathlib import Path
    >>> boxes = torch.tensor([[0.0, 0, 40, 40]] * 10)
    >>> choose_side([Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])])
    240
    """
    relative = [
        (record.boxes[:, 2:] - record.boxes[:, :2]).prod(1).sqrt() / min(record.size)
        for record in records
    ]
    sizes = torch.cat([torch.zeros(0), *relative])
    if not len(sizes):
        return SIDES[0]
    wanted = SMALLEST / float(sizes.quantile(0.1))
    return int(min(max(math.ceil(wanted / 16) * 16, SIDES[0]), SIDES[1]))


def fit_record(record: Record, fit: Resize) -> tuple[Tensor, tuple[int, int]]:
    """Boxes and size of an image as they will be after `fit`, without the image.

    >>> from pathlib import Path
    >>> boxes = torch.tensor([[0.0, 0, 40, 40]])
    >>> record = Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])
    >>> fit_record(record, Resize(240))
    (tensor([[ 0.,  0., 20., 20.]]), (240, 320))
    """
    height, width = record.size
    size = fit.size_of(record.size)
    factors = torch.tensor([size[1] / width, size[0] / height] * 2)
    boxes = record.boxes * factors
    boxes[:, 2:] = torch.minimum(boxes[:, 2:], torch.tensor([size[1], size[0]]))
    keep = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(dim=1)
    return boxes[keep], size


def refuse_nothing(objects: Objects, split: str) -> None:
    """Stop a run that has nothing to learn before it starts.

    Raises:
        DataError: no object, or none that resizing leaves.
    """
    if objects.total:
        return
    if objects.small:
        raise DataError(
            f"There is nothing to learn in {split}: each of the {objects.small:,} "
            f"objects is less than {MIN_SIDE:g} pixels wide or high after resizing to "
            f"a shorter side of {objects.side}. With --side {objects.side_for_small} "
            "all are learnt; or cut the images into smaller ones."
        )
    if objects.ignored:
        raise DataError(
            f"There is nothing to learn in {split}: each of the {objects.ignored:,} "
            "annotations is a region to ignore (COCO's iscrowd). Look at the tool that "
            "has written them: an object has iscrowd 0."
        )
    raise DataError(
        f"There is nothing to learn in {split}: none of the {len(objects.names):,} "
        "images has an object. Annotate some, or name another split with --train-split."
    )


def note_on_small(objects: Objects, split: str, use: str) -> str | None:
    """A line on objects that are too small, or `None` where there are none.

    Args:
        objects: of a split.
        split: its name.
        use: what becomes of them: `"not learnt"`.

    >>> found = Objects([torch.ones(3, 4)], [], [], 240, 2, 480)
    >>> note_on_small(found, "train", "not learnt")[:52]
    'note: 2 of 5 objects in train are less than 2 pixels'
    """
    if not objects.small:
        return None
    total = objects.total + objects.small
    return (
        f"note: {objects.small:,} of {total:,} objects in {split} are less than "
        f"{MIN_SIDE:g} pixels wide or high after resizing to a shorter side of "
        f"{objects.side}, and {use}; with --side {objects.side_for_small} all are "
        "large enough."
    )


def choose_anchors(config: NetworkConfig, objects: Objects) -> NetworkConfig:
    """Anchors that fit the objects, where nothing else is given.

    Args:
        config: comes back as it is if it has `sizes` or `anchors`.
        objects: to fit the shapes of the anchors to.

    Raises:
        DataError: no object to fit anchors to.
        BoxError: too few different ones.
    """
    if config.sizes is not None or config.anchors is not None:
        return config
    if objects.side is None and not config.fpn:
        # The shapes of synthetic scenes are 16 to 96 pixels large.
        return replace(config, sizes=(24, 40, 64, 96))
    levels = 5 if config.fpn else 1
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
        raise BoxError(
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
