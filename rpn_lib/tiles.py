"""Matching on grids: a true box is compared only with the anchors that it can reach.

Anchors lie on a grid, so what a true box overlaps is a rectangle of cells. The grid of
each level and shape is cut into tiles of 8 x 8 cells, and each tile is compared with
the boxes that reach it: the cost follows what overlaps, not anchors times boxes.

Dimension letters: N anchors; G true boxes; S strips, columns or rows of 8 cells; T
tiles; P pairs of a tile and a box that reaches it.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.boxes import above_zero
from rpn_lib.grids import numbered
from rpn_lib.matching import required_iou

# Cells along each side of a tile.
TILE = 8

# Pairs of a tile and a box that are looked at in one go, at most.
MOST_PAIRS = 2**18


class _Layout(NamedTuple):
    """Where anchors on some grids lie: strips of 8 columns or rows, and their tiles.

    Where a grid ends within a strip, its last column or row stands for the cells that
    are not there: their answers are written more than once, and are the same.

    Attributes:
        axis: `(S,)`: 0 for columns, whose anchors share x1 and x2; 1 for rows: y1, y2.
        sides: `(2, 8, S)`: where the lower and the higher of the two are found among
            the numbers of all anchors.
        number: `(S, 8)`: the first anchor of each column; what each row adds to it.
        tiles: `(2, T)`: the strips whose columns and rows are those of a tile.
    """

    axis: Tensor
    sides: Tensor
    number: Tensor
    tiles: Tensor


@lru_cache(maxsize=16)
def _layout(grids: tuple[tuple[int, int, int], ...]) -> _Layout:
    levels, start = [], 0
    for anchor in numbered(grids):
        columns, rows = anchor[0], anchor[:, 0]  # (W, A), (H, A)
        x, y = _cut(columns), _cut(rows)
        axis = torch.tensor([0, 1]).repeat_interleave(torch.tensor([len(x), len(y)]))
        low = 4 * torch.cat([x, y]).T + axis
        number = torch.cat([x, _cut(rows - rows[0])])
        x_strip = start + torch.arange(len(x)).view(anchor.shape[2], 1, -1)
        y_strip = start + len(x) + torch.arange(len(y)).view(anchor.shape[2], -1, 1)
        size = (-1, y_strip.shape[1], x_strip.shape[2])
        tiles = torch.stack([x_strip.expand(size), y_strip.expand(size)]).flatten(1)
        levels.append((axis, torch.stack([low, low + 2]), number, tiles))
        start += len(axis)
    along_strips = (0, 2, 0, 1)
    return _Layout(*(torch.cat(x, dim) for x, dim in zip(zip(*levels), along_strips)))


def _cut(line: Tensor) -> Tensor:
    """A number for each cell of a line and each shape (cells, A), as strips (S, 8)."""
    padded = torch.cat([line, line[-1:].expand(-len(line) % TILE, -1)])
    return padded.T.reshape(-1, TILE)


class _Visit(NamedTuple):
    """Some tiles and the boxes that reach them, as pairs in the order of the tiles.

    Attributes:
        tiles: `(2, T)`: their strips.
        size: `(T,)`: how many pairs each tile has, 1 or more.
        of_pair: `(2, P)`: the strips of each pair's tile.
        box: `(P,)`: the box of each pair; for each tile in ascending order.
    """

    tiles: Tensor
    size: Tensor
    of_pair: Tensor
    box: Tensor


class _Grids:
    """Anchors on grids, and those of them that count."""

    def __init__(
        self,
        anchors: Tensor,
        valid: Tensor | None,
        grids: Sequence[tuple[int, int, int]],
    ) -> None:
        self.layout, self.valid = _layout(tuple(grids)), valid
        # Both ascend along a strip: the first cell is the lowest, the last the highest.
        self.low, self.high = anchors.take(self.layout.sides)  # (8, S) each

    def visits(self, boxes: Tensor) -> Iterator["_Visit"]:
        """All pairs of a tile and one of the boxes (4, G), some at a time."""
        low, high = boxes.view(2, 2, -1).index_select(1, self.layout.axis)  # (S, G)
        reached = self.low[0, :, None] < high
        reached &= self.high[-1, :, None] > low
        few = max(1, MOST_PAIRS // boxes.shape[1])
        for tiles in torch.split(self.layout.tiles, few, dim=1):
            x, y = tiles
            both = reached.index_select(0, x).bitwise_and_(reached.index_select(0, y))
            tile, box = both.nonzero().T
            some, size = tile.unique_consecutive(return_counts=True)
            if len(box):
                of_pair = tiles.index_select(1, tile)
                yield _Visit(tiles.index_select(1, some), size, of_pair, box)

    def iou(self, tiles: Tensor, boxes: Tensor) -> Tensor:
        """IoU of the cells of tiles (2, P) with one box (4, P) each: (64, P).

        The arithmetic of `rpn_lib.boxes.box_iou`. On a grid the shared area is a
        product of what is shared along a column's x and a row's y: 8 + 8 numbers, not
        8 * 8 * 2.
        """
        x1, y1, x2, y2 = boxes
        width, shared_width = self._along(tiles[0], x1, x2)
        height, shared_height = self._along(tiles[1], y1, y2)
        shared = shared_height[:, None] * shared_width
        union = height[:, None] * width + above_zero((x2 - x1) * (y2 - y1))
        iou = shared.div_(union.sub_(shared)).flatten(0, 1)
        if self.valid is not None:
            iou *= self.valid[self.anchors(tiles)].T
        return iou

    def _along(self, strip: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """How long the cells of strips (P,) are, and how much of it boxes share."""
        begin, end = (side.index_select(1, strip) for side in (self.low, self.high))
        shared = end.minimum(high).sub_(begin.maximum(low)).clamp_(min=0)
        return end.sub_(begin), shared

    def anchors(self, tiles: Tensor) -> Tensor:
        """The numbers of the anchors in tiles (2, T): (T, 64)."""
        x, y = (self.layout.number.index_select(0, strip) for strip in tiles)
        return (y[:, :, None] + x[:, None]).flatten(1)


def _best_of_tiles(iou: Tensor, visit: _Visit) -> tuple[Tensor, Tensor]:
    """The best IoU and the box of each cell, (T, 64) each, from those of pairs (64, P).

    `embedding_bag` finds the maximum of some rows, a bag, and which of them has it; of
    equal ones it is the first. Here the bags are the pairs of a tile.
    """
    every, start = torch.arange(len(visit.box)), visit.size.cumsum(0) - visit.size
    best, _, _, pair = torch.embedding_bag(iou.T, every, start, mode=2)
    # Box 0 where there is none. (As floats: a product with bools is slow.)
    box = visit.box.to(iou.dtype).index_select(0, pair.flatten()).view(best.shape)
    return best, box.mul_(best.sign()).long()


def on_grids(
    anchors: Tensor,
    gt_boxes: Tensor,
    valid: Tensor | None,
    least: float,
    grids: Sequence[tuple[int, int, int]],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Match anchors on grids with true boxes.

    Args:
        anchors: `(N, 4)`, xyxy, pixels.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        valid: `(N,)`, bool: anchors that count.
        least: the least IoU of a best anchor.
        grids: for each level its numbers of rows, columns and shapes, as `check_grids`
            wants them.

    Returns:
        the best IoU `(N,)` and true box `(N,)` of each anchor, the best IoU `(G,)` of
        each true box, and which anchors have it, `(N,)`, bool.

    >>> anchors = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])  # 1 row, 2 columns
    >>> on_grids(anchors, torch.tensor([[0.0, 0, 8, 4]]), None, 0, [(1, 2, 1)])[0]
    tensor([0.5000, 0.0000])
    """
    n, table = len(anchors), _Grids(anchors, valid, grids)
    corners = gt_boxes.T.contiguous()
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    iou, best = torch.zeros(n, dtype=dtype), torch.zeros(len(gt_boxes), dtype=dtype)
    gt_index = torch.zeros(n, dtype=torch.long)
    is_best = torch.zeros(n, dtype=torch.bool)
    candidates = []
    for visit in table.visits(corners):
        found = table.iou(visit.of_pair, corners.index_select(1, visit.box))
        anchor = table.anchors(visit.tiles).flatten()
        of_cell, box_of_cell = _best_of_tiles(found, visit)
        iou.scatter_(0, anchor, of_cell.flatten())
        gt_index.scatter_(0, anchor, box_of_cell.flatten())
        highest = found.amax(dim=0)
        best.scatter_reduce_(0, visit.box, highest, "amax")
        hopeful = (highest == best[visit.box]).nonzero()[:, 0]
        pairs = visit.of_pair, visit.box[None], found
        candidates.append([x.index_select(1, hopeful) for x in pairs])
    reached = required_iou(best, least)
    for tiles, box, found in candidates:
        is_best[table.anchors(tiles)[(found == reached[box]).T]] = True
    return iou, gt_index, best, is_best
