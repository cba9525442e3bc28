"""NMS in blocks: some boxes at a time are compared with all that have been kept so far.

For each box the plain loop asks which of the others it suppresses: N times a few
operations on N numbers. Here 384 boxes are judged in one go.

Dimension letters: N, M boxes; K boxes kept.
"""

import math
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from rpn_lib.boxes import above_zero, box_area

# Boxes that are judged in one go.
BLOCK = 384


def best_apart(boxes: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Of boxes in order of score, the first ones that NMS keeps.

    Args:
        boxes: `(N, 4)`, xyxy, pixels, the best first; float32 or float64.
        iou_threshold: the largest IoU that two kept boxes may have; in [0, 1].
        limit: how many boxes are enough.

    Returns:
        `(K,)`, int64, numbers of the boxes kept, in order.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    >>> best_apart(boxes, iou_threshold=0.5, limit=10)
    tensor([0, 2])
    """
    at_once = boxes.device.type != "cpu" or torch.compiler.is_compiling()
    if at_once or (len(boxes) <= BLOCK and bool(boxes.isfinite().all())):
        # It compares IoU and threshold in float64, where 0.7 is not that of float32.
        single = boxes.dtype == torch.float32
        threshold = _in_float32(iou_threshold) if single else iou_threshold
        scores = torch.arange(len(boxes), 0, -1.0, device=boxes.device)
        found: Tensor = torchvision.ops.nms(boxes, scores.to(boxes.dtype), threshold)
        return found[:limit]
    low, high = boxes.T.reshape(2, 2, -1)  # x1 and y1, x2 and y2: (2, N) each
    sides = _Sides(low, high, box_area(boxes))
    chosen = [torch.zeros(0, dtype=torch.long)]
    better: list[_Sides] = []  # sides of what is chosen, block by block
    for start in range(0, len(boxes), BLOCK):
        if sum(map(len, chosen)) >= limit:
            break
        block = torch.arange(start, min(start + BLOCK, len(boxes)))
        for some in better:  # each time fewer are left
            highest = _iou_of(some, sides.at(block)).amax(dim=0)
            block = block[highest <= iou_threshold]
        if len(block):
            left = sides.at(block)
            block = block[_first_come(_iou_of(left, left).le_(iou_threshold))]
            chosen.append(block)
            better.append(sides.at(block))
    return torch.cat(chosen)[:limit]


class _Sides(NamedTuple):
    """N boxes: where they begin and end, (2, N) each, and their areas (N,)."""

    low: Tensor
    high: Tensor
    area: Tensor

    def at(self, index: Tensor) -> "_Sides":
        """Those of some boxes."""
        return _Sides(*(x.index_select(-1, index) for x in self))


def _iou_of(a: _Sides, b: _Sides) -> Tensor:
    """IoU (N, M) of N boxes with M, by the arithmetic of `rpn_lib.boxes.box_iou`."""
    width, height = (  # one after the other: what is at hand fits into the cache
        torch.minimum(a.high[axis, :, None], b.high[axis])
        .sub_(torch.maximum(a.low[axis, :, None], b.low[axis]))
        .clamp_(min=0)
        for axis in (0, 1)
    )
    intersection = width.mul_(height)
    area = above_zero(a.area.clone())[:, None]
    return intersection.div_((area + b.area).sub_(intersection))


def _in_float32(number: float) -> float:
    """The float32 that is nearest, by plain arithmetic, which compilers follow."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(math.ldexp(mantissa, 24)), exponent - 24)


def _first_come(free: Tensor) -> Tensor:
    """Greedy choice: whoever overlaps no one chosen before. (N,), bool.

    Who is chosen is found in rounds: first all, then those that overlap no earlier one
    of the round before, until nothing changes. After r rounds the first r boxes at
    least are right, and nearly always all of them after a few.

    Args:
        free: `(N, N)`, 1 where two boxes may both be kept, else 0. Changed in place.
    """
    earlier = free.sub_(1).triu_(1)  # [i, j]: -1 if i comes before j and overlaps it
    chosen = earlier.new_ones(len(earlier))
    while True:
        left = (chosen @ earlier == 0).to(earlier.dtype)
        if torch.equal(left, chosen):
            return left > 0
        chosen = left
