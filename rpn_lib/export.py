"""From images to what NMS is given, as one graph: for ONNX and `torch.compile`.

Dimension letters: B images; N anchors of a level; K candidates of an image.
"""

from math import inf
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from rpn_lib.boxes import box_iou
from rpn_lib.head import objectness_logits
from rpn_lib.nms import candidates
from rpn_lib.ranking import top_k
from rpn_lib.rpn import RegionProposalNetwork


class Candidates(nn.Module):
    """Everything up to NMS in one graph, for `torch.compile` and `torch.onnx.export`.

    Backbone, heads, anchors, the best `select.pre_nms_top_k` of each level, decoded and
    clipped to the image. The settings are those of the moment of compilation; size and
    number of images may vary.

    Args:
        rpn: the network; its weights are shared.

    >>> from rpn_lib.backbones import SmallBackbone
    >>> from rpn_lib.anchors import AnchorGenerator
    >>> anchors = AnchorGenerator([16, 32, 64], strides=[16])
    >>> rpn = RegionProposalNetwork(SmallBackbone(), anchors).eval()
    >>> boxes, logits, levels = Candidates(rpn)(torch.rand(2, 3, 96, 128))
    >>> boxes.shape, logits.shape, levels.shape
    (torch.Size([2, 432, 4]), torch.Size([2, 432]), torch.Size([432]))

    NMS then finishes the work for image 0. It looks at logits, for improbable boxes
    have logits that differ where their probabilities no longer do, and it puts those
    that are too small or too improbable last; they are dropped after it:

    >>> from torchvision.ops import batched_nms
    >>> kept = batched_nms(boxes[0], logits[0], levels, rpn.select.iou_threshold)
    >>> kept = kept[logits[0, kept] > -inf][: rpn.select.post_nms_top_k]
    >>> proposals, scores = boxes[0, kept], logits[0, kept].sigmoid()
    """

    def __init__(self, rpn: RegionProposalNetwork) -> None:
        super().__init__()
        self.rpn = rpn

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates of images `(B, 3, height, width)` that are not padded.

        Returns:
            boxes `(B, K, 4)`, xyxy, pixels; logits `(B, K)`, object minus background,
            minus infinity where `min_size` or `score_threshold` leaves a box out; the
            level of each, `(K,)`. Sorted by score within a level, those left out
            included.
        """
        features = self.rpn.levels_of(images)
        image_size = (images.shape[-2], images.shape[-1])
        select, weights = self.rpn.select, self.rpn.delta_weights
        boxes, logits, levels = [], [], []
        parts = _head_outputs(self.rpn, features, image_size)
        for level, (anchors, logit, deltas) in enumerate(zip(*parts)):
            best = candidates(
                logit, deltas, anchors, image_size, select.pre_nms_top_k, weights
            )  # boxes (B, k, 4), logits (B, k)
            usable = select.usable(best.boxes, best.logits)
            boxes.append(best.boxes)
            logits.append(best.logits.masked_fill(~usable, -inf))
            levels.append(torch.full_like(best.top[0], level))
        return torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(levels)


class StageOutputs(NamedTuple):
    """What `Stages` gives: the way from one picture to its proposals.

    N anchors, level by level, in the order `(H, W, A)` within each; K candidates, the
    best first, of equal scores the earlier anchor first.

    Attributes:
        anchors: `(N, 4)`, xyxy, pixels.
        logits: `(N,)`: score of object minus score of background.
        deltas: `(N, 4)`.
        top: `(K,)`, int64: the number of each candidate among the N anchors.
        levels: `(K,)`, int64: the level of each candidate.
        decoded: `(K, 4)`, xyxy, pixels: what its deltas make of its anchor.
        boxes: `(K, 4)`, xyxy, pixels: the same, clipped to the picture.
        scores: `(K,)`: probability of an object, from 0 to 1.
        usable: `(K,)`, bool: large and probable enough (`min_size`,
            `score_threshold`); NMS does not see the others.
        iou: `(K, K)`: IoU of every pair of boxes.
        suppressed_by: `(K,)`, int64: the number, among the K, of the best kept box that
            suppresses this one; -1 where none does.
        kept: `(K,)`, bool: the proposals.
        features: for each level `(1, C, H, W)`.
    """

    anchors: Tensor
    logits: Tensor
    deltas: Tensor
    top: Tensor
    levels: Tensor
    decoded: Tensor
    boxes: Tensor
    scores: Tensor
    usable: Tensor
    iou: Tensor
    suppressed_by: Tensor
    kept: Tensor
    features: list[Tensor]


class Stages(nn.Module):
    """From one picture to its proposals, every stage an output of one graph.

    The proposals are those of the network itself with this `pre_nms_top_k`. For
    `torch.onnx.export(..., dynamo=True)`; height and width may vary. Settings are those
    of the moment of export. (Give it `optimize=False` where the weights shall stay what
    they are: folding batch normalisation into convolutions changes them.)

    Args:
        rpn: the network; its weights are shared, its `select` gives the thresholds.
        pre_nms_top_k: candidates of each level. The matrix of IoUs holds the square of
            their number.

    >>> from rpn_lib.models import small_rpn
    >>> picture = torch.rand(1, 3, 96, 128)
    >>> rpn = small_rpn().eval()
    >>> stages = Stages(rpn)(picture)
    >>> stages.logits.shape, stages.iou.shape
    (torch.Size([576]), torch.Size([300, 300]))
    >>> rpn.select.pre_nms_top_k = 300
    >>> torch.equal(stages.boxes[stages.kept], rpn(picture).proposals[0].boxes)
    True
    """

    def __init__(self, rpn: RegionProposalNetwork, pre_nms_top_k: int = 300) -> None:
        super().__init__()
        self.rpn = rpn
        self.pre_nms_top_k = pre_nms_top_k

    @property
    def names(self) -> list[str]:
        """A name for each output, for `output_names` of the export."""
        levels = range(len(self.rpn.anchors.levels))
        return [*StageOutputs._fields[:-1], *(f"features.{i}" for i in levels)]

    def forward(self, images: Tensor) -> StageOutputs:
        """The stages of one picture `(1, 3, height, width)`."""
        rpn, select, k = self.rpn, self.rpn.select, self.pre_nms_top_k
        image_size = (images.shape[-2], images.shape[-1])

        # 1. Feature maps, anchors, and what the head says about each anchor.
        features = rpn.levels_of(images)
        anchors, logits, deltas = _head_outputs(rpn, features, image_size)

        # (`shape[0]` where `len` would read better: `len` fixes a size in the graph.)
        # 2. The best of each level; their boxes; who is left after NMS.
        parts, start = [], 0
        for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas)):
            best = candidates(
                logit[0], delta[0], anchor, image_size, k, rpn.delta_weights
            )
            usable = select.usable(best.boxes, best.logits)
            kept = _left_by_nms(best.boxes, best.logits, usable, select.iou_threshold)
            place = best.top + start, torch.full_like(best.top, level)
            parts.append((*place, best.decoded, best.boxes, best.logits, usable, kept))
            start += anchor.shape[0]

        # 3. All levels together, the best first.
        merged = [torch.cat(part) for part in zip(*parts)]
        if len(parts) > 1:
            order = top_k(merged[4], merged[4].shape[0])[1]
            merged = [part[order] for part in merged]
        top, levels, decoded, boxes, logit, usable, kept = merged

        # 4. Who suppresses whom: the best kept box of the level with too large an IoU.
        iou = box_iou(boxes, boxes)  # (K, K)
        by = (iou > select.iou_threshold) & (levels[:, None] == levels)
        suppressed_by = _suppressed_by(by & usable, kept)
        if select.post_nms_top_k < k * len(parts):
            kept = kept & (kept.long().cumsum(0) <= select.post_nms_top_k)
        return StageOutputs(
            torch.cat(anchors),
            torch.cat(logits, 1)[0],
            torch.cat(deltas, 1)[0],
            top,
            levels,
            decoded,
            boxes,
            logit.sigmoid(),
            usable,
            iou,
            suppressed_by,
            kept,
            features,
        )


def _head_outputs(
    rpn: RegionProposalNetwork, features: list[Tensor], image_size: tuple[int, int]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """For each level the anchors (N, 4), the logits (B, N) and the deltas (B, N, 4)."""
    grids = [feature.shape[-2:] for feature in features]
    anchors = rpn.anchors(grids, features[0].device)
    anchors = [rpn.border.place(level, image_size) for level in anchors]
    outputs = [rpn.head(feature) for feature in features]
    # Not `output.logits`: the compiler of torch 2.4 does not follow that property.
    logits = [objectness_logits(output.scores).flatten(1) for output in outputs]
    return anchors, logits, [output.deltas.flatten(1, 3) for output in outputs]


def _left_by_nms(
    boxes: Tensor, logits: Tensor, usable: Tensor, iou_threshold: float
) -> Tensor:
    """Which of the boxes (K, 4) NMS leaves, (K,), bool."""
    # Last in line, an unusable box suppresses none that is usable.
    rank = logits.masked_fill(~usable, -inf)
    number = torch.arange(boxes.shape[0], device=boxes.device)
    left = torchvision.ops.nms(boxes, rank, iou_threshold)
    kept: Tensor = (number[:, None] == left).any(1) & usable
    return kept


def _suppressed_by(overlap: Tensor, kept: Tensor) -> Tensor:
    """The first kept box before each that overlaps it too much, (K,); -1 for none."""
    number = torch.arange(kept.shape[0], device=kept.device)
    by = overlap & kept[:, None] & (number[:, None] < number)
    first = torch.where(by, number[:, None], kept.shape[0]).amin(0)
    return torch.where(by.any(0), first, -1)
