"""Boxes that pass every check and are wrong: the riddle of an exercise on training.

The exercise asks what was done to them. If you are about to solve it, read no further.
"""

import torch
from torch import Tensor


def spoil(boxes: Tensor, height: float = 192) -> Tensor:
    """What the colleague's program did to the boxes of an image.

    Args:
        boxes: `(G, 4)`, xyxy, pixels.
        height: the height of the image, pixels.

    Returns:
        `(G, 4)`: boxes again, of the same sizes, within the image.

    >>> spoil(torch.tensor([[10.0, 20.0, 50.0, 90.0]]), height=100)
    tensor([[10., 10., 50., 80.]])
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([x1, height - y2, x2, height - y1], dim=1)  # y points up
