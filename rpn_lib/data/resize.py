"""Resizing: an image and its boxes, together.

torchvision's `transforms.v2` moves image and boxes. What becomes of size and boxes is
known here without the image too. Objects that become very small stay: a network is
measured on them like on all others. It is not trained on them: `tidy` drops them.

Dimension letters: G true boxes of an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import clamp_bounding_boxes

from rpn_lib.data.records import Boxes, Record, Sample, Target
from rpn_lib.errors import BoxError

# Pixels; a box of which less is left marks nothing that could be learnt.
MIN_SIDE = 2.0


def tidy(image: Tensor, target: Target) -> Sample:
    """Cut boxes at the border of the image, and drop those that have next to no area.

    For training; what is left out here is measured all the same.

    Args:
        image: `(3, H, W)`.
        target: with `boxes` and `labels`, perhaps `ignore_boxes`.

    Returns:
        the image, and a new target.

    >>> from rpn_lib.data.dataset import make_target
    >>> boxes = torch.tensor([[-5.0, 0, 5, 5], [9, 0, 12, 9]])
    >>> target = make_target(boxes, [1, 2], "a", torch.zeros(3, 10, 10))
    >>> tidy(torch.zeros(3, 10, 10), target)[1]["boxes"].tolist()
    [[0.0, 0.0, 5.0, 5.0]]
    """
    target = {**target, **_clamped(target)}
    for key in ("boxes", "ignore_boxes"):
        if key not in target:
            continue
        plain = target[key].as_subclass(Tensor)
        keep = learnable(plain)
        target[key] = tv_tensors.wrap(plain[keep], like=target[key])
        if key == "boxes":
            target["labels"] = target["labels"][keep]
    return image, target


class Resize(nn.Module):
    """Resize so that the shorter side has a given length.

    The longer one gets at most 5/3 of it; of a longer image the shorter side is less.

    Args:
        side: pixels, 32 or more.

    Raises:
        BoxError: a side that is too short.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> image, target = Resize(96)(*ShapesDataset(image_size=(192, 256))[1])
    >>> tuple(image.shape)
    (3, 96, 128)
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        if side < 32:
            raise BoxError(f"side={side} must be 32 pixels or more.")
        self.side, self.longest = side, side * 5 // 3
        self.resize = v2.Resize(side, max_size=self.longest, antialias=True)

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """What becomes of an image's size, without the image.

        Args:
            size: `(height, width)`, pixels.

        >>> Resize(96).size_of((192, 256)), Resize(96).size_of((100, 1000))
        ((96, 128), (16, 160))
        """
        short, long = self.side, int(self.side * max(size) / min(size))
        if long > self.longest:
            short, long = max(int(self.longest * short / long), 1), self.longest
        return (short, long) if size[0] <= size[1] else (long, short)

    def boxes_of(self, boxes: Boxes | Tensor, size: tuple[int, int]) -> Tensor:
        """What becomes of the boxes of an image, without the image.

        Args:
            boxes: `(G, 4)`, xyxy, pixels.
            size: `(height, width)` of the image, pixels.

        >>> Resize(240).boxes_of(torch.tensor([[0.0, 0, 40, 40]]), (480, 640)).tolist()
        [[0.0, 0.0, 20.0, 20.0]]
        """
        height, width = self.size_of(size)
        plain = torch.as_tensor(boxes)
        ratios = [width / size[1], height / size[0]] * 2
        limits = torch.tensor([width, height] * 2)
        return torch.minimum(plain * torch.tensor(ratios), limits).clamp(min=0)

    def forward(self, image: Tensor, target: Target) -> Sample:
        """Resize image and boxes."""
        image, target = self.resize(image, target)
        return image, {**target, **_clamped(target)}


def _clamped(target: Target) -> Target:
    return {
        key: clamp_bounding_boxes(target[key])
        for key in ("boxes", "ignore_boxes")
        if key in target
    }


def learnable(boxes: Tensor) -> Tensor:
    """Which boxes are large enough to be learnt, after resizing.

    Args:
        boxes: `(G, 4)`, xyxy, pixels.

    >>> learnable(torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 1]])).tolist()
    [True, False]
    """
    return (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(dim=1)


def too_small(records: Sequence[Record], side: int) -> tuple[int, int, int]:
    """How many objects become too small to be learnt, and where they would not.

    Args:
        records: of the images.
        side: shorter side after resizing.

    Returns:
        the number of those objects, of all objects, and the shorter side at which every
        one of them would be learnt.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 90, 3]], dtype=np.float32)
    >>> too_small([Record("a", Path(), (960, 960), boxes, ["", ""], boxes[:0])], 240)
    (1, 2, 641)
    """
    fit = Resize(side)
    small = total = wanted = 0
    for record in records:
        boxes = fit.boxes_of(record.boxes, record.size)
        lost = ~learnable(boxes)
        small, total = small + int(lost.sum()), total + len(boxes)
        if lost.any():
            shortest = (boxes[lost, 2:] - boxes[lost, :2]).min()
            wanted = max(wanted, int(side * MIN_SIDE / float(shortest)) + 1)
    return small, total, wanted
