"""The loss: is there an object, and how far is the anchor from it.

Cross-entropy on the two scores of the sampled anchors, plus smooth L1 on the deltas of
those that are objects, weighted with lambda (Faster R-CNN, equation 1).

Dimension letters: M sampled anchors; P of them objects.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from rpn_lib.errors import SettingError


def objectness_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy between two scores and the label.

    Args:
        scores: `(M, 2)`: background, object.
        labels: `(M,)`, int64: 0 background, above 0 object of any class. Leave out
            ignored anchors, label -1: they would count as background. (To look for
            them here would make a GPU wait in every step.)

    Returns:
        a scalar; 0, with a gradient of 0, where M is 0.

    >>> objectness_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # log(2)
    tensor(0.6931)
    """
    total = F.cross_entropy(scores.float(), (labels > 0).long(), reduction="sum")
    return total / max(len(labels), 1)


def smooth_l1(difference: Tensor, beta: float = 1.0) -> Tensor:
    """Smooth L1: a parabola near zero, a line beyond `beta` (Fast R-CNN, equation 3).

    Args:
        difference: any shape.
        beta: where the parabola ends, above 0 or 0; 0 is plain L1.

    Returns:
        the same shape: `x^2 / (2 beta)` where `|x| < beta`, else `|x| - beta / 2`.

    >>> smooth_l1(torch.tensor([0.5, -3.0]))
    tensor([0.1250, 2.5000])
    """
    size = difference.abs()
    if beta == 0:
        return size
    return torch.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def box_loss(deltas: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """Smooth L1 summed over the four deltas, then the mean over the objects.

    Args:
        deltas: `(P, 4)`, predicted.
        targets: `(P, 4)`, from `rpn_lib.transforms.encode`.
        beta: see `smooth_l1`.

    Returns:
        a scalar; 0, with a gradient of 0, where P is 0. (The mean of nothing would be
        NaN.)

    >>> box_loss(torch.tensor([[0.5, 0.0, 0.0, 3.0]]), torch.zeros(1, 4))
    tensor(2.6250)
    """
    return smooth_l1(deltas.float() - targets, beta).sum() / max(len(targets), 1)


class RPNLoss(nn.Module):
    """Both losses of an RPN.

    The sums of both losses are divided by a number, and conventions differ:

    - `"positives"`: each by what it sums over, the anchors sampled and those of them
      that are objects. Both losses are means.
    - `"sampled"`: both by the number of anchors sampled (torchvision; detectron2, too,
      but it counts 256 for an image that has fewer).
    - `"paper"`: objectness by the number sampled, N_cls, boxes by the number of cells
      of the feature maps, N_reg. With 256 and about 2,400 the paper's `lambda_` of 10
      gives both about the same weight.

    Args:
        lambda_: weight of the box loss, 0 or more.
        beta: see `smooth_l1`.
        normalizer: `"positives"`, `"sampled"` or `"paper"`.
        box: `"smooth_l1"` on deltas, or `"giou"` on boxes (Rezatofighi et al. 2019):
            1 minus the generalised IoU of the predicted box and the true one.

    Raises:
        SettingError: a negative setting, or an unknown name.

    >>> scores, labels = torch.zeros(2, 2), torch.tensor([1, 0])
    >>> losses = RPNLoss()(scores, labels, torch.full((1, 4), 0.5), torch.zeros(1, 4))
    >>> {name: round(loss.item(), 4) for name, loss in losses.items()}
    {'objectness': 0.6931, 'box': 0.5}
    """

    def __init__(
        self,
        lambda_: float = 1.0,
        beta: float = 1.0,
        normalizer: Literal["positives", "sampled", "paper"] = "positives",
        box: Literal["smooth_l1", "giou"] = "smooth_l1",
    ) -> None:
        super().__init__()
        if not (0 <= lambda_ < math.inf and 0 <= beta < math.inf):
            raise SettingError(f"lambda_={lambda_} and beta={beta} must be 0 or more.")
        if normalizer not in ("positives", "sampled", "paper"):
            raise SettingError(
                f'normalizer is "positives", "sampled" or "paper", not {normalizer!r}.'
            )
        if box not in ("smooth_l1", "giou"):
            raise SettingError(f'box is "smooth_l1" or "giou", not {box!r}.')
        self.lambda_ = lambda_
        self.beta = beta
        self.normalizer = normalizer
        self.box = box

    def forward(
        self,
        scores: Tensor,
        labels: Tensor,
        predicted: Tensor,
        targets: Tensor,
        num_cells: int = 1,
        counts: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of the sampled anchors of a batch.

        Args:
            scores: `(M, 2)`: background, object.
            labels: `(M,)`: 0 background, above 0 object.
            predicted: `(P, 4)`, of the objects only: deltas, for `"giou"` boxes.
            targets: `(P, 4)`, what they should be.
            num_cells: cells of the feature maps of the batch, for `"paper"`.
            counts: `(3,)`, numbers of anchors sampled, of objects among them and of
                cells to divide by, in place of those of this batch. Where several
                processes share a batch, the mean of their numbers makes the mean of
                their losses that of the whole batch.

        Returns:
            `objectness` and `box`, the latter times `lambda_`; their sum is the loss to
            minimise.
        """
        if self.box == "giou":
            total = generalized_box_iou_loss(
                predicted.float(), targets, reduction="sum"
            )
        else:
            total = smooth_l1(predicted.float() - targets, self.beta).sum()
        own = (len(labels), len(targets), num_cells)
        divide_by = {"sampled": 0, "positives": 1, "paper": 2}[self.normalizer]
        objectness = objectness_loss(scores, labels)
        if counts is None:
            box = total / max(own[divide_by], 1)
        else:
            counts = counts.clamp(min=1e-9)  # where it is 0, so is the sum
            objectness = objectness * (own[0] / counts[0])
            box = total / counts[divide_by]
        return {"objectness": objectness, "box": self.lambda_ * box}
