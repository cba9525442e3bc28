"""A folder of annotated photographs as a data set of torch.

A sample is an image and a target, as in torchvision's `transforms.v2`. torchvision's
`VOCDetection` and `CocoDetection` read the same files but check nothing in them; for
files without faults the boxes are the same, but for VOC's count from 1, which
torchvision keeps.

Dimension letters: H, W height and width of an image; G true boxes of an image; I
regions of it that are ignored.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from rpn_lib.data.images import read_image
from rpn_lib.data.reading import OnBadBox
from rpn_lib.data.records import (
    Boxes,
    Sample,
    Scan,
    Target,
    Transform,
    size_problem,
)
from rpn_lib.errors import DataError, refuse_other

IGNORED = -1  # the label of a region to ignore while a sample is transformed


def make_target(
    boxes: Tensor | Boxes,
    labels: Sequence[int],
    image_id: str,
    image: Tensor,
    crowds: Tensor | Boxes | None = None,
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
    size = (image.shape[-2], image.shape[-1])
    target: Target = {
        "boxes": _wrapped(boxes, size),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
    }
    if crowds is not None:
        target["ignore_boxes"] = _wrapped(crowds, size)
    return target


def _wrapped(boxes: Tensor | Boxes, size: tuple[int, int]) -> Tensor:
    plain = torch.as_tensor(np.array(boxes)) if isinstance(boxes, np.ndarray) else boxes
    wrapped: Tensor = tv_tensors.BoundingBoxes(
        plain.reshape(-1, 4).float(), format="XYXY", canvas_size=size
    )
    return wrapped


def transformed(transform: Transform | None, image: Tensor, target: Target) -> Sample:
    """A sample after a transform, regions to ignore included.

    torchvision's `RandomIoUCrop` and `SanitizeBoundingBoxes` choose among the boxes of
    one entry and apply the choice to all entries. So the regions stand among the boxes
    for that long, with the label -1.

    Args:
        transform: called with image and target; `None` leaves the sample as it is.
        image: `(3, H, W)`.
        target: see `make_target`.

    >>> from torchvision.transforms import v2
    >>> boxes, image = torch.tensor([[0.0, 0, 4, 4]]), torch.zeros(3, 8, 8)
    >>> target = make_target(boxes, [1], "a", image, boxes.new_zeros(0, 4))
    >>> moved = transformed(v2.RandomHorizontalFlip(p=1), image, target)[1]
    >>> moved["boxes"].tolist(), moved["ignore_boxes"].shape
    ([[4.0, 0.0, 8.0, 4.0]], torch.Size([0, 4]))
    """
    if transform is None:
        return image, target
    if "ignore_boxes" not in target:
        return transform(image, target)
    joined = dict(target)
    boxes, regions = joined["boxes"], joined.pop("ignore_boxes")
    both = torch.cat([boxes.as_subclass(Tensor), regions.as_subclass(Tensor)])
    joined["boxes"] = tv_tensors.wrap(both, like=boxes)
    joined["labels"] = torch.cat(
        [target["labels"], target["labels"].new_full((len(regions),), IGNORED)]
    )
    image, changed = transform(image, joined)
    is_region = changed["labels"] == IGNORED
    plain = changed["boxes"].as_subclass(Tensor)
    return image, {
        **changed,
        "boxes": tv_tensors.wrap(plain[~is_region], like=changed["boxes"]),
        "labels": changed["labels"][~is_region],
        "ignore_boxes": tv_tensors.wrap(plain[is_region], like=changed["boxes"]),
    }


class AnnotatedFolder(Dataset[Sample]):
    """The images of a scan, read when they are asked for; see `open_folder`.

    Args:
        scan: the annotations of a split.
        transform: called with image and target, for instance a `transforms.v2.Resize`.
        on_bad_box: `error` refuses a box without area, with a side turned round or
            outside its image; `drop` leaves it out and lists it in `dropped`.

    Attributes:
        names: the images of the split.
        classes: names of the classes; labels count from 1 in this order.
        records: the annotation of each image.
        dropped: what was wrong with each box that was left out.
        notes: what a user should know though nothing is wrong.
        warnings: what is most likely wrong, but can be trained on.

    Raises:
        DataError: the first problem of the scan that stands in the way.
        SettingError: another `on_bad_box`.
    """

    def __init__(
        self,
        scan: Scan,
        transform: Transform | None = None,
        on_bad_box: OnBadBox = "error",
    ) -> None:
        refuse_other("on_bad_box", on_bad_box, get_args(OnBadBox))
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
        self.scan = scan
        self.records = scan.records
        self.classes = scan.classes
        self.notes = scan.notes
        self.warnings = scan.warnings
        self.names = [record.name for record in scan.records]
        self.dropped = [str(problem) for problem in scan.problems]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """Read image `index`."""
        record, how = self.records[index], self.scan.reading
        pixels = read_image(record.path, how.exif, how.max_pixels)
        image = tv_tensors.Image(pixels)
        found: tuple[int, int] = tuple(image.shape[1:])
        if found != record.size:
            raise DataError(str(size_problem(record, found)))
        labels = [self.classes.index(name) + 1 for name in record.classes]
        target = make_target(record.boxes, labels, record.name, image, record.crowds)
        return transformed(self.transform, image, target)
