"""Resizing: an image and its boxes, together.

torchvision's `transforms.v2` moves image and boxes; what is added here is that boxes
are cut at the border of the image afterwards, and that those of which nothing to speak
of is left are dropped.
"""

from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import clamp_bounding_boxes

from rpn_lib.data.records import Sample, Target
from rpn_lib.errors import BoxError

# Pixels; a box of which less is inside the image marks nothing that could be seen.
MIN_SIDE = 2.0


def tidy(image: Tensor, target: Target) -> Sample:
    """Cut boxes at the border of the image, and drop those that have next to no area.

    Args:
        image: `(3, H, W)`.
        target: with `boxes` and `labels`, perhaps `ignore_boxes`.

    Returns:
        the image, and a new target.

    >>> import torch
    >>> from rpn_lib.data.records import make_target
    >>> boxes = torch.tensor([[-5.0, 0, 5, 5], [9, 0, 12, 9]])
    >>> target = make_target(boxes, [1, 2], "a", torch.zeros(3, 10, 10))
    >>> tidy(torch.zeros(3, 10, 10), target)[1]["boxes"].tolist()
    [[0.0, 0.0, 5.0, 5.0]]
    """
    target = dict(target)
    for key in ("boxes", "ignore_boxes"):
        if key not in target:
            continue
        clamped = clamp_bounding_boxes(target[key])
        plain = clamped.as_subclass(Tensor)
        keep = (plain[:, 2:] - plain[:, :2] >= MIN_SIDE).all(dim=1)
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

    def forward(self, image: Tensor, target: Target) -> Sample:
        """Resize image and boxes."""
        return tidy(*self.resize(image, target))
