"""Boxes: area, intersection over union, and the check that every ground truth passes.

A box is `(x1, y1, x2, y2)` in pixels: x to the right, y down, float32, no +1. A box
that covers the first pixel of an image is `(0, 0, 1, 1)`. Other formats are converted
at the edge of the program with `torchvision.ops.box_convert`.

Dimension letters: N, M numbers of boxes; 4 the coordinates `x1, y1, x2, y2`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rpn_lib.box_faults import BoxFault, box_fault
from rpn_lib.errors import BoxError


def upcast(boxes: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 if they come in it.

    The area of a box of 300 x 250 pixels is more than float16 can hold, that of 20 x 20
    more than uint8 can; so nothing is computed in the type of the coordinates.

    >>> upcast(torch.tensor([3, 4], dtype=torch.uint8))
    tensor([3., 4.])
    """
    return boxes if boxes.dtype == torch.float64 else boxes.float()


def box_area(boxes: Tensor) -> Tensor:
    """Area of each box, `(x2 - x1) * (y2 - y1)`.

    Args:
        boxes: `(..., 4)`, xyxy, pixels, of any type of number.

    Returns:
        `(...)`, square pixels, float32; float64 for boxes in float64.

    >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0]]))
    tensor([12.])
    """
    boxes = upcast(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Area that each box of one set shares with each box of another.

    Args:
        boxes1: `(N, 4)`, xyxy, pixels, of any type of number.
        boxes2: `(M, 4)`, the same.

    Returns:
        `(N, M)`, square pixels, 0 where two boxes are apart or only touch; float32, or
        float64 where boxes are.

    >>> a = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    >>> box_intersection(a, torch.tensor([[2.0, 3.0, 9.0, 9.0]]))
    tensor([[2.]])
    """
    return _intersection(boxes1[:, None], boxes2[None])


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union (IoU, the Jaccard index) of every pair of boxes.

    Two boxes without area have no union; their IoU is 0 here, never NaN.

    Args:
        boxes1: `(N, 4)`, xyxy, pixels, of any type of number.
        boxes2: `(M, 4)`, the same.

    Returns:
        `(N, M)`, from 0 (apart) to 1 (the same box); float32, or float64 where boxes
        are.

    >>> a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> box_iou(a, torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]))
    tensor([[0.3333, 0.0000]])
    """
    return paired_iou(boxes1[:, None], boxes2[None])  # (N, 1, 4) and (1, M, 4)


def paired_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of each box with the one in the same place.

    Args:
        boxes1: `(..., 4)`, xyxy, pixels, of any type of number.
        boxes2: `(..., 4)`, a shape that broadcasts with the first.

    Returns:
        `(...)`, from 0 to 1; float32, or float64 where boxes are.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    >>> paired_iou(boxes, boxes + torch.tensor([1.0, 0.0, 1.0, 0.0]))
    tensor([0.3333, 0.3333])
    """
    intersection = _intersection(boxes1, boxes2)
    union = box_area(boxes1) + box_area(boxes2) - intersection
    # Where there is no union, 0 / 1: neither the value nor its gradient is NaN.
    return intersection / torch.where(union > 0, union, 1.0)


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    boxes1, boxes2 = upcast(boxes1), upcast(boxes2)
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    return (bottom_right - top_left).clamp(min=0).prod(dim=-1)


def above_zero(area: Tensor) -> Tensor:
    """In place of an area of 0 the smallest number: then no union is 0, either.

    Two areas and what they share are rounded so that a union is never smaller than the
    larger of the two; so a shared area of 0 stays 0, and no IoU changes.

    Args:
        area: square pixels, of any shape; changed in place.

    >>> above_zero(torch.zeros(1)) > 0
    tensor([True])
    """
    limits = torch.finfo(area.dtype)
    return area.clamp_(min=limits.tiny * limits.eps)


def check_boxes(
    boxes: Tensor | Sequence[Sequence[float]],
    image_size: Sequence[int] | None = None,
    *,
    where: str = "boxes",
) -> Tensor:
    """Ground-truth boxes as a float32 tensor, or an error that says which one is wrong.

    Zero-size boxes and coordinates in another format are the most frequent cause of a
    loss that turns NaN; they are cheaper to refuse here than to find there.

    Args:
        boxes: `(N, 4)`, xyxy, pixels; N may be 0. Anything that `torch.as_tensor`
            takes.
        image_size: `(height, width)` of the image, pixels; `None` leaves the borders
            unchecked.
        where: what to call these boxes in a message: `"image 3 (cells/0003.jpg)"`.

    Returns:
        `(N, 4)`, float32, xyxy, pixels.

    Raises:
        BoxError: wrong shape; NaN or infinite; `x2 <= x1` or `y2 <= y1`; outside the
            image.

    >>> check_boxes([[10, 20, 50, 80]], (100, 100))
    tensor([[10., 20., 50., 80.]])
    >>> check_boxes([[10, 20, 5, 8]], where="image 3")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.BoxError: image 3, box 0 [10, 20, 5, 8]: x2 < x1. Boxes are (x1, ...
    """
    try:
        boxes = torch.as_tensor(boxes, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BoxError(
            f"{where}: boxes cannot be made a tensor of numbers ({error}). Give four "
            "numbers for each box, and an empty (0, 4) tensor where there is none."
        ) from error
    if boxes.numel() == 0 and boxes.shape in ((0,), (0, 4), (1, 0)):
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise BoxError(
            f"{where}: boxes have shape {tuple(boxes.shape)}; they must be (number of "
            "boxes, 4), and (0, 4) where there are none."
        )
    # None is at fault if all sides have length and the frame around all has no fault.
    corners = boxes[:, :2], boxes[:, 2:]
    frame = torch.cat([corners[0].amin(dim=0), corners[1].amax(dim=0)])
    if not (corners[0] < corners[1]).all() or box_fault(frame.tolist(), image_size):
        for index, box in enumerate(boxes.tolist()):
            if fault := box_fault(box, image_size):
                said = _explain(box, fault, image_size)
                raise BoxError(f"{where}, box {index} {said}")
    return boxes


def _explain(
    box: list[float], fault: BoxFault, image_size: Sequence[float] | None
) -> str:
    text = "[" + ", ".join(f"{value:g}" for value in box) + "]: "
    if fault.kind == "not finite":
        return text + "a coordinate is not a finite number. Look for a missing value."
    if fault.kind == "swapped":
        return text + (
            f"{fault.along}2 < {fault.along}1. Boxes are (x1, y1, x2, y2); if "
            "these are (x, y, width, height), convert them with "
            'torchvision.ops.box_convert(boxes, "xywh", "xyxy").'
        )
    if fault.kind == "zero":
        return text + (
            f"{fault.side} is zero. Drop the box; if its "
            "coordinates count pixels from 1 and include the last one, as in Pascal "
            "VOC, subtract 1 from x1 and y1."
        )
    assert image_size is not None  # without it, none is outside
    height, width = image_size
    return text + (
        f"reaches outside the image, which is {width:g} wide and {height:g} high. "
        "Clip it with torchvision.ops.clip_boxes_to_image, or resize boxes and image "
        "together."
    )
