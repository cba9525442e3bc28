"""Non-maximum suppression, and the selection of proposals.

A trained RPN scores many anchors high for the same object. NMS keeps the best and drops
those that overlap it too much; the selection around it turns tens of thousands of
anchors into some hundred proposals (Faster R-CNN, section 3.3).

Dimension letters: N boxes; K boxes kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from rpn_lib.boxes import box_iou
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.fast import nms_by_level
from rpn_lib.ranking import top_k
from rpn_lib.transforms import decode


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression, to be read; `rpn_lib.fast.nms` is faster.

    Take the box of the highest score, drop every other box whose IoU with it is above
    the threshold, and go on with the best of what is left. Equal scores: the earlier
    box comes first.

    Args:
        boxes: `(N, 4)`, xyxy, pixels.
        scores: `(N,)`, higher is better; probabilities or logits, but where very good
            ones matter, logits: near 1, different ones become the same probability.
        iou_threshold: the largest IoU that two kept boxes may have; in [0, 1].

    Returns:
        `(K,)`, int64, indices of the boxes kept, best first.

    Raises:
        SettingError: `iou_threshold` out of range.
        BoxError: lengths that do not fit, or a NaN score.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), iou_threshold=0.5)
    tensor([1, 2])
    """
    _check_threshold(iou_threshold)
    if scores.shape != boxes.shape[:1]:
        raise BoxError(
            f"scores have shape {tuple(scores.shape)} for {len(boxes)} boxes."
        )
    if scores.isnan().any():
        raise BoxError(
            f"score {int(scores.isnan().nonzero()[0])} is NaN, and has no place in an "
            "order; drop that box."
        )
    left = scores.argsort(descending=True, stable=True)
    kept = []
    while len(left):
        best, left = left[:1], left[1:]
        kept.append(best)
        left = left[box_iou(boxes[best], boxes[left])[0] <= iou_threshold]
    return torch.cat(kept) if kept else left


class Proposals(NamedTuple):
    """Proposals of one image, best first.

    Attributes:
        boxes: `(K, 4)`, xyxy, pixels, clipped to the image.
        scores: `(K,)`, probability of an object, from 0 to 1.
    """

    boxes: Tensor
    scores: Tensor


class BestOfLevel(NamedTuple):
    """The best anchors of a level, best first, and the boxes that they become.

    Attributes:
        top: `(..., K)`, int64: the number of each among the anchors of the level.
        logits: `(..., K)`, float32: score of object minus score of background; their
            sigmoid is the probability of an object.
        decoded: `(..., K, 4)`, xyxy, pixels: the anchor, moved by its deltas.
        boxes: `(..., K, 4)`, xyxy, pixels: the same, clipped to the image.
    """

    top: Tensor
    logits: Tensor
    decoded: Tensor
    boxes: Tensor


def candidates(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    image_size: Sequence[int],
    k: int,
    delta_weights: Sequence[float] = (1, 1, 1, 1),
) -> BestOfLevel:
    """The best anchors of one level, moved by their deltas, clipped to the image.

    Of equal logits the earlier anchor comes first. Only the chosen are decoded.

    Args:
        logits: `(..., N)`: score of object minus score of background.
        deltas: `(..., N, 4)`.
        anchors: `(N, 4)`, xyxy, pixels.
        image_size: `(height, width)`, pixels, without padding.
        k: how many; all of them if there are fewer.
        delta_weights: see `rpn_lib.transforms.encode`.

    >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [8.0, 8.0, 30.0, 30.0]])
    >>> logits, deltas = torch.tensor([0.0, 2.0]), torch.zeros(2, 4)
    >>> best = candidates(logits, deltas, anchors, image_size=(20, 20), k=1)
    >>> best.top, best.decoded, best.boxes
    (tensor([1]), tensor([[ 8.,  8., 30., 30.]]), tensor([[ 8.,  8., 20., 20.]]))
    """
    best, index = top_k(logits.float(), k)  # (..., K)
    chosen = deltas.gather(-2, index[..., None].expand(*index.shape, 4))
    decoded = decode(chosen, anchors[index], delta_weights)
    boxes = clip_boxes_to_image(decoded, (image_size[0], image_size[1]))
    return BestOfLevel(index, best, decoded, boxes)


class ProposalSelector:
    """From the scores and deltas of every anchor of an image to a short list of boxes.

    The best anchors of each level go on (`pre_nms_top_k`), and only they are decoded;
    boxes are clipped to the image; tiny and improbable ones are dropped; NMS runs on
    each level by itself; the best of all levels remain (`post_nms_top_k`). Of equal
    scores the earlier anchor comes first, and the earlier level. The order is that of
    the logits: very high ones differ still where their probabilities have become equal.

    Args:
        pre_nms_top_k: anchors of each level that NMS sees.
        post_nms_top_k: proposals of an image.
        iou_threshold: the largest IoU that two proposals of a level may have.
        score_threshold: least probability of an object, from 0 to 1.
        min_size: least width and height, pixels, after clipping.

    Raises:
        SettingError: a setting out of range.

    >>> select = ProposalSelector(post_nms_top_k=1)
    >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [8.0, 8.0, 30.0, 30.0]])
    >>> select([torch.tensor([0.0, 2.0])], [torch.zeros(2, 4)], [anchors], (20, 20))
    Proposals(boxes=tensor([[ 8.,  8., 20., 20.]]), scores=tensor([0.8808]))
    """

    def __init__(
        self,
        pre_nms_top_k: int = 2000,
        post_nms_top_k: int = 1000,
        iou_threshold: float = 0.7,
        score_threshold: float = 0.0,
        min_size: float = 1e-3,
    ) -> None:
        _check_threshold(iou_threshold)
        if pre_nms_top_k < 1 or post_nms_top_k < 1:
            raise SettingError(
                f"pre_nms_top_k={pre_nms_top_k} and post_nms_top_k={post_nms_top_k} "
                "must be 1 or more."
            )
        if not 0 <= score_threshold <= 1 or not min_size >= 0:
            raise SettingError(
                f"score_threshold={score_threshold} must be between 0 and 1, "
                f"min_size={min_size} 0 or more."
            )
        self.pre_nms_top_k = pre_nms_top_k
        self.post_nms_top_k = post_nms_top_k
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.min_size = min_size

    @torch.no_grad()
    def __call__(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        image_size: Sequence[int],
        delta_weights: Sequence[float] = (1, 1, 1, 1),
    ) -> Proposals:
        """Select the proposals of one image.

        Args:
            logits: for each level `(N,)`: score of object minus score of background.
            deltas: for each level `(N, 4)`.
            anchors: for each level `(N, 4)`, xyxy, pixels.
            image_size: `(height, width)`, pixels, without padding.
            delta_weights: see `rpn_lib.transforms.encode`.

        Returns:
            boxes and probabilities, best first, without gradients.

        Raises:
            BoxError: lists that do not fit together.
        """
        lengths = [[len(level) for level in x] for x in (logits, deltas, anchors)]
        if not lengths[0] or lengths[1:] != [lengths[0]] * 2:
            raise BoxError(
                "logits, deltas and anchors must have the same levels, of the same "
                f"lengths, not {lengths[0]}, {lengths[1]} and {lengths[2]}."
            )
        boxes, scores = [], []
        for logit, delta, anchor in zip(logits, deltas, anchors):
            best = candidates(
                logit, delta, anchor, image_size, self.pre_nms_top_k, delta_weights
            )
            keep = self.usable(best.boxes, best.logits).nonzero()[:, 0]
            boxes.append(best.boxes[keep])
            scores.append(best.logits[keep])
        kept = nms_by_level(boxes, scores, self.iou_threshold, self.post_nms_top_k)
        return Proposals(torch.cat(boxes)[kept], torch.cat(scores)[kept].sigmoid())

    def usable(self, boxes: Tensor, logits: Tensor) -> Tensor:
        """Which boxes `(..., 4)` are large and likely enough; NaN is neither."""
        sides = boxes[..., 2:] - boxes[..., :2]
        large = (sides >= self.min_size).all(dim=-1)
        return large & (logits.sigmoid() >= self.score_threshold)


def _check_threshold(iou_threshold: float) -> None:
    if not 0 <= iou_threshold <= 1:
        raise SettingError(f"iou_threshold={iou_threshold} must be between 0 and 1.")
