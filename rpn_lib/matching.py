"""Matching: which anchors learn that they see an object, and which the loss looks at.

An anchor is an object (label 1, or the class) where its IoU with a true box reaches the
upper threshold, background (0) where its IoU with every true box is below the lower
one, and ignored (-1) in between. Many objects have no anchor that reaches the upper
threshold; so the best anchor of each true box is an object too (Faster R-CNN, section
3.1.2).

Dimension letters: N anchors; G true boxes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.boxes import box_area, box_intersection, check_boxes
from rpn_lib.errors import BoxError, SettingError

# Pairs (anchor, true box) looked at in one go: few enough for a processor's cache, many
# enough that Python's own time does not count.
BLOCK_PAIRS = 2**18


@dataclass(frozen=True)
class MatchRule:
    """When an anchor is an object, when background; see `match_anchors`.

    Attributes:
        positive_iou: an anchor with at least this IoU is an object; in (0, 1].
        negative_iou: with less than this IoU it is background; in [0, positive_iou].
        best_anchor: the best anchor of each true box is an object as well.
        min_best_iou: least IoU of such a best anchor; in [0, 1].
        min_num_positives: so many objects at least, where IoUs are above 0.

    Raises:
        SettingError: thresholds out of range or out of order.

    >>> MatchRule(negative_iou=0.5).positive_iou
    0.7
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    best_anchor: bool = True
    min_best_iou: float = 0.0
    min_num_positives: int = 0

    def __post_init__(self) -> None:
        if (
            not 0 <= self.negative_iou <= self.positive_iou <= 1
            or self.positive_iou == 0
        ):
            raise SettingError(
                f"negative_iou={self.negative_iou} and positive_iou="
                f"{self.positive_iou} must keep the order 0 <= negative_iou <= "
                "positive_iou <= 1, with positive_iou above 0."
            )
        if not 0 <= self.min_best_iou <= 1:
            raise SettingError(
                f"min_best_iou={self.min_best_iou} must be between 0 and 1."
            )


@dataclass(frozen=True)
class SampleRule:
    """How many anchors of an image the loss looks at; see `sample_anchors`.

    Attributes:
        num_samples: how many to draw, 1 or more.
        positive_fraction: the largest share of objects, in [0, 1].

    Raises:
        SettingError: a number out of range.

    >>> SampleRule(num_samples=64).positive_fraction
    0.5
    """

    num_samples: int = 256
    positive_fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.num_samples < 1 or not 0 <= self.positive_fraction <= 1:
            raise SettingError(
                f"num_samples={self.num_samples} must be 1 or more and "
                f"positive_fraction={self.positive_fraction} between 0 and 1."
            )


class Matches(NamedTuple):
    """What `match_anchors` finds out about N anchors and G true boxes.

    Attributes:
        labels: `(N,)`, int64: 1 or the class for an object, 0 for background, -1 for
            ignored.
        gt_index: `(N,)`, int64: the true box of the highest IoU; 0 where the anchor
            overlaps none.
        iou: `(N,)`, float32: that IoU; 0 where there is no true box.
        gt_best_iou: `(G,)`, float32: the highest IoU that any anchor has with each true
            box.
    """

    labels: Tensor
    gt_index: Tensor
    iou: Tensor
    gt_best_iou: Tensor


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
) -> Matches:
    """Label anchors by their IoU with the true boxes of one image.

    An anchor that is made positive, by either rule, keeps the true box that it overlaps
    most as its target, even if it is the best anchor of another one, as in the paper's
    code.

    Args:
        anchors: `(N, 4)`, xyxy, pixels.
        gt_boxes: `(G, 4)`, xyxy, pixels; G may be 0, then all anchors are background.
        positive_iou: an anchor with at least this IoU is an object; in (0, 1].
        negative_iou: an anchor with less than this IoU is background; in [0,
            positive_iou].
        best_anchor: make the best anchor of each true box an object as well, and those
            that tie with it to the last bit of float32; only where their IoU is above
            0, so a box that no anchor touches changes nothing.
        min_best_iou: least IoU of such a best anchor; in [0, 1]. The paper has no such
            limit; 0.3 leaves out anchors that would otherwise be background.
        min_num_positives: if there are fewer objects than this, the anchors of the
            highest IoU (above 0) become objects until there are.
        gt_labels: `(G,)`, int64 classes from 1, used as labels in place of 1.
        valid: `(N,)`, bool: anchors that may be labelled; the others are ignored (-1)
            and are nobody's best anchor. See `rpn_lib.anchors.inside_image`.
        ignore_boxes: `(I, 4)`, xyxy, pixels: regions such as COCO's crowds, where
            nobody knows what is an object. Background inside them is ignored.
        ignore_fraction: the share of an anchor's area, in (0, 1], that must lie in one
            such region.

    Returns:
        labels, true box, IoU of each anchor, and the best IoU of each true box.

    Raises:
        BoxError: a true box without area, thresholds out of order, or arguments whose
            lengths do not fit.

    >>> anchors = torch.tensor([[0, 0, 9.0, 9], [0, 5, 9, 14], [40, 0, 49, 9]])
    >>> match_anchors(anchors, torch.tensor([[0.0, 0.0, 9.0, 10.0]])).labels
    tensor([ 1, -1,  0])
    """
    if not 0 <= negative_iou <= positive_iou <= 1 or positive_iou == 0:
        raise BoxError(
            f"negative_iou={negative_iou} and positive_iou={positive_iou} must keep "
            "the order 0 <= negative_iou <= positive_iou <= 1, with positive_iou above "
            "0."
        )
    gt_boxes = check_boxes(gt_boxes, where="gt_boxes").to(anchors.device)
    if gt_labels is not None and (
        len(gt_labels) != len(gt_boxes) or (gt_labels < 1).any()
    ):
        raise BoxError(
            f"gt_labels must hold a class from 1 for each of the {len(gt_boxes)} true "
            f"boxes (0 means background, -1 ignored), not {gt_labels.tolist()}."
        )
    if valid is not None and valid.shape != anchors.shape[:1]:
        raise BoxError(
            f"valid has shape {tuple(valid.shape)} for {len(anchors)} anchors."
        )

    if not 0 <= min_best_iou <= 1:
        raise BoxError(f"min_best_iou={min_best_iou} must be between 0 and 1.")

    iou, gt_index, gt_best_iou, is_best = _best_pairs(
        anchors, gt_boxes, valid, min_best_iou, skip=anchors.device.type == "cpu"
    )
    positive = iou >= positive_iou
    if best_anchor:
        positive |= is_best
    missing = min_num_positives - int(positive.sum()) if min_num_positives else 0
    if missing > 0:
        rank = iou.masked_fill(positive, 0).sort(descending=True, stable=True)
        positive[rank.indices[:missing][rank.values[:missing] > 0]] = True

    labels = torch.where(iou < negative_iou, 0, -1)
    if ignore_boxes is not None and len(ignore_boxes):
        labels[_covered(anchors, ignore_boxes, ignore_fraction)] = -1
    labels[positive] = 1 if gt_labels is None else gt_labels.long()[gt_index[positive]]
    if valid is not None:
        labels = labels.masked_fill(~valid, -1)
    return Matches(labels, gt_index, iou, gt_best_iou)


def _best_pairs(
    anchors: Tensor, gt_boxes: Tensor, valid: Tensor | None, least: float, skip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best true box and IoU of each anchor, best IoU of each true box, who has it.

    The whole matrix of IoUs, (N, G), would take gigabytes for a large image. One block
    of anchors at a time is enough: its rows are finished at once, and of its columns
    only the maximum is kept.

    With `skip`, only the true boxes near a block are compared with it. To ask which
    these are would make a GPU wait at every block, so there all of them are.
    """
    num_anchors, num_gt = len(anchors), len(gt_boxes)
    iou = anchors.new_zeros(num_anchors)
    gt_index = torch.zeros(num_anchors, dtype=torch.long, device=anchors.device)
    is_best = torch.zeros_like(gt_index, dtype=torch.bool)
    if not num_gt or not num_anchors:
        return iou, gt_index, anchors.new_zeros(num_gt), is_best
    size = max(1, BLOCK_PAIRS // num_gt)
    blocks = [slice(i, i + size) for i in range(0, num_anchors, size)]
    block_best = anchors.new_zeros(len(blocks), num_gt)
    near = torch.arange(num_gt, device=anchors.device)
    for i, block in enumerate(blocks):
        part = anchors[block]
        if skip:
            # Anchors come row by row, so a block is a stripe across the image. A true
            # box above or below the stripe overlaps none of its anchors: most do not.
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
    iou = intersection.div_(union)
    return iou if valid is None else iou.mul_(valid[block])


def _covered(anchors: Tensor, regions: Tensor, fraction: float) -> Tensor:
    """Which anchors have at least this share of their area in one of the regions."""
    if not 0 < fraction <= 1:
        raise BoxError(f"ignore_fraction={fraction} must be above 0 and at most 1.")
    regions = check_boxes(regions, where="ignore_boxes").to(anchors.device)
    covered = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    least = fraction * box_area(anchors)
    for region in regions:  # few; one at a time needs no matrix
        covered |= box_intersection(anchors, region[None])[:, 0] >= least
    return covered


def sample_anchors(
    labels: Tensor,
    num_samples: int = 256,
    positive_fraction: float = 0.5,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the anchors of one image that the loss looks at.

    Nearly all anchors are background; a loss over all of them would be about nothing
    else. So 256 are drawn, at most half of them objects; background fills up the rest.

    Args:
        labels: `(N,)` from `match_anchors`: above 0 object, 0 background, -1 ignored.
        num_samples: how many to draw, 1 or more; fewer come back if there are not
            enough.
        positive_fraction: the largest share of objects, in [0, 1].
        generator: source of randomness; `None` is torch's global one.

    Returns:
        indices of objects and of background, int64, in random order.

    Raises:
        BoxError: `num_samples` or `positive_fraction` out of range.

    >>> labels = torch.tensor([1, 0, 0, -1, 0])
    >>> objects, background = sample_anchors(labels, num_samples=4)
    >>> objects, background.sort().values
    (tensor([0]), tensor([1, 2, 4]))
    """
    if num_samples < 1 or not 0 <= positive_fraction <= 1:
        raise BoxError(
            f"num_samples={num_samples} must be 1 or more and "
            f"positive_fraction={positive_fraction} "
            "between 0 and 1."
        )
    objects = _choose(
        (labels > 0).nonzero()[:, 0], int(num_samples * positive_fraction), generator
    )
    background = _choose(
        (labels == 0).nonzero()[:, 0], num_samples - len(objects), generator
    )
    return objects, background


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` of the indices, each subset as likely as any other, in random order."""
    # A generator draws on its own device.
    device = generator.device if generator is not None else indices.device
    total = len(indices)
    if total > 8 * count:
        # Few of many: draw with repetition until there are enough different ones,
        # rather than shuffle 268,000 to use 256.
        draws = torch.randint(total, (2 * count,), generator=generator, device=device)
        drawn: Tensor = torch.unique(draws)
        if len(drawn) >= count:
            indices, total = indices[drawn.to(indices.device)], len(drawn)
    order = torch.randperm(total, generator=generator, device=device)[:count]
    return indices[order.to(indices.device)]
