"""What is measured: the proposals and the true boxes of images, checked.

Users come with `Proposals` of this library, with tensors, arrays or lists, and with the
dictionaries of torchvision's detectors. All become tensors here, and what cannot be
measured is refused by name.

Dimension letters: K proposals; G true boxes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rpn_lib.boxes import check_boxes
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.nms import Proposals

# Boxes (N, 4): a tensor, a numpy array, a list, or a dictionary that has them.
Boxes: TypeAlias = Any
# Boxes (K, 4), perhaps with scores (K,).
Predicted: TypeAlias = Proposals | Boxes


class MeasuredImage(NamedTuple):
    """The proposals and true boxes of one image, on the CPU, without gradients.

    Attributes:
        boxes: `(K, 4)`, xyxy, pixels, best first.
        scores: `(K,)`, or `None` where none were given.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        crowd: `(G,)`, bool.
    """

    boxes: Tensor
    scores: Tensor | None
    gt_boxes: Tensor
    crowd: Tensor


def measured_images(
    proposals: Sequence[Predicted],
    gt_boxes: Sequence[Boxes],
    crowd: Sequence[Tensor | Sequence[bool]] | None = None,
) -> Iterator[MeasuredImage]:
    """Each image's proposals and true boxes, as tensors.

    Args:
        proposals: for each image its boxes, best first; see
            `rpn_lib.evaluation.evaluate`.
        gt_boxes: for each image its true boxes.
        crowd: for each image G flags.

    Raises:
        BoxError: what cannot be measured; the message names the image.

    >>> image, = measured_images([[[0, 0, 10, 10]]], [{"boxes": [[0, 0, 9, 9]]}])
    >>> image.boxes.shape, image.scores, image.crowd
    (torch.Size([1, 4]), None, tensor([False]))
    """
    _check_lengths(len(proposals), len(gt_boxes), crowd)
    for i, (predicted, true) in enumerate(zip(proposals, gt_boxes)):
        boxes, scores = _predicted(predicted, f"image {i}")
        where = f"image {i}, true boxes"
        gt = check_boxes(_boxes(true, where), where=where)
        gt = gt.detach().cpu()
        flags = torch.zeros(len(gt)) if crowd is None else torch.as_tensor(crowd[i])
        if flags.shape != gt.shape[:1]:
            raise BoxError(
                f"image {i}: crowd flags of shape {tuple(flags.shape)} for {len(gt)} "
                "true boxes; give one for each box."
            )
        yield MeasuredImage(boxes, scores, gt, flags.cpu().bool())


def check_k(k: int) -> None:
    """Refuse a number of proposals below 1, as a SettingError."""
    if k < 1:
        raise SettingError(f"k={k}: give a number of proposals, and k of 1 or more.")


def _check_lengths(num_proposals: int, num_gt: int, crowd: Any) -> None:
    if num_proposals != num_gt:
        raise BoxError(
            f"proposals of {num_proposals} images, true boxes of {num_gt}; give both "
            "for each image."
        )
    if crowd is not None and len(crowd) != num_gt:
        raise BoxError(
            f"crowd flags of {len(crowd)} images, true boxes of {num_gt}; give both "
            "for each image, or no crowd flags at all."
        )


def _predicted(given: Predicted, where: str) -> tuple[Tensor, Tensor | None]:
    """Boxes (K, 4) and scores (K,), if there are any, in order."""
    if isinstance(given, Proposals):
        given = given._asdict()
    boxes = _boxes(given, f"{where}, proposals").detach().cpu()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.isfinite().all():
        raise BoxError(
            f"{where}: proposals of shape {tuple(boxes.shape)} must be (number of "
            "proposals, 4), (0, 4) where there are none, and finite."
        )
    if not isinstance(given, Mapping) or "scores" not in given:
        return boxes, None
    scores = _tensor(given["scores"], f"{where}, scores").detach().cpu()
    if scores.shape != boxes.shape[:1]:
        raise BoxError(
            f"{where}: scores of shape {tuple(scores.shape)} for {len(boxes)} "
            "proposals."
        )
    if scores.isnan().any():
        number = int(scores.isnan().nonzero()[0])
        raise BoxError(
            f"{where}: the score of proposal {number} is NaN, and has no place in an "
            "order; leave that proposal out."
        )
    if not (scores[:-1] >= scores[1:]).all():
        raise BoxError(
            f"{where}: scores are not in descending order. Proposals must come best "
            "first: sort both with scores.argsort(descending=True)."
        )
    return boxes, scores


def _boxes(given: Boxes, where: str) -> Tensor:
    """Boxes as a tensor; an empty list is no box."""
    if isinstance(given, Mapping):
        if "boxes" not in given:
            keys = ", ".join(map(str, given))
            raise BoxError(f"{where}: a dictionary without 'boxes'; it has {keys}.")
        given = given["boxes"]
    boxes = _tensor(given, where, "boxes")
    return boxes.reshape(0, 4) if boxes.shape == (0,) else boxes


def _tensor(given: Any, where: str, what: str = "scores") -> Tensor:
    if isinstance(given, Sequence) and given and isinstance(given[0], Tensor):
        return torch.stack([*given])
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(given).__name__
        raise BoxError(
            f"{where}: a {kind} cannot be read as {what} ({error}). Give tensors, "
            "arrays or lists, boxes (N, 4) and scores (N,), or a dictionary of both."
        ) from error
