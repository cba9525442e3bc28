"""The same answers quicker: twins of the plain functions, equal to the last bit.

`match_anchors` of `rpn_lib.matching` fills the whole matrix of IoUs, which is how it
is explained, and takes gigabytes for a large image. Here only what overlaps is looked
at. Anchors lie on a grid, so what a true box can overlap is a rectangle of cells: the
grid of each level and shape is cut into tiles of 8 x 8 cells, and each box visits the
tiles that it reaches. Anchors that are no grid are compared in blocks.

`nms` compares a block of boxes with all that have been kept so far, and stops when
enough are.

Dimension letters: N anchors, or boxes; G true boxes; K boxes kept; S strips, rows or
columns of tiles; T tiles; P pairs of a tile and a box that reaches it; 8 cells of a
strip.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from rpn_lib.boxes import box_area, upcast
from rpn_lib.errors import BoxError
from rpn_lib.matching import (
    Matches,
    MatchRule,
    check_arguments,
    covered,
    label_anchors,
    with_classes,
)

# Pairs (anchor, true box) looked at in one go: few enough for a processor's cache, many
# enough that Python's own time does not count.
BLOCK_PAIRS = 2**18

# Cells along each side of a tile, and true boxes that are put on the tiles in one go.
TILE = 8
BOXES_AT_ONCE = 64

# Boxes that NMS judges in one go.
NMS_BLOCK = 256


def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    *,
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
    best_anchor: bool = True,
    min_best_iou: float = 0.0,
    min_num_positives: int = 0,
    gt_labels: Tensor | None = None,
    valid: Tensor | None = None,
    ignore_boxes: Tensor | None = None,
    ignore_fraction: float = 0.5,
    grids: Sequence[tuple[int, int, int]] | None = None,
    trusted: bool = False,
) -> Matches:
    """What `rpn_lib.matching.match_anchors` gives, without the matrix of all IoUs.

    Args:
        anchors, gt_boxes, gt_labels, valid, ignore_boxes, ignore_fraction: see there.
        positive_iou, negative_iou, best_anchor: see there.
        min_best_iou, min_num_positives: see there.
        grids: for each level `(H, W, A)`: the anchors are grids, level by level, row by
            row, of these numbers of rows, columns and shapes, as `AnchorGenerator`
            makes them; they may have been clipped to the image. On a processor (CPU)
            the cost then follows what overlaps. See `AnchorGenerator.grids`.
        trusted: true boxes, classes and regions have been checked already, so that a
            GPU need not wait for another look at their values.

    Returns:
        the same tensors, bit for bit.

    Raises:
        BoxError: as there, and for `grids` that aren't those of the anchors.

    >>> from rpn_lib.anchors import AnchorGenerator
    >>> generate = AnchorGenerator([32, 64], strides=[16])
    >>> anchors = generate([(15, 20)])[0]
    >>> box = torch.tensor([[40.0, 40.0, 100.0, 108.0]])
    >>> found = match_anchors(anchors, box, grids=generate.grids([(15, 20)]))
    >>> int((found.labels == 1).sum())
    1
    """
    rule = MatchRule(
        positive_iou, negative_iou, best_anchor, min_best_iou, min_num_positives
    )
    anchors, gt_boxes = check_arguments(anchors, gt_boxes, gt_labels, valid, trusted)
    on_cpu = anchors.device.type == "cpu"
    if grids is not None and on_cpu and len(gt_boxes):
        found = _on_grids(anchors, gt_boxes, valid, min_best_iou, grids)
    else:
        found = _in_blocks(anchors, gt_boxes, valid, min_best_iou, skip=on_cpu)
    iou, gt_index, gt_best_iou, is_best = found
    unknown = covered(anchors, ignore_boxes, ignore_fraction, trusted)
    labels = label_anchors(iou, is_best, rule, valid, unknown)
    return Matches(
        with_classes(labels, gt_index, gt_labels), gt_index, iou, gt_best_iou
    )


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
        if sum(rows * columns * shapes for rows, columns, shapes in grids) != n:
            raise BoxError(f"grids={grids} do not describe {n} anchors.")
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
        gt_area = box_area(corners)[:, None, None]
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
    return shared.div_(_positive((area + gt_area).sub_(shared)))


def _positive(union: Tensor) -> Tensor:
    """In place of a union of 0 the smallest number: a shared area of 0 stays 0."""
    limits = torch.finfo(union.dtype)
    return union.clamp_(min=limits.tiny * limits.eps)


def _on_grids(
    anchors: Tensor,
    gt_boxes: Tensor,
    valid: Tensor | None,
    least: float,
    grids: Sequence[tuple[int, int, int]],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_in_blocks` gives, of anchors on grids."""
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    table = _Grids(anchors, valid, grids, dtype)
    best = [
        table.visit(gt_boxes[start : start + BOXES_AT_ONCE], start, least)
        for start in range(0, len(gt_boxes), BOXES_AT_ONCE)
    ]
    n = len(anchors)
    return table.iou[:n], table.gt_index[:n].long(), torch.cat(best), table.is_best[:n]


def _in_blocks(
    anchors: Tensor, gt_boxes: Tensor, valid: Tensor | None, least: float, skip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best IoU and true box of each anchor, best IoU of each true box, who has it.

    One block of anchors at a time is enough: its rows are finished at once, and of its
    columns only the maximum is kept.

    With `skip`, only the true boxes near a block are compared with it. To ask which
    these are would make a GPU wait at every block, so there all of them are.
    """
    num_anchors, num_gt = len(anchors), len(gt_boxes)
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    iou = anchors.new_zeros(num_anchors, dtype=dtype)
    gt_index = torch.zeros(num_anchors, dtype=torch.long, device=anchors.device)
    is_best = torch.zeros_like(gt_index, dtype=torch.bool)
    if not num_gt or not num_anchors:
        return iou, gt_index, iou.new_zeros(num_gt), is_best
    size = max(1, BLOCK_PAIRS // num_gt)
    blocks = [slice(i, i + size) for i in range(0, num_anchors, size)]
    block_best = iou.new_zeros(len(blocks), num_gt)
    near = torch.arange(num_gt, device=anchors.device)
    for i, block in enumerate(blocks):
        part = anchors[block]
        if skip:
            # A true box above or below all anchors of the block overlaps none: where
            # they come row by row, a block is a stripe of the image, and most do.
            in_stripe = (gt_boxes[:, 1] < part[:, 3].max()) & (
                gt_boxes[:, 3] > part[:, 1].min()
            )
            near = in_stripe.nonzero()[:, 0]
        if len(near):
            pairs = _iou_rows(gt_boxes[near], part, valid, block)  # (near, block)
            iou[block], index = pairs.max(dim=0)
            gt_index[block] = torch.where(iou[block] > 0, near[index], 0)
            block_best[i, near] = pairs.amax(dim=1)
    gt_best_iou = block_best.amax(dim=0)  # (G,)
    # Which anchors reach it? Only the blocks that hold a maximum are looked at again.
    counts = (gt_best_iou > 0) & (gt_best_iou >= least)
    holds_best = (block_best == gt_best_iou) & counts  # (blocks, G)
    again = holds_best.any(dim=1).tolist() if skip else [True] * len(blocks)
    for i, block in enumerate(blocks):
        if again[i]:
            rows = holds_best[i].nonzero()[:, 0] if skip else near
            pairs = _iou_rows(gt_boxes[rows], anchors[block], valid, block)
            reached = (pairs == gt_best_iou[rows, None]) & counts[rows, None]
            is_best[block] = reached.any(dim=0)
    return iou, gt_index, gt_best_iou, is_best


def _iou_rows(
    gt_boxes: Tensor, anchors: Tensor, valid: Tensor | None, block: slice
) -> Tensor:
    """IoU of true boxes with the anchors of a block, a row for each box.

    The arithmetic of `rpn_lib.boxes.box_iou`, on rows that lie one after the other in
    memory and without a temporary for the corners: four times as fast.
    """
    ax1, ay1, ax2, ay2 = anchors.t().contiguous()  # (block,) each
    gx1, gy1, gx2, gy2 = gt_boxes.t()[:, :, None]  # (G, 1) each
    width = torch.minimum(ax2, gx2).sub_(torch.maximum(ax1, gx1)).clamp_(min=0)
    height = torch.minimum(ay2, gy2).sub_(torch.maximum(ay1, gy1)).clamp_(min=0)
    intersection = width.mul_(height)  # (G, block)
    union = (box_area(anchors) + box_area(gt_boxes)[:, None]).sub_(intersection)
    iou = intersection.div_(_positive(union))
    return iou if valid is None else iou.mul_(valid[block])


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int | None = None
) -> Tensor:
    """What `rpn_lib.nms.nms` gives, or the first `limit` of it.

    Args:
        boxes: `(N, 4)`, xyxy, pixels.
        scores: `(N,)`, higher is better; none is NaN.
        iou_threshold: the largest IoU that two kept boxes may have; in [0, 1].
        limit: how many boxes are enough; `None` is all.

    Returns:
        `(K,)`, int64, indices of the boxes kept, best first.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), iou_threshold=0.5)
    tensor([1, 2])
    """
    order = scores.argsort(descending=True, stable=True)
    kept = _nms_sorted(upcast(boxes)[order], iou_threshold, limit or len(boxes))
    return order[kept]


def nms_by_level(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], iou_threshold: float, limit: int
) -> Tensor:
    """NMS on each level by itself, then the best of all levels.

    A box is suppressed by better ones only. So the best few boxes can be judged without
    the others, and if enough of them are kept, the others do not matter.

    Args:
        boxes: for each level `(N, 4)`, xyxy, pixels.
        scores: for each level `(N,)`, higher is better; none is NaN.
        iou_threshold: of NMS.
        limit: how many boxes are enough.

    Returns:
        `(K,)`, int64, numbers of the boxes kept, counted over all levels, best first;
        of equal scores the earlier box comes first.

    >>> level = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    >>> scores = [torch.tensor([3.0, 1.0]), torch.tensor([4.0, 2.0])]
    >>> nms_by_level([level, level], scores, iou_threshold=0.5, limit=10)
    tensor([2, 0])
    """
    order = torch.cat([*scores]).argsort(descending=True, stable=True)
    box = upcast(torch.cat([*boxes]))[order]
    ends = torch.tensor([len(level) for level in boxes]).cumsum(0).to(order.device)
    level_of = torch.bucketize(order, ends, right=True)
    n = limit + limit // 4
    while True:
        kept = []
        for level in range(len(boxes)):
            of_level = (level_of[:n] == level).nonzero()[:, 0]
            kept.append(of_level[_nms_sorted(box[of_level], iou_threshold, limit)])
        keep = torch.cat(kept).sort().values
        if len(keep) >= limit or n >= len(order):
            return order[keep[:limit]]
        # As many as would be enough if the next ones were kept as often.
        n = max(2 * n, n * limit // max(len(keep), 1))


def _nms_sorted(boxes: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Numbers of the first `limit` boxes that NMS keeps, of boxes in order of score."""
    if boxes.device.type != "cpu":
        # Its threshold is compared in float64; rounded, it is the one of float32.
        threshold = float(torch.tensor(iou_threshold, dtype=boxes.dtype))
        scores = torch.arange(len(boxes), 0, -1.0, device=boxes.device)
        found: Tensor = torchvision.ops.nms(boxes, scores.to(boxes.dtype), threshold)
        return found[:limit]
    kept = torch.zeros(0, dtype=torch.long)
    for start in range(0, len(boxes), NMS_BLOCK):
        if len(kept) >= limit:
            break
        block = torch.arange(start, min(start + NMS_BLOCK, len(boxes)))
        for i in range(0, len(kept), NMS_BLOCK):  # each time fewer are left
            better = kept[i : i + NMS_BLOCK]
            highest = _pairwise_iou(boxes[better], boxes[block]).amax(dim=0)
            block = block[highest <= iou_threshold]
        overlap = ~(_pairwise_iou(boxes[block], boxes[block]) <= iou_threshold)
        kept = torch.cat([kept, block[_first_come(overlap)]])
    return kept[:limit]


def _first_come(overlap: Tensor) -> Tensor:
    """Greedy choice: whoever overlaps no one chosen before. (N,), bool.

    Who is chosen is found in rounds: first all, then those that overlap no earlier one
    of the round before, until nothing changes. After r rounds the first r boxes at
    least are right, and nearly always all of them after a few.
    """
    earlier = overlap.float().triu_(1)  # [i, j]: i comes before j and overlaps it
    chosen = torch.ones(len(overlap))
    while True:
        free = (chosen @ earlier == 0).float()
        if torch.equal(free, chosen):
            return free > 0
        chosen = free


def _pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """`rpn_lib.boxes.box_iou`, by the arithmetic of `_iou_rows`."""
    return _iou_rows(boxes1, boxes2, None, slice(None))
