"""Matching on grids: a true box is compared only with the anchors that it can reach.

Anchors lie on a grid, so what a true box overlaps is a rectangle of cells. The grid of
each level and shape is cut into tiles of 8 x 8 cells, and each tile is compared with
the boxes that reach it: the cost follows what overlaps, not anchors times boxes.

Dimension letters: N anchors; G true boxes; S strips, rows or columns of tiles; T tiles;
P pairs of a tile and a box that reaches it; 8 cells of a strip.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from rpn_lib.boxes import above_zero, box_area
from rpn_lib.grids import numbered

# Cells along each side of a tile.
TILE = 8

# What is done in one go: tiles times boxes, pairs of them that overlap, tiles of ranks.
MOST_HITS = 2**23
MOST_PAIRS = 2**17
MOST_TILES = 2**9


class _Layout(NamedTuple):
    """Where anchors on some grids lie; N stands for a cell that isn't there.

    Attributes:
        x, y: `(8, S)`: the first anchor of each column of a strip, and of each row.
        y_step: `(8, S)`: what a row adds to the first anchor of a column.
        tiles: `(2, T)`: the strips whose columns and rows are those of a tile.
    """

    x: Tensor
    y: Tensor
    y_step: Tensor
    tiles: Tensor


@lru_cache(maxsize=16)
def _layout(grids: tuple[tuple[int, int, int], ...]) -> _Layout:
    total = sum(map(prod, grids))
    levels = []
    x_start = y_start = 0
    for anchor in numbered(grids):
        a = anchor.shape[2]
        columns, rows = anchor[0], anchor[:, 0]  # (w, a), (h, a)
        x, y, y_step = (_cut(line, total) for line in (columns, rows, rows - rows[0]))
        of_x = x_start + torch.arange(x.shape[1]).view(a, 1, -1)
        of_y = y_start + torch.arange(y.shape[1]).view(a, -1, 1)
        size = (a, of_y.shape[1], of_x.shape[2])
        tiles = torch.stack([of_x.expand(size), of_y.expand(size)]).flatten(1)
        levels.append((x, y, y_step, tiles))
        x_start, y_start = x_start + x.shape[1], y_start + y.shape[1]
    return _Layout(*(torch.cat(parts, dim=-1) for parts in zip(*levels)))


def _cut(line: Tensor, missing: int) -> Tensor:
    """Numbers (cells, A) as strips (8, A * S), shape by shape."""
    padded = pad(line.T, (0, -len(line) % TILE), value=missing)
    return padded.reshape(-1, TILE).T.contiguous()


class _Strips:
    """The columns of all grids, 8 to a strip, or the rows.

    Attributes:
        axis: 0 for columns, whose anchors share x1 and x2; 1 for rows: y1 and y2.
        low, high: `(8, S)`: where the cells of a strip begin and end.
        extent: `(8, S)`: how wide, or high, they are.
    """

    def __init__(self, anchors: Tensor, first: Tensor, axis: int) -> None:
        self.axis = axis
        missing = first == len(anchors)
        cells = anchors[first.clamp(max=len(anchors) - 1)]  # (8, S, 4)
        low, high = cells[..., axis], cells[..., axis + 2]
        self.extent = (high - low).masked_fill_(missing, 1)
        # A cell that isn't there ends before it begins: no box shares a pixel with it.
        self.low = low.masked_fill(missing, torch.inf)
        self.high = high.masked_fill(missing, -torch.inf)

    def reached(self, boxes: Tensor) -> Tensor:
        """Which strips which boxes (4, G) overlap: (S, G), bool."""
        low, high = boxes[self.axis], boxes[self.axis + 2]
        before_end = self.low.amin(dim=0)[:, None] < high
        return before_end.bitwise_and_(self.high.amax(dim=0)[:, None] > low)

    def shared(self, strip: Tensor, boxes: Tensor) -> Tensor:
        """What the cells of P strips share with boxes (4, P): (8, P), pixels."""
        high = self.high.index_select(1, strip).minimum(boxes[self.axis + 2])
        low = self.low.index_select(1, strip).maximum(boxes[self.axis])
        return high.sub_(low).clamp_(min=0)


class _Grids:
    """Anchors on grids, and those of them that count."""

    def __init__(
        self,
        anchors: Tensor,
        valid: Tensor | None,
        grids: Sequence[tuple[int, int, int]],
    ) -> None:
        self.layout = _layout(tuple(grids))
        self.x = _Strips(anchors, self.layout.x, axis=0)
        self.y = _Strips(anchors, self.layout.y, axis=1)
        self.missing, self.invalid = len(anchors), None
        if valid is not None:
            self.invalid = torch.cat([~valid, valid.new_zeros(1)])

    def anchor_and_area(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers and areas of the anchors in tiles (2, T): (8, 8, T) each."""
        x, y = tiles
        across = self.layout.x.index_select(1, x), self.x.extent.index_select(1, x)
        down = self.layout.y_step.index_select(1, y), self.y.extent.index_select(1, y)
        anchor = (down[0][:, None] + across[0]).clamp_(max=self.missing)
        area = down[1][:, None] * across[1]
        if self.invalid is not None:
            area.masked_fill_(self.invalid[anchor], torch.inf)  # makes their IoU 0
        return anchor, area

    def shared(self, tiles: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Widths and heights that tiles (2, P) share with boxes (4, P): (8, P) each."""
        return self.x.shared(tiles[0], boxes), self.y.shared(tiles[1], boxes)


class _Visit(NamedTuple):
    """Some tiles and the boxes that reach them, as pairs ordered by rank.

    The rank of a pair counts the boxes of its tile. The tiles with the most boxes come
    first, so that the pairs of a rank belong to the first so many tiles.

    Attributes:
        tiles: `(2, T)`: their strips.
        sizes: how many tiles have a pair of rank 0, 1, ...
        slot, box: `(P,)`: of each pair its tile, counted in `tiles`, and its box.
    """

    tiles: Tensor
    sizes: list[int]
    slot: Tensor
    box: Tensor


def _visits(table: _Grids, boxes: Tensor) -> Iterator[_Visit]:
    """All tiles that some box reaches, few enough at a time."""
    x_reached, y_reached = table.x.reached(boxes), table.y.reached(boxes)  # (S, G)
    few = max(1, MOST_HITS // boxes.shape[1])
    for tiles in torch.split(table.layout.tiles, few, dim=1):
        x, y = tiles
        hit = x_reached.index_select(0, x).bitwise_and_(y_reached.index_select(0, y))
        # Counted as whole numbers: the sum of a row of bools is slow.
        count = hit.view(torch.uint8).sum(dim=1, dtype=torch.int32)
        order = count.argsort(descending=True)[: int(count.count_nonzero())]
        part = (count[order].cumsum(0) - 1) // MOST_PAIRS
        for some in torch.split(order, part.bincount().tolist()):
            slot, box = hit.index_select(0, some).nonzero().T
            before = count[some].cumsum(0) - count[some]
            rank = torch.arange(len(slot)) - before.index_select(0, slot)
            sizes = rank.bincount()
            place = (sizes.cumsum(0) - sizes).index_select(0, rank) + slot
            slot, box = (torch.empty_like(x).scatter_(0, place, x) for x in (slot, box))
            yield _Visit(tiles[:, some], sizes.tolist(), slot, box)


def _compare(
    area: Tensor, sides: tuple[Tensor, Tensor], gt_area: Tensor, visit: _Visit
) -> tuple[Tensor, Tensor, Tensor]:
    """Best IoU and true box of each cell (8, 8, T), and the best IoU of each pair (P,).

    The boxes are floats: with these, arithmetic can choose between two numbers, which
    `torch.where` does slowly.
    """
    iou = torch.zeros(area.shape, dtype=sides[0].dtype)
    gt_index, higher = torch.zeros_like(iou), torch.empty_like(iou)
    number, pair_iou = visit.box.to(iou.dtype), iou.new_empty(len(visit.box))
    runs = list(_runs(visit.sizes))
    lengths = [ranks * count for ranks, count in runs]
    pairs = (torch.split(x, lengths, -1) for x in (*sides, gt_area, number, pair_iou))
    for size, width, height, of_box, box, highest in zip(runs, *pairs):
        # The next boxes of each tile that has so many; `size` is (ranks, tiles).
        first = slice(size[1])
        found = _tile_iou(width, height, area[:, :, None, first], of_box.view(size))
        torch.amax(found, dim=(0, 1), out=highest.view(size))
        found, box = _best_rank(found, box.view(size))
        # Only a higher IoU takes over: of equal ones the earlier box stays.
        best, takes = iou[..., first], higher[..., first]
        torch.gt(found, best, out=takes)
        gt_index[..., first].lerp_(box, takes)
        torch.maximum(best, found, out=best)
    return iou, gt_index, pair_iou


def _runs(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Ranks that have equally many pairs, some at a time: how many, and the size.

    Few tiles have many boxes: their ranks are taken together, so that Python's own time
    does not count.
    """
    for count, ranks in groupby(sizes):
        left, most = len(list(ranks)), max(1, MOST_TILES // count)
        for start in range(0, left, most):
            yield min(most, left - start), count


def _best_rank(found: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """The highest IoU of some ranks, (8, 8, R, T), in each cell, and who has it.

    Of equal ones it is the first: the boxes (R, T) of a tile are in order.
    """
    if len(box) == 1:
        return found[:, :, 0], box[0]
    highest = found.amax(dim=2)
    less = found.sub_(highest[:, :, None]).sign_()  # 0 for the highest, -1 for others
    last = torch.add(-box, less, alpha=float(2**24), out=less).amax(dim=2)
    return highest, last.neg_()


def _tile_iou(width: Tensor, height: Tensor, area: Tensor, gt_area: Tensor) -> Tensor:
    """IoU (8, 8, ...) of P pairs of a tile and a true box, of shared sides (8, P).

    The arithmetic of `rpn_lib.boxes.box_iou`. On a grid the shared area is a product
    of what is shared along a column's x and a row's y: 8 + 8 numbers, not 8 * 8 * 2.
    """
    shared = (height[:, None] * width).view(TILE, TILE, *gt_area.shape)
    return shared.div_((area + gt_area).sub_(shared))


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
    corners, gt_area = gt_boxes.T.contiguous(), above_zero(box_area(gt_boxes))
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    # One place more, for cells that aren't there.
    iou, best = torch.zeros(n + 1, dtype=dtype), torch.zeros(len(gt_boxes), dtype=dtype)
    gt_index = torch.zeros(n + 1, dtype=torch.long)
    is_best = torch.zeros(n + 1, dtype=torch.bool)
    candidates = []
    for visit in _visits(table, corners):
        tiles, box = visit.tiles.index_select(1, visit.slot), visit.box
        anchor, area = table.anchor_and_area(visit.tiles)
        sides = table.shared(tiles, corners.index_select(1, box))
        of_cell, number, of_pair = _compare(area, sides, gt_area[box], visit)
        iou.scatter_(0, anchor.flatten(), of_cell.flatten())
        gt_index.scatter_(0, anchor.flatten(), number.flatten().long())
        best.scatter_reduce_(0, box, of_pair, "amax")
        hopeful = (of_pair == best.index_select(0, box)).nonzero()[:, 0]
        candidates.append((tiles[:, hopeful], box[hopeful], of_pair[hopeful]))
    for tiles, box, of_pair in candidates:
        has_it = (of_pair == best[box]) & (of_pair > 0) & (of_pair >= least)
        tiles, box = tiles[:, has_it], box[has_it]
        anchor, area = table.anchor_and_area(tiles)
        sides = table.shared(tiles, corners[:, box])
        is_best[anchor[_tile_iou(*sides, area, gt_area[box]) == best[box]]] = True
    return iou[:n], gt_index[:n], best, is_best[:n]
