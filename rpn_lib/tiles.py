"""Matching on grids: each true box visits only the anchors that it can reach.

Anchors lie on a grid, so what a true box overlaps is a rectangle of cells. The grid of
each level and shape is cut into tiles of 8 x 8 cells, and each box visits the tiles
that it reaches: the cost follows what overlaps, not anchors times boxes.

Dimension letters: N anchors; G true boxes; S strips, rows or columns of tiles; T tiles;
P pairs of a tile and a box that reaches it; 8 cells of a strip.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.boxes import box_area
from rpn_lib.errors import BoxError

# Cells along each side of a tile, and true boxes that are put on the tiles in one go.
TILE = 8
BOXES_AT_ONCE = 64


class _Layout(NamedTuple):
    """Where the tiles of some grids lie; N stands for a cell that isn't there.

    Attributes:
        first: `(S, 8)`: the anchor in each cell of a strip: of a strip of columns in
            the first row, of a strip of rows in the first column.
        step: `(S, 8)`: what a cell adds to the number of an anchor in a tile. The two
            steps of its strips make the number.
        axis: `(S,)`: 0 for a strip of columns, 1 for one of rows.
        tiles: `(T, 2)`: the strips of each tile, columns and rows.
    """

    first: Tensor
    step: Tensor
    axis: Tensor
    tiles: Tensor


@lru_cache(maxsize=16)
def _layout(grids: tuple[tuple[int, int, int], ...]) -> _Layout:
    total = sum(rows * columns * shapes for rows, columns, shapes in grids)
    firsts, steps, axes, tiles = [], [], [], []
    start = strips = 0
    for rows, columns, shapes in grids:
        shape = torch.arange(shapes)[:, None]  # (A, 1)
        sides = []
        for axis, count, step in ((0, columns, shapes), (1, rows, columns * shapes)):
            cells = torch.arange(-(-count // TILE) * TILE)
            missing = (cells >= count).expand(shapes, -1)
            first = start + shape + cells * step  # (A, count)
            # Of shape and start, one of the two steps of a tile takes account.
            move = first if axis == 0 else (cells * step).expand(shapes, -1)
            firsts.append(first.masked_fill(missing, total).view(-1, TILE))
            steps.append(move.masked_fill(missing, total).view(-1, TILE))
            axes.append(torch.full((len(firsts[-1]),), axis))
            sides.append(strips + torch.arange(len(firsts[-1])).view(shapes, -1))
            strips += len(firsts[-1])
        x, y = sides
        size = (shapes, y.shape[1], x.shape[1])
        pairs = torch.stack(
            [x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=-1
        )
        tiles.append(pairs.flatten(0, 2))
        start += rows * columns * shapes
    return _Layout(*(torch.cat(part) for part in (firsts, steps, axes, tiles)))


class _Grids:
    """Anchors on grids, and what is known of each of them so far.

    Attributes:
        iou: `(N + 1,)`: the highest IoU so far; one place more, for cells that aren't
            there.
        gt_index: `(N + 1,)`: the true box that has it, as a float: with floats,
            arithmetic can choose between two numbers, which `torch.where` does slowly.
        is_best: `(N + 1,)`, bool: no anchor has a higher IoU with some true box.
    """

    def __init__(
        self,
        anchors: Tensor,
        valid: Tensor | None,
        grids: Sequence[tuple[int, int, int]],
        dtype: torch.dtype,
    ) -> None:
        n = len(anchors)
        check_grids(grids, n)
        self.layout = _layout(tuple(grids))
        self.invalid = None
        if valid is not None:
            self.invalid = torch.cat([~valid, valid.new_zeros(1)])
        # Anchors of a column share x1 and x2, those of a row y1 and y2.
        missing = self.layout.first == n  # (S, 8)
        cells = anchors[self.layout.first.clamp(max=n - 1)]  # (S, 8, 4)
        rows = self.layout.axis[:, None] == 1
        low = torch.where(rows, cells[..., 1], cells[..., 0])  # (S, 8)
        high = torch.where(rows, cells[..., 3], cells[..., 2])
        self.extent = (high - low).masked_fill(missing, 1)
        # A cell that isn't there ends before it begins: no box shares a pixel with it.
        self.low = low.masked_fill(missing, torch.inf)
        self.high = high.masked_fill(missing, -torch.inf)
        self.iou = torch.zeros(n + 1, dtype=dtype)
        self.gt_index = torch.zeros_like(self.iou)
        self.is_best = torch.zeros(n + 1, dtype=torch.bool)

    def visit(self, boxes: Tensor, number: int, least: float) -> Tensor:
        """Compare some true boxes with the anchors in reach; the best IoU of each.

        Args:
            boxes: `(G, 4)`, few.
            number: of the first of them among all true boxes.
            least: the least IoU of a best anchor.
        """
        tiles, rank_sizes, slot, box = self._pairs(boxes)
        corners = boxes[box]  # (P, 4)
        # What they share: (P, 2, 8), width by column and height by row.
        strips = tiles[slot].flatten()  # (P * 2,)
        low, high = (x.index_select(0, strips) for x in (self.low, self.high))
        high = torch.minimum(high, corners[:, 2:].reshape(-1, 1))
        low = torch.maximum(low, corners[:, :2].reshape(-1, 1))
        sides = high.sub_(low).clamp_(min=0).view(-1, 2, TILE)
        gt_area = positive(box_area(corners))[:, None, None]
        extent = self.extent[tiles]  # (T, 2, 8)
        area = extent[:, 1, :, None] * extent[:, 0, None, :]  # (T, 8, 8)
        step = self.layout.step[tiles]
        anchor = (step[:, 1, :, None] + step[:, 0, None, :]).clamp_(
            max=len(self.iou) - 1
        )
        if self.invalid is not None:
            area.masked_fill_(self.invalid[anchor], torch.inf)  # makes their IoU 0
        iou, gt_index = self.iou[anchor], self.gt_index[anchor]  # (T, 8, 8)
        pair_iou = torch.empty(len(box), dtype=iou.dtype)
        numbers = (box + number).to(iou.dtype)[:, None, None]
        start = 0
        for count in rank_sizes.tolist():  # the next box of each tile that has one
            pairs, start = slice(start, start + count), start + count
            found = _tile_iou(sides[pairs], area[:count], gt_area[pairs])
            pair_iou[pairs] = found.amax(dim=(1, 2))
            # Only a higher IoU takes over: of equal ones the earlier box stays.
            higher = (found > iou[:count]).to(iou.dtype)
            gt_index[:count].lerp_(numbers[pairs], higher)
            torch.maximum(iou[:count], found, out=iou[:count])
        self.iou[anchor], self.gt_index[anchor] = iou, gt_index

        best = torch.zeros(len(boxes), dtype=iou.dtype)
        best.scatter_reduce_(0, box, pair_iou, "amax")
        counts = (best > 0) & (best >= least)
        again = ((pair_iou == best[box]) & counts[box]).nonzero()[:, 0]
        found = _tile_iou(sides[again], area[slot[again]], gt_area[again])
        reached = found == best[box[again], None, None]
        self.is_best[anchor[slot[again]][reached]] = True
        return best

    def _pairs(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tiles that boxes reach, (T, 2), and the pairs, ordered by rank.

        The rank of a pair counts the boxes of its tile. The tiles with the most boxes
        come first, so that the pairs of a rank belong to the first so many tiles.

        Returns:
            tiles; how many have a pair of rank 0, 1, ...; of each pair its tile and its
            box.
        """
        axis = self.layout.axis
        before = self.low.amin(dim=1)[:, None] < boxes[:, 2:].T[axis]  # (S, G)
        reached = before & (self.high.amax(dim=1)[:, None] > boxes[:, :2].T[axis])
        columns, rows = self.layout.tiles.T
        hit = reached[columns] & reached[rows]  # (all tiles, G)
        count = hit.sum(dim=1)
        order = count.argsort(descending=True)[: int((count > 0).sum())]
        count = count[order]
        slot, box = hit[order].nonzero().T
        rank = torch.arange(len(slot)) - (count.cumsum(0) - count)[slot]
        sizes = rank.bincount()
        place = (sizes.cumsum(0) - sizes)[rank] + slot
        pairs = torch.empty(2, len(slot), dtype=torch.long)
        pairs[:, place] = torch.stack([slot, box])
        return self.layout.tiles[order], sizes, pairs[0], pairs[1]


def _tile_iou(sides: Tensor, area: Tensor, gt_area: Tensor) -> Tensor:
    """IoU (P, 8, 8) of P pairs of a tile and a true box.

    The arithmetic of `rpn_lib.boxes.box_iou`. On a grid the shared area is a product
    of what is shared along a column's x and a row's y: (P, 2, 8), not (P, 8, 8, 2).
    """
    shared = sides[:, 0, None, :] * sides[:, 1, :, None]
    return shared.div_((area + gt_area).sub_(shared))


def check_grids(grids: Sequence[tuple[int, int, int]], num_anchors: int) -> None:
    """Refuse grids of other numbers of anchors, as a BoxError.

    >>> check_grids([(2, 3, 9)], 54)
    """
    if sum(rows * columns * shapes for rows, columns, shapes in grids) != num_anchors:
        raise BoxError(f"grids={grids} do not describe {num_anchors} anchors.")


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
    gt_area = positive(box_area(gt_boxes))[:, None]
    return shared.div_((area + gt_area).sub_(shared))


@lru_cache(maxsize=16)
def _lines(grids: tuple[tuple[int, int, int], ...]) -> tuple[Tensor, Tensor]:
    """The first anchor of each column, and of each row, for each shape and level."""
    columns, rows, start = [], [], 0
    for h, w, a in grids:
        first = start + torch.arange(w * a).view(w, a)
        columns.append(first.flatten())
        rows.append((first[0] + torch.arange(h)[:, None] * (w * a)).flatten())
        start += h * w * a
    return torch.cat(columns), torch.cat(rows)


def _products(
    widths: Tensor, heights: Tensor, grids: Sequence[tuple[int, int, int]]
) -> Tensor:
    """Width by height of each anchor `(..., N)`, of those of its column and row."""
    lead, count = widths.shape[:-1], sum(h * w * a for h, w, a in grids)
    result = widths.new_empty(*lead, count)
    start = x = y = 0
    for h, w, a in grids:
        place = result[..., start : start + h * w * a].view(*lead, h, w, a)
        width = widths[..., x : x + w * a].view(*lead, 1, w, a)
        height = heights[..., y : y + h * a].view(*lead, h, 1, a)
        torch.mul(width, height, out=place)
        start, x, y = start + h * w * a, x + w * a, y + h * a
    return result


def positive(area: Tensor) -> Tensor:
    """In place of an area of 0 the smallest number: then no union is 0, either.

    Two areas and what they share are rounded so that a union is never smaller than the
    larger of the two; so a shared area of 0 stays 0, and no IoU changes.

    Args:
        area: changed in place.

    >>> positive(torch.zeros(1)) > 0
    tensor([True])
    """
    limits = torch.finfo(area.dtype)
    return area.clamp_(min=limits.tiny * limits.eps)


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
        grids: for each level its numbers of rows, columns and shapes.

    Returns:
        the best IoU `(N,)` and true box `(N,)` of each anchor, the best IoU `(G,)` of
        each true box, and which anchors have it, `(N,)`, bool.

    Raises:
        BoxError: grids of other numbers of anchors.

    >>> anchors = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8]])  # 1 row, 2 columns
    >>> on_grids(anchors, torch.tensor([[0.0, 0, 8, 4]]), None, 0, [(1, 2, 1)])[0]
    tensor([0.5000, 0.0000])
    """
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    table = _Grids(anchors, valid, grids, dtype)
    best = [
        table.visit(gt_boxes[start : start + BOXES_AT_ONCE], start, least)
        for start in range(0, len(gt_boxes), BOXES_AT_ONCE)
    ]
    n = len(anchors)
    return table.iou[:n], table.gt_index[:n].long(), torch.cat(best), table.is_best[:n]
