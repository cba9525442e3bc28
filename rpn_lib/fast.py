"""The same answers quicker: twins of the plain functions, equal to the last bit.

`match_anchors` of `rpn_lib.matching` fills the whole matrix of IoUs, which is how it
is explained, and takes gigabytes for a large image. Here only a small one is filled.
Of a large one only what overlaps is looked at: of anchors on grids the tiles that each
true box reaches (`rpn_lib.tiles`), of others a block at a time.

`nms` compares a block of boxes with all that have been kept so far (`rpn_lib.blocks`),
and stops when enough are.

Dimension letters: N anchors, or boxes; G true boxes; K boxes kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rpn_lib.blocks import best_apart
from rpn_lib.boxes import above_zero, box_area, upcast
from rpn_lib.grids import all_pairs, check_grids
from rpn_lib.matching import (
    Matches,
    MatchRule,
    check_arguments,
    covered,
    label_anchors,
    required_iou,
    with_classes,
)
from rpn_lib.ranking import compared
from rpn_lib.tiles import on_grids

# Pairs (anchor, true box) looked at in one go: few enough for a processor's cache, many
# enough that Python's own time does not count.
BLOCK_PAIRS = 2**18

# Up to so many anchors the matrix of all pairs is quicker than what avoids it, as long
# as it is not larger than four blocks.
FEW_ANCHORS = 2**15


@torch.no_grad()
def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    rule: MatchRule = MatchRule(),
    *,
    gt_labels: Tensor | None = None,
    valid: Tensor | None = None,
    ignore_boxes: Tensor | None = None,
    grids: Sequence[tuple[int, int, int]] | None = None,
    trusted: bool = False,
) -> Matches:
    """What `rpn_lib.matching.match_anchors` gives, without the matrix of all IoUs.

    Args:
        anchors, gt_boxes, rule, gt_labels, valid, ignore_boxes: see there.
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
    anchors, gt_boxes = check_arguments(anchors, gt_boxes, gt_labels, valid, trusted)
    on_cpu = anchors.device.type == "cpu"
    least = rule.min_best_iou
    if grids is not None:
        check_grids(grids, len(anchors))
        grids = grids if on_cpu else None
    at_once = BLOCK_PAIRS * (4 if len(anchors) <= FEW_ANCHORS else 1)
    if len(anchors) * len(gt_boxes) <= at_once:
        found = _from_all_pairs(anchors, gt_boxes, valid, least, grids)
    elif grids is not None:
        found = on_grids(anchors, gt_boxes, valid, least, grids)
    else:
        found = _in_blocks(anchors, gt_boxes, valid, least, skip=on_cpu)
    iou, gt_index, gt_best_iou, is_best = found
    unknown = covered(anchors, ignore_boxes, rule.ignore_fraction, trusted)
    labels = label_anchors(iou, is_best, rule, valid, unknown)
    return Matches(
        with_classes(labels, gt_index, gt_labels), gt_index, iou, gt_best_iou
    )


def _from_all_pairs(
    anchors: Tensor,
    gt_boxes: Tensor,
    valid: Tensor | None,
    least: float,
    grids: Sequence[tuple[int, int, int]] | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_in_blocks` gives, from the matrix of all pairs, for few of them."""
    if not len(anchors) or not len(gt_boxes):
        return _no_pairs(anchors, gt_boxes)
    if grids is None:
        pairs = _iou_rows(gt_boxes, anchors, valid, slice(None))  # (G, N)
    else:
        pairs = all_pairs(anchors, gt_boxes, grids)
        pairs = pairs if valid is None else pairs.mul_(valid)
    iou, gt_index = _column_max(pairs)
    gt_best_iou = pairs.amax(dim=1)
    # What a best IoU has more than an anchor's is 0 where they are equal. (As floats:
    # `any` of a column of bools is slow.)
    best = required_iou(gt_best_iou, least)[:, None]
    missing = torch.sub(best, pairs, out=pairs)  # the last look at the pairs
    is_best = compared(torch.eq, missing.amin(dim=0), 0)
    return iou, gt_index, gt_best_iou, is_best


def _column_max(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`rows.max(dim=0)`, of equal numbers the first, in half the time of torch's."""
    highest, count = rows.amax(dim=0), len(rows)
    if count == 1:
        return highest, torch.zeros_like(highest, dtype=torch.long)
    less = (rows - highest).sign_()  # 0 where a row has the highest, -1 elsewhere
    countdown = torch.arange(count, 0, -1, dtype=rows.dtype, device=rows.device)
    # G, G - 1, ... for the highest; 0 and less for the others.
    first = torch.add(countdown[:, None], less, alpha=count, out=less).amax(dim=0)
    return highest, (count - first).long()


def _no_pairs(
    anchors: Tensor, gt_boxes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(anchors.dtype, gt_boxes.dtype)
    iou = anchors.new_zeros(len(anchors), dtype=dtype)
    gt_index = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    return iou, gt_index, iou.new_zeros(len(gt_boxes)), gt_index > 0


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
    iou, gt_index, _, is_best = _no_pairs(anchors, gt_boxes)
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
    best = required_iou(gt_best_iou, least)
    holds_best = block_best == best  # (blocks, G)
    again = holds_best.any(dim=1).tolist() if skip else [True] * len(blocks)
    for i, block in enumerate(blocks):
        if again[i]:
            rows = holds_best[i].nonzero()[:, 0] if skip else near
            pairs = _iou_rows(gt_boxes[rows], anchors[block], valid, block)
            is_best[block] = (pairs == best[rows, None]).any(dim=0)
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
    gt_area = above_zero(box_area(gt_boxes))[:, None]
    iou = intersection.div_((box_area(anchors) + gt_area).sub_(intersection))
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
    most = len(boxes) if limit is None else limit
    kept = best_apart(upcast(boxes)[order], iou_threshold, most)
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
        iou_threshold: the largest IoU that two kept boxes may have.
        limit: how many boxes are enough.

    Returns:
        `(K,)`, int64, numbers of the boxes kept, counted over all levels, best first;
        of equal scores the earlier box comes first.

    >>> level = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    >>> scores = [torch.tensor([3.0, 1.0]), torch.tensor([4.0, 2.0])]
    >>> nms_by_level([level, level], scores, iou_threshold=0.5, limit=10)
    tensor([2, 0])
    """
    if boxes[0].device.type != "cpu" or torch.compiler.is_compiling():
        return _level_after_level(boxes, scores, iou_threshold, limit)
    order = torch.cat([*scores]).argsort(descending=True, stable=True)
    if len(boxes) == 1:
        return order[best_apart(upcast(boxes[0])[order], iou_threshold, limit)]
    box = upcast(torch.cat([*boxes]))[order]
    levels = [torch.full_like(x, i, dtype=torch.long) for i, x in enumerate(scores)]
    level_of = torch.cat(levels)[order]
    n = limit + limit // 4
    while True:
        kept = []
        for level in range(len(boxes)):
            of_level = (level_of[:n] == level).nonzero()[:, 0]
            kept.append(of_level[best_apart(box[of_level], iou_threshold, limit)])
        keep = torch.cat(kept).sort().values
        if len(keep) >= limit or n >= len(order):
            return order[keep[:limit]]
        # As many as would be enough if the next ones were kept as often.
        n = max(2 * n, n * limit // max(len(keep), 1))


def _level_after_level(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], iou_threshold: float, limit: int
) -> Tensor:
    """What `nms_by_level` gives. All boxes are judged: how many were kept is not asked.

    To be told that, a GPU would wait, and a compiler's graph would end.
    """
    kept, start = [], 0
    for box, score in zip(boxes, scores):
        order = score.argsort(descending=True, stable=True)
        keep = best_apart(upcast(box)[order], iou_threshold, limit)
        kept.append(order[keep] + start)
        start = start + len(box)
    all_kept = torch.cat(kept)
    best = torch.cat([*scores])[all_kept].argsort(descending=True, stable=True)
    return all_kept[best[:limit]]
