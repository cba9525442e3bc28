"""Resizing: an image and its boxes, together.

torchvision's `transforms.v2` moves image and boxes. What becomes of size and boxes is
known here without the image too. Objects that become very small stay: a network is
measured on them like on all others. It is not trained on them: `tidy` drops them.

Dimension letters: G true boxes of an image.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import clamp_bounding_boxes

from rpn_lib.data.reading import LEAST_SIDE
from rpn_lib.data.records import Boxes, Sample, Target
from rpn_lib.data.sides import MIN_SIDE, fitted_boxes, fitted_size
from rpn_lib.errors import SettingError


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
        SettingError: a side that is too short.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> image, target = Resize(96)(*ShapesDataset(image_size=(192, 256))[1])
    >>> tuple(image.shape)
    (3, 96, 128)
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        if side < LEAST_SIDE:
            raise SettingError(f"side={side} must be {LEAST_SIDE} pixels or more.")
        self.side = side

    def resize(self, *sample: Any) -> Any:
        """Resize an image, or an image and its target, of which no box is clamped."""
        size = self.size_of(sample[0].shape[-2:])
        return v2.Resize(size, antialias=True)(*sample)

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """What becomes of an image's size, without the image.

        Args:
            size: `(height, width)`, pixels.

        >>> Resize(96).size_of((192, 256)), Resize(96).size_of((100, 1000))
        ((96, 128), (16, 160))
        """
        return fitted_size(size, self.side)

    def boxes_of(self, boxes: Boxes | Tensor, size: tuple[int, int]) -> Tensor:
        """What becomes of the boxes of an image, without the image.

        Args:
            boxes: `(G, 4)`, xyxy, pixels.
            size: `(height, width)` of the image, pixels.

        >>> Resize(240).boxes_of(torch.tensor([[0.0, 0, 40, 40]]), (480, 640)).tolist()
        [[0.0, 0.0, 20.0, 20.0]]
        """
        return torch.from_numpy(fitted_boxes(np.asarray(boxes), size, self.side))

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
