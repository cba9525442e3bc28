"""Anchors on grids: those of a column share x1 and x2, those of a row y1 and y2.

So for IoU with a true box, sides are compared once for each column and each row.

Dimension letters: N anchors; G true boxes; H rows and W columns of a grid, A shapes; L
lines, the columns and the rows of all grids and shapes.
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
    axis, sides = _lines(tuple(grids))
    begin, end = anchors.take(sides)  # (L,) each
    low, high = gt_boxes.view(-1, 2, 2).index_select(2, axis).unbind(1)  # (G, L) each
    shared = torch.minimum(end, high).sub_(torch.maximum(begin, low)).clamp_(min=0)
    shared = _products(shared, grids)  # (G, N)
    area = _products(end - begin, grids)  # (N,)
    gt_area = above_zero(box_area(gt_boxes))[:, None]
    return shared.div_((area + gt_area).sub_(shared))


@lru_cache(maxsize=16)
def _lines(grids: tuple[tuple[int, int, int], ...]) -> tuple[Tensor, Tensor]:
    """The columns of all grids and shapes, then the rows: their axis and their sides.

    The axis (L,) is 0 for a column, whose anchors share x1 and x2, 1 for a row. The
    sides (2, L) say where these two are found among the numbers of all anchors.
    """
    anchors = list(numbered(grids))
    columns = torch.cat([anchor[0].flatten() for anchor in anchors])
    rows = torch.cat([anchor[:, 0].flatten() for anchor in anchors])
    axis = torch.cat([torch.zeros_like(columns), torch.ones_like(rows)])
    low = 4 * torch.cat([columns, rows]) + axis
    return axis, torch.stack([low, low + 2])


def _products(lengths: Tensor, grids: Sequence[tuple[int, int, int]]) -> Tensor:
    """Width by height of each anchor `(..., N)`, of the lengths `(..., L)` of lines."""
    lead, count = lengths.shape[:-1], sum(map(prod, grids))
    result = lengths.new_empty(*lead, count)
    start, x, y = 0, 0, sum(w * a for _, w, a in grids)  # rows come after columns
    for h, w, a in grids:
        place = result[..., start : start + h * w * a].view(*lead, h, w, a)
        width = lengths[..., x : x + w * a].view(*lead, 1, w, a)
        height = lengths[..., y : y + h * a].view(*lead, h, 1, a)
        torch.mul(width, height, out=place)
        start, x, y = start + h * w * a, x + w * a, y + h * a
    return result
