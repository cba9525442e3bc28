"""Matching: which anchors learn that they see an object.

An anchor is an object (label 1, or the class) where its IoU with a true box reaches the
upper threshold, background (0) where its IoU with every true box is below the lower
one, and ignored (-1) in between. Many objects have no anchor that reaches the upper
threshold; so the best anchor of each true box is an object too (Faster R-CNN, section
3.1.2).

Dimension letters: N anchors; G true boxes.
"""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.boxes import box_area, box_intersection, box_iou, check_boxes, upcast
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.ranking import compared, top_k


@dataclass(frozen=True)
class MatchRule:
    """When an anchor is an object, when background; see `match_anchors`.

    Attributes:
        positive_iou: an anchor with at least this IoU is an object; in (0, 1].
        negative_iou: with less than this IoU it is background; in [0, positive_iou].
        best_anchor: the best anchor of each true box is an object as well, and those
            that tie with it to the last bit of float32; only where their IoU is above
            0, so a box that no anchor touches changes nothing.
        min_best_iou: least IoU of such a best anchor; in [0, 1]. The paper has no such
            limit; 0.3 leaves out anchors that would otherwise be background.
        min_num_positives: if there are fewer objects than this, the anchors of the
            highest IoU (above 0) become objects until there are.
        ignore_fraction: the share of an anchor's area, in (0, 1], that must lie in one
            region of `ignore_boxes` for the anchor not to be background.

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
    ignore_fraction: float = 0.5

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
        if not 0 < self.ignore_fraction <= 1:
            raise SettingError(
                f"ignore_fraction={self.ignore_fraction} must be above 0 and at most 1."
            )


class Matches(NamedTuple):
    """What `match_anchors` finds out about N anchors and G true boxes.

    Attributes:
        labels: `(N,)`, int64: 1 or the class for an object, 0 for background, -1 for
            ignored.
        gt_index: `(N,)`, int64: the true box of the highest IoU; 0 where the anchor
            overlaps none.
        iou: `(N,)`, float32: that IoU; 0 where there is no true box. (float64 where
            anchors or boxes are.)
        gt_best_iou: `(G,)`, likewise: the highest IoU that any anchor has with each
            true box.
    """

    labels: Tensor
    gt_index: Tensor
    iou: Tensor
    gt_best_iou: Tensor


def match_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    rule: MatchRule = MatchRule(),
    *,
    gt_labels: Tensor | None = None,
    valid: Tensor | None = None,
    ignore_boxes: Tensor | None = None,
) -> Matches:
    """Label anchors by their IoU with the true boxes of one image.

    An object, by its IoU or as a best anchor, keeps the true box that it overlaps most
    as its target, even if it is the best anchor of another one, as in the paper's code.

    Args:
        anchors: `(N, 4)`, xyxy, pixels.
        gt_boxes: `(G, 4)`, xyxy, pixels; G may be 0, then all anchors are background.
        rule: which anchors are objects and which are background; by default, as in the
            paper.
        gt_labels: `(G,)`, int64 classes from 1, used as labels in place of 1.
        valid: `(N,)`, bool: anchors that may be labelled; the others are ignored (-1)
            and are nobody's best anchor. See `rpn_lib.anchors.inside_image`.
        ignore_boxes: `(I, 4)`, xyxy, pixels: regions such as COCO's crowds, where
            nobody knows what is an object. Background inside them is ignored; how far
            inside, `rule.ignore_fraction` says.

    Returns:
        labels, true box, IoU of each anchor, and the best IoU of each true box.

    Raises:
        BoxError: a true box or region without area, an anchor that is not finite, or
            arguments whose lengths do not fit.

    >>> anchors = torch.tensor([[0, 0, 9.0, 9], [0, 5, 9, 14], [40, 0, 49, 9]])
    >>> box = torch.tensor([[0.0, 0.0, 9.0, 10.0]])
    >>> match_anchors(anchors, box).labels
    tensor([ 1, -1,  0])
    >>> match_anchors(anchors, box, MatchRule(negative_iou=0.5)).labels
    tensor([1, 0, 0])
    """
    anchors, gt_boxes = check_arguments(anchors, gt_boxes, gt_labels, valid)
    iou = box_iou(anchors, gt_boxes)  # (N, G)
    if valid is not None:
        iou = iou * valid[:, None]
    # The best true box of each anchor. A column of zeros stands in where there is none.
    nobody = iou.new_zeros(len(anchors), 1)
    best_iou, gt_index = torch.cat([iou, nobody], dim=1).max(dim=1)  # (N,)
    # The best anchors of each true box: all that reach its highest IoU.
    nothing = iou.new_zeros(1, len(gt_boxes))
    gt_best_iou = torch.cat([iou, nothing]).amax(dim=0)  # (G,)
    reached = (gt_best_iou > 0) & (gt_best_iou >= rule.min_best_iou)
    is_best = ((iou == gt_best_iou) & reached).any(dim=1)  # (N,)
    unknown = covered(anchors, ignore_boxes, rule.ignore_fraction)
    labels = label_anchors(best_iou, is_best, rule, valid, unknown)
    return Matches(
        with_classes(labels, gt_index, gt_labels), gt_index, best_iou, gt_best_iou
    )


def required_iou(gt_best_iou: Tensor, least: float) -> Tensor:
    """The IoU by which an anchor is a best one of each true box, `(G,)`.

    It is the highest that any anchor has, and infinite where that does not count.

    Args:
        gt_best_iou: `(G,)`, that highest IoU.
        least: the least IoU of a best anchor.

    >>> required_iou(torch.tensor([0.0, 0.2, 0.6]), 0.3)
    tensor([   inf,    inf, 0.6000])
    """
    too_low = gt_best_iou < least if least > 0 else gt_best_iou <= 0
    return gt_best_iou.masked_fill(too_low, torch.inf)


def label_anchors(
    iou: Tensor,
    is_best: Tensor,
    rule: MatchRule,
    valid: Tensor | None = None,
    unknown: Tensor | None = None,
) -> Tensor:
    """The labels of anchors whose best IoU is known.

    Args:
        iou: `(N,)`, the highest IoU of each anchor with any true box.
        is_best: `(N,)`, bool: no anchor has a higher IoU with some true box.
        rule: thresholds.
        valid: `(N,)`, bool: anchors that may be labelled.
        unknown: `(N,)`, bool: anchors that cannot be background.

    Returns:
        `(N,)`, int64: 1 object, 0 background, -1 ignored.

    >>> iou = torch.tensor([0.8, 0.5, 0.1, 0.2])
    >>> label_anchors(iou, torch.tensor([False, False, False, True]), MatchRule())
    tensor([ 1, -1,  0,  1])
    """
    positive = compared(torch.ge, iou, rule.positive_iou)
    if rule.best_anchor:
        positive |= is_best
    if rule.min_num_positives > 0:
        # The best of the others fill up what is missing. A rank is compared with a
        # count: neither needs to be known here, so a GPU does not wait.
        others = iou.masked_fill(positive, 0)
        best, index = top_k(others, rule.min_num_positives)
        rank = torch.arange(len(index), device=iou.device)
        missing = rule.min_num_positives - positive.sum()
        positive[index] |= (rank < missing) & (best > 0)
    background = compared(torch.lt, iou, rule.negative_iou)
    if unknown is not None:
        background &= ~unknown
    # 0 for neither, 1 for background, 2 or 3 for an object. (In bytes: quick to move.)
    objects, labels = positive.view(torch.int8), background.view(torch.int8)
    labels = torch.add(labels, objects, alpha=2).clamp_(max=2)
    if valid is not None:
        labels *= valid.view(torch.int8)
    return labels.sub_(1).long()


def with_classes(labels: Tensor, gt_index: Tensor, gt_labels: Tensor | None) -> Tensor:
    """Labels in which each object has the class of its true box."""
    if gt_labels is None or not len(gt_labels):
        return labels
    classes = gt_labels.long().to(labels.device)
    return torch.where(labels > 0, classes[gt_index], labels)


def covered(
    anchors: Tensor,
    regions: Tensor | None,
    fraction: float,
    trusted: bool = False,
) -> Tensor | None:
    """Which anchors have at least this share of their area in one of the regions.

    Args:
        anchors: `(N, 4)`, xyxy, pixels.
        regions: `(I, 4)`, the same; few, so one at a time is taken, without a matrix.
        fraction: the share, in (0, 1].
        trusted: the regions have been checked before.

    Returns:
        `(N,)`, bool; `None` where there is no region.

    Raises:
        BoxError: a region without area.

    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> regions = torch.tensor([[0.0, 0.0, 5.0, 10.0], [7.0, 0.0, 12.0, 10.0]])
    >>> covered(box, regions, 0.5), covered(box, regions, 0.6)
    (tensor([True]), tensor([False]))
    """
    if regions is None or not len(regions):
        return None
    if not trusted:
        regions = check_boxes(regions, where="ignore_boxes")
    regions = regions.to(anchors.device)
    inside = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    least = fraction * box_area(anchors)
    for region in regions:
        inside |= box_intersection(anchors, region[None])[:, 0] >= least
    return inside


def check_arguments(
    anchors: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor | None = None,
    valid: Tensor | None = None,
    trusted: bool = False,
) -> tuple[Tensor, Tensor]:
    """Anchors and true boxes in float32 or float64, on one device.

    Args:
        anchors, gt_boxes, gt_labels, valid: see `match_anchors`.
        trusted: boxes and classes have been checked before, so that only shapes are
            looked at: to look at values makes a GPU wait.

    Raises:
        BoxError: see `match_anchors`.
    """
    if not trusted:
        checked = check_boxes(gt_boxes, where="gt_boxes")
        exact = getattr(gt_boxes, "dtype", None) == torch.float64
        gt_boxes = gt_boxes if exact and len(checked) else checked
    if gt_labels is not None and (
        len(gt_labels) != len(gt_boxes) or (not trusted and (gt_labels < 1).any())
    ):
        raise BoxError(
            f"gt_labels must hold a class from 1 for each of the {len(gt_boxes)} true "
            f"boxes (0 means background, -1 ignored), not {gt_labels.tolist()}."
        )
    if valid is not None and valid.shape != anchors.shape[:1]:
        raise BoxError(
            f"valid has shape {tuple(valid.shape)} for {len(anchors)} anchors."
        )
    anchors = upcast(anchors)
    # One sum is quicker than a look at each number, and shows that one is not finite.
    if not trusted and not isfinite(anchors.sum().item()):
        for number, anchor in enumerate(anchors.tolist()):
            if not all(map(isfinite, anchor)):
                raise BoxError(f"anchor {number} is {anchor}; it must be finite.")
    return anchors, upcast(gt_boxes).to(anchors.device)
