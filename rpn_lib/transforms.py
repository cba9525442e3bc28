"""Box transforms: from an anchor and a box to the four deltas between them, and back.

Not to be taken for `torchvision.transforms`, which change images: `rpn_lib.data` uses
those.

A shift is measured in sides of the anchor and a change of side as a logarithm, so the
same delta means the same correction for a small anchor and a large one (Faster R-CNN,
equation 2):

    t_x = (x - x_a) / w_a    t_w = log(w / w_a)
    t_y = (y - y_a) / h_a    t_h = log(h / h_a)

with x, y the centre, w, h the sides of the box, and x_a, y_a, w_a, h_a those of the
anchor.

Dimension letters: N boxes, anchors or deltas.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rpn_lib.boxes import upcast

# The largest growth of a side in one step: a 16 pixel anchor becomes at most 1000
# pixels long. Without it, one wild delta of an untrained network overflows to infinity.
MAX_LOG_SCALE = math.log(1000 / 16)


def encode(
    boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1, 1, 1, 1)
) -> Tensor:
    """Deltas that turn each anchor into the box of the same row.

    Args:
        boxes: `(..., 4)`, xyxy, pixels, with sides above 0 (see
            `rpn_lib.boxes.check_boxes`).
        anchors: `(..., 4)`, xyxy, pixels, with sides above 0.
        weights: factors of `t_x, t_y, t_w, t_h`, for targets of about equal spread.

    Returns:
        `(..., 4)`, `t_x, t_y, t_w, t_h`, float32; float64 where boxes or anchors are.

    >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> encode(torch.tensor([[5.0, 0.0, 15.0, 20.0]]), anchor)
    tensor([[0.5000, 0.5000, 0.0000, 0.6931]])
    """
    boxes, anchors = upcast(boxes), upcast(anchors)
    anchor_size = anchors[..., 2:] - anchors[..., :2]  # (..., 2)
    box_size = boxes[..., 2:] - boxes[..., :2]
    # Differences of corners first: they are small wherever in the image the boxes lie,
    # and so is what rounding can do to them.
    shift = (
        (boxes[..., :2] - anchors[..., :2]) + (boxes[..., 2:] - anchors[..., 2:])
    ) / 2
    deltas = torch.cat([shift / anchor_size, (box_size / anchor_size).log()], dim=-1)
    return deltas * deltas.new_tensor(weights)


def decode(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1, 1, 1, 1),
    max_log_scale: float = MAX_LOG_SCALE,
) -> Tensor:
    """Boxes that the deltas make of the anchors: the inverse of `encode`.

    Args:
        deltas: `(..., 4)`, `t_x, t_y, t_w, t_h`.
        anchors: `(..., 4)`, xyxy, pixels.
        weights: those that `encode` was given.
        max_log_scale: t_w and t_h are clamped to this from above, so that no side
            overflows.

    Returns:
        `(..., 4)`, xyxy, pixels, float32, or float64 where deltas or anchors are; they
        may reach outside the image.

    >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> decode(torch.tensor([[0.5, 0.5, 0.0, 0.6931472]]), anchor)
    tensor([[ 5.,  0., 15., 20.]])
    """
    deltas, anchors = upcast(deltas), upcast(anchors)
    deltas = deltas / deltas.new_tensor(weights)
    anchor_size = anchors[..., 2:] - anchors[..., :2]  # (..., 2)
    shift = deltas[..., :2]
    growth = (
        deltas[..., 2:].clamp(max=max_log_scale).exp() - 1
    ) / 2  # of each side, in anchor sides
    # A corner moves by the shift and by half the growth. Written as a correction to the
    # anchor's own corner, only the last sum is as large as the coordinates and rounds
    # as coarsely; through the centre, several would be.
    return torch.cat(
        [
            anchors[..., :2] + anchor_size * (shift - growth),
            anchors[..., 2:] + anchor_size * (shift + growth),
        ],
        dim=-1,
    )
