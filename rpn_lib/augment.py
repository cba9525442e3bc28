"""Augmentation: the photographs of a data set as they might also have been taken.

Everything is torchvision's `transforms.v2`, which moves image and boxes together; what
is added here is that boxes are cut at the border of the image afterwards, and that
those of which nothing to speak of is left are dropped.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import clamp_bounding_boxes

from rpn_lib.annotated import Sample, Target
from rpn_lib.boxes import BoxError

CHOICES = ("flip", "updown", "scale", "light")

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
    >>> from rpn_lib.annotated import make_target
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


class Fit(nn.Module):
    """Resize so that the shorter side has a given length.

    The longer one gets at most 5/3 of it; of a longer image the shorter side is less.

    Args:
        side: pixels, 32 or more.

    Raises:
        BoxError: a side that is too short.

    >>> from rpn_lib.data import ShapesDataset
    >>> image, target = Fit(96)(*ShapesDataset(image_size=(192, 256))[1])
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

        >>> Fit(96).size_of((192, 256)), Fit(96).size_of((100, 1000))
        ((96, 128), (16, 160))
        """
        short, long = self.side, int(self.side * max(size) / min(size))
        if long > self.longest:
            short, long = max(int(self.longest * short / long), 1), self.longest
        return (short, long) if size[0] <= size[1] else (long, short)

    def forward(self, image: Tensor, target: Target) -> Sample:
        """Resize image and boxes."""
        return tidy(*self.resize(image, target))


class Augment(nn.Module):
    """Random changes of a sample, a new one each time.

    Args:
        kinds: any of `"flip"` (left and right), `"updown"`, `"scale"` (0.7 to 1.4 times
            as large, moved by up to a tenth) and `"light"` (brightness, contrast,
            colours).

    Raises:
        BoxError: another name.

    >>> import torch
    >>> from rpn_lib.data import ShapesDataset
    >>> _ = torch.manual_seed(0)
    >>> scene = ShapesDataset()[1]
    >>> image, target = Augment(["flip", "scale"])(*scene)
    >>> image.shape == scene[0].shape, len(target["boxes"]) <= len(scene[1]["boxes"])
    (True, True)
    """

    def __init__(self, kinds: Sequence[str] = ("flip", "updown")) -> None:
        super().__init__()
        unknown = [kind for kind in kinds if kind not in CHOICES]
        if unknown:
            raise BoxError(f"augment: {unknown[0]!r} is none of {', '.join(CHOICES)}.")
        steps = {
            "flip": v2.RandomHorizontalFlip(),
            "updown": v2.RandomVerticalFlip(),
            "scale": v2.RandomAffine(
                degrees=0, translate=(0.1, 0.1), scale=(0.7, 1.4), fill=114
            ),
            "light": v2.RandomPhotometricDistort(),
        }
        self.steps = nn.ModuleList(steps[kind] for kind in CHOICES if kind in kinds)
        self.cuts = "scale" in kinds

    def forward(self, image: Tensor, target: Target) -> Sample:
        """Change image and boxes."""
        for step in self.steps:
            image, target = step(image, target)
        return tidy(image, target) if self.cuts else (image, target)
