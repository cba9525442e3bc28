"""Evaluation: how many of the objects do the proposals find?

Recall is the share of true boxes that some proposal overlaps well enough. It is counted
as in COCO: proposals, best first, each take the free true box that they overlap most,
so that one proposal never counts for two objects. Average recall (AR) is its mean over
IoU thresholds from 0.5 to 0.95.

Dimension letters: K proposals; G true boxes; T IoU thresholds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.boxes import BoxError, box_iou
from rpn_lib.nms import Proposals

# 0.5, 0.55, ... 0.95: the thresholds of COCO.
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


class Recall(NamedTuple):
    """Recall over a data set.

    Attributes:
        thresholds: T IoU thresholds.
        recalls: `(T,)`: share of the true boxes found at each, from 0 to 1; NaN where
            the data set has no true box.
        num_gt: how many true boxes there are.
    """

    thresholds: tuple[float, ...]
    recalls: Tensor
    num_gt: int

    @property
    def average(self) -> float:
        """Average recall, the mean over the thresholds."""
        return float(self.recalls.mean())

    def at(self, iou: float) -> float:
        """Recall at one of the thresholds."""
        return float(self.recalls[self.thresholds.index(iou)])


def found(
    proposals: Tensor, gt_boxes: Tensor, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> Tensor:
    """Which true boxes of an image are found, one proposal for one true box.

    Args:
        proposals: `(K, 4)`, xyxy, pixels, best first.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        thresholds: T least IoUs, above 0.

    Returns:
        `(T, G)`, bool.

    >>> gt = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]])
    >>> found(torch.tensor([[0.0, 0.0, 10.0, 9.0]]), gt, thresholds=[0.5, 0.95])
    tensor([[ True, False],
            [False, False]])
    """
    taken = torch.zeros(len(thresholds), len(gt_boxes), dtype=torch.bool)
    if not len(gt_boxes):
        return taken
    iou = box_iou(proposals.double().cpu(), gt_boxes.double().cpu())  # (K, G)
    least = torch.tensor(thresholds, dtype=torch.float64)
    rows = torch.arange(len(thresholds))
    # A proposal below the lowest threshold everywhere can take nothing.
    useful = iou[iou.amax(dim=1) >= min(thresholds)]
    for i in range(len(useful)):
        free = useful[i].expand_as(taken).masked_fill(taken, -1)  # (T, G)
        value, index = free.max(dim=1)
        taken[rows, index] |= value >= least
    return taken


def recall(
    proposals: Sequence[Proposals | Tensor],
    gt_boxes: Sequence[Tensor],
    k: int = 100,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> Recall:
    """Recall of the first `k` proposals of each image, whatever their class.

    Args:
        proposals: for each image its proposals, or boxes `(K, 4)`, best first.
        gt_boxes: for each image `(G, 4)`, xyxy, pixels.
        k: how many proposals of an image count, 1 or more.
        thresholds: least IoUs for a true box to count as found.

    Raises:
        BoxError: another number of images in one list than in the other, or `k` < 1.

    >>> gt = [torch.tensor([[0.0, 0.0, 10.0, 10.0]])]
    >>> result = recall([torch.tensor([[0.0, 0.0, 10.0, 9.0]])], gt)
    >>> result.at(0.5), round(result.average, 2)  # IoU 0.9: found at 9 of 10 thresholds
    (1.0, 0.9)
    """
    if len(proposals) != len(gt_boxes) or k < 1:
        raise BoxError(
            f"proposals of {len(proposals)} images, true boxes of {len(gt_boxes)}, "
            f"k={k}; give both for each image, and k of 1 or more."
        )
    hits = torch.zeros(len(thresholds))
    for one, boxes in zip(proposals, gt_boxes):
        best = (one.boxes if isinstance(one, Proposals) else one)[:k]
        hits += found(best, boxes, thresholds).sum(dim=1)
    total = sum(len(boxes) for boxes in gt_boxes)
    shares = hits / total if total else torch.full_like(hits, torch.nan)
    return Recall(tuple(thresholds), shares, total)
