"""Batches: samples kept in memory, and lists of images and targets made of them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_dtype

from rpn_lib.data.dataset import transformed
from rpn_lib.data.records import Sample, Target, Transform


class InMemory(Dataset[Sample]):
    """A data set read once and kept, so that an epoch does not wait for files.

    Args:
        dataset: what to keep.
        transform: applied afresh at every access: random flips and crops belong here.
        progress: wraps the numbers of the samples while they are read, for a bar.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> kept = InMemory(ShapesDataset(length=2))
    >>> len(kept), kept[1][1]["image_id"]
    (2, 'scene 1')
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        transform: Transform | None = None,
        progress: Callable[[Sequence[int]], Iterable[int]] = iter,
    ) -> None:
        numbers = range(len(dataset))  # type: ignore[arg-type]
        self.samples = [dataset[i] for i in progress(numbers)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, transformed."""
        return transformed(self.transform, *self.samples[index])


def collate(samples: Iterable[Sample]) -> tuple[list[Tensor], list[Target]]:
    """A batch: images as floats in 0..1, and targets, each in a list.

    Images may differ in size and in the number of their boxes, so nothing is stacked;
    `rpn_lib.padding.pad_images` does that. Images and boxes are plain tensors here:
    what torchvision's transforms need to know of them has served its purpose.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> scenes = ShapesDataset(length=2)
    >>> images, targets = collate([scenes[0], scenes[1]])
    >>> images[0].dtype, [t["image_id"] for t in targets]
    (torch.float32, ['scene 0', 'scene 1'])
    >>> type(targets[1]["boxes"])
    <class 'torch.Tensor'>
    """
    images, targets = zip(*samples)
    return (
        [
            to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
            for image in images
        ],
        [
            {
                key: value.as_subclass(Tensor) if isinstance(value, Tensor) else value
                for key, value in target.items()
            }
            for target in targets
        ],
    )
