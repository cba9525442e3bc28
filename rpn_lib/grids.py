"""Anchors on grids: those of a column share x1 and x2, those of a row y1 and y2.

So for IoU with a true box, sides are compared once for each column and each row.

Dimension letters: N anchors; G true boxes; H rows and W columns of a grid, A shapes.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from rpn_lib.boxes import above_zero, box_area
from rpn_lib.errors import BoxError


def check_grids(grids: Sequence[tuple[int, int, int]], num_anchors: int) -> None:
    """Refuse grids of other numbers of anchors, as a BoxError.

    >>> check_grids([(2, 3, 9)], 54)
    """
    if sum(map(prod, grids)) != num_anchors:
        raise BoxError(f"grids={grids} do not describe {num_anchors} anchors.")


def numbered(grids: Sequence[tuple[int, int, int]]) -> Iterator[Tensor]:
    """The numbers of each grid's anchors, `(H, W, A)`, counted over all grids.

    >>> [anchor.shape for anchor in numbered([(2, 3, 9), (1, 2, 9)])]
    [torch.Size([2, 3, 9]), torch.Size([1, 2, 9])]
    """
    start = 0
    for grid in grids:
        yield torch.arange(start, start + prod(grid)).view(grid)
        start += prod(grid)


def all_pairs(
    anchors: Tensor, gt_boxes: Tensor, grids: Sequence[tuple[int, int, int]]
) -> Tensor:
    """IoU of every true box with every anchor on grids, for few of them.

    The arithmetic of `rpn_lib.boxes.box_iou`, but sides are compared once for each row
    and column: only their products are made for every pair.

    Args:
        anchors: `(N, 4)`, xyxy, pixels.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        grids: for each level its numbers of rows, columns and shapes.

    Returns:
        `(G, N)`.

    >>> anchors = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])  # 1 row, 2 columns
    >>> all_pairs(anchors, torch.tensor([[0.0, 0, 8, 4]]), [(1, 2, 1)])
    tensor([[0.5000, 0.0000]])
    """
    columns, rows = _lines(tuple(grids))
    across, down = anchors[columns], anchors[rows]
    x1, y1, x2, y2 = gt_boxes.T[:, :, None]  # (G, 1) each
    width = torch.minimum(across[:, 2], x2).sub_(torch.maximum(across[:, 0], x1))
    height = torch.minimum(down[:, 3], y2).sub_(torch.maximum(down[:, 1], y1))
    own = across[:, 2] - across[:, 0], down[:, 3] - down[:, 1]
    area = _products(*own, grids)  # (N,)
    shared = _products(width.clamp_(min=0), height.clamp_(min=0), grids)  # (G, N)
    gt_area = above_zero(box_area(gt_boxes))[:, None]
    return shared.div_((area + gt_area).sub_(shared))


@lru_cache(maxsize=16)
def _lines(grids: tuple[tuple[int, int, int], ...]) -> tuple[Tensor, Tensor]:
    """The first anchor of each column, and of each row, for each shape and level."""
    anchors = list(numbered(grids))
    columns = torch.cat([anchor[0].flatten() for anchor in anchors])
    return columns, torch.cat([anchor[:, 0].flatten() for anchor in anchors])


def _products(
    widths: Tensor, heights: Tensor, grids: Sequence[tuple[int, int, int]]
) -> Tensor:
    """Width by height of each anchor `(..., N)`, of those of its column and row."""
    lead, count = widths.shape[:-1], sum(map(prod, grids))
    result = widths.new_empty(*lead, count)
    start = x = y = 0
    for h, w, a in grids:
        place = result[..., start : start + h * w * a].view(*lead, h, w, a)
        width = widths[..., x : x + w * a].view(*lead, 1, w, a)
        height = heights[..., y : y + h * a].view(*lead, h, 1, a)
        torch.mul(width, height, out=place)
        start, x, y = start + h * w * a, x + w * a, y + h * a
    return result
