"""Augmentation: the photographs of a data set as they might also have been taken.

Everything is torchvision's `transforms.v2`, which moves image and boxes together; what
is left of a box afterwards is `rpn_lib.data.resize.tidy`'s affair.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.transforms import v2

from rpn_lib.data.records import Sample, Target
from rpn_lib.data.resize import tidy
from rpn_lib.errors import SettingError

CHOICES = ("flip", "updown", "scale", "light")


class Augment(nn.Module):
    """Random changes of a sample, a new one each time.

    Args:
        kinds: any of `"flip"` (left and right), `"updown"`, `"scale"` (0.7 to 1.4 times
            as large, moved by up to a tenth) and `"light"` (brightness, contrast,
            colours).

    Raises:
        SettingError: another name.

    >>> import torch
    >>> from rpn_lib.data.scenes import ShapesDataset
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
            raise SettingError(
                f"augment: {unknown[0]!r} is none of {', '.join(CHOICES)}."
            )
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
