"""Annotated images: what is known of each, and a data set that reads them.

Pascal VOC and COCO have this in common: a scan goes through all annotations, notes
everything that cannot be right (`rpn_lib.data.problems`) and touches no picture;
pictures are read when they are asked for. torchvision's
`VOCDetection` and `CocoDetection` read the same files but check nothing in them; for
files without faults the boxes are the same, but for VOC's count from 1, which
torchvision keeps.

Dimension letters: H, W height and width of an image; G true boxes of an image; I
regions of it that are ignored.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from rpn_lib.data.images import image_size, read_image
from rpn_lib.data.problems import Problem
from rpn_lib.errors import DataError

Target = dict[str, Any]


Sample = tuple[Tensor, Target]


Transform = Callable[[Tensor, Target], Sample]


OnBadBox = Literal["error", "drop"]


class Record(NamedTuple):
    """The annotation of one image.

    Attributes:
        name: what messages call it.
        path: the picture.
        size: `(height, width)` as the annotation says, pixels.
        boxes: `(G, 4)`, float32, xyxy, pixels from 0.
        classes: of each box.
        crowds: `(I, 4)`, the same of regions that hold objects nobody has drawn.
    """

    name: str
    path: Path
    size: tuple[int, int]
    boxes: Tensor
    classes: list[str]
    crowds: Tensor


class Scan(NamedTuple):
    """All annotations of a split, and what is wrong with them.

    Attributes:
        records: the images.
        classes: names of the classes; labels count from 1 in this order.
        problems: what cannot be right.
        annotations: the file or folder that the annotations come from.
    """

    records: list[Record]
    classes: list[str]
    problems: list[Problem]
    annotations: Path


def make_target(
    boxes: Tensor,
    labels: Sequence[int],
    image_id: str,
    image: Tensor,
    crowds: Tensor | None = None,
) -> Target:
    """A target as torchvision's `transforms.v2` expects it.

    Args:
        boxes: `(G, 4)`, xyxy, pixels.
        labels: G classes, from 1.
        image_id: what to call the image in a message.
        image: `(3, H, W)`.
        crowds: `(I, 4)`, regions to ignore; no entry of the target if not given.

    >>> target = make_target(torch.zeros(0, 4), [], "a", torch.zeros(3, 4, 6))
    >>> sorted(target), target["boxes"].canvas_size
    (['boxes', 'image_id', 'labels'], (4, 6))
    """
    size = tuple(image.shape[-2:])

    def as_boxes(values: Tensor) -> Tensor:
        wrapped: Tensor = tv_tensors.BoundingBoxes(
            values.reshape(-1, 4).float(), format="XYXY", canvas_size=size
        )
        return wrapped

    target: Target = {
        "boxes": as_boxes(boxes),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
    }
    if crowds is not None:
        target["ignore_boxes"] = as_boxes(crowds)
    return target


class AnnotatedFolder(Dataset[Sample]):
    """What VOC and COCO folders have in common: a scan, and pictures when asked for.

    Attributes:
        names: the images of the split.
        classes: names of the classes; labels count from 1 in this order.
        records: the annotation of each image.
        dropped: what was wrong with each box that was left out.
    """

    def __init__(
        self, scan: Scan, transform: Transform | None, on_bad_box: OnBadBox
    ) -> None:
        if on_bad_box not in ("error", "drop"):
            raise DataError(f'on_bad_box is "error" or "drop", not {on_bad_box!r}.')
        fatal = [
            problem
            for problem in scan.problems
            if on_bad_box == "error" or not problem.droppable
        ]
        if fatal:
            text = str(fatal[0])
            if fatal[0].droppable:
                text += (
                    ' Or leave such boxes out with on_bad_box="drop" (--on-bad-box '
                    "drop)."
                )
            if len(fatal) > 1:
                text += f" {len(fatal) - 1} more: rpn check lists them all."
            raise DataError(text)
        if not scan.records:
            raise DataError(f"{scan.annotations} names no image.")
        self.records = scan.records
        self.classes = scan.classes
        self.names = [record.name for record in scan.records]
        self.dropped = [str(problem) for problem in scan.problems]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """Read image `index`."""
        record = self.records[index]
        image = tv_tensors.Image(read_image(record.path))
        found: tuple[int, int] = tuple(image.shape[1:])
        if found != record.size:
            raise DataError(str(size_problem(record, found)))
        labels = [self.classes.index(name) + 1 for name in record.classes]
        crowds = record.crowds if self.has_crowds else None
        target = make_target(record.boxes, labels, record.name, image, crowds)
        return self.transform(image, target) if self.transform else (image, target)

    has_crowds = False


def picture_problem(record: Record, decode: bool = True) -> Problem | None:
    """What is wrong with the picture of an annotation, or `None`.

    Args:
        record: of a scan.
        decode: read all of the picture, which alone shows that it is truncated; if not,
            only its size.
    """
    try:
        if decode:
            height, width = read_image(record.path).shape[1:]
        else:
            height, width = image_size(record.path)
    except DataError as error:
        reason = str(error).removeprefix(f"{record.path} ")
        return Problem(
            str(record.path),
            f"It {reason}" if reason.startswith("cannot") else reason,
            "Copy or export the picture anew, or take its name out of the split.",
        )
    if (height, width) != record.size:
        return size_problem(record, (height, width))
    return None


def size_problem(record: Record, found: tuple[int, int]) -> Problem:
    """A picture whose size is not that of its annotation.

    Args:
        record: the annotation.
        found: `(height, width)` of the picture.
    """
    height, width = record.size
    return Problem(
        str(record.path),
        f"It is {found[1]} x {found[0]} pixels, but its annotation says {width} x "
        f"{height}.",
        "One of them was resized or turned without the other.",
    )


def leaving_problem(file: str, item: str, name: str) -> Problem:
    """A name in a file that points out of the data folder."""
    return Problem(
        file,
        f"{name!r} points out of the data folder.",
        "Nothing outside it is read: copy the picture into it and name it there.",
        item,
    )
