"""Anchor shapes that suit a data set: clusters of its objects' widths and heights.

Dimension letters: G objects of an image; T objects of all images; K, M numbers of
shapes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rpn_lib.boxes import box_iou, check_boxes
from rpn_lib.errors import BoxError, SettingError

# The clusters of a few thousand objects settle in 10 to 50 steps.
MAX_STEPS = 100


def concentric_iou(shapes1: Tensor, shapes2: Tensor) -> Tensor:
    """IoU of every pair of shapes, both laid on the same centre.

    Boxes of these shapes have this IoU at most, wherever they are.

    Args:
        shapes1: `(K, 2)`, widths and heights above 0, pixels.
        shapes2: `(M, 2)`, the same.

    Returns:
        `(K, M)`, above 0 and at most 1.

    >>> a = torch.tensor([[64.0, 64.0]])
    >>> concentric_iou(a, torch.tensor([[128.0, 128.0], [128.0, 32.0]]))
    tensor([[0.2500, 0.3333]])
    """
    around_origin = (
        torch.cat([-shape, shape], dim=-1) / 2 for shape in (shapes1, shapes2)
    )
    return box_iou(*around_origin)


def suggest_shapes(
    gt_boxes: Tensor | Sequence[Tensor],
    num_shapes: int,
    *,
    seed: int = 0,
    restarts: int = 10,
) -> Tensor:
    """Anchor shapes that suit the objects of a data set.

    The objects' shapes are put into clusters by k-means with the distance `1 - IoU` of
    concentric boxes, as in YOLOv2 (Redmon and Farhadi, *YOLO9000: Better, Faster,
    Stronger*, 2017, section 2); a suggestion is the mean shape of a cluster. Positions
    and the stride play no part: `rpn_lib.coverage` tells how much they cost. A few
    thousand objects take a fraction of a second; of a very large data set give a
    sample.

    Args:
        gt_boxes: for each image `(G, 4)`, xyxy, pixels; or those of all images in one
            tensor.
        num_shapes: number of shapes (K), 1 or more.
        seed: where the clusters start; the same seed gives the same shapes.
        restarts: how often to start anew, 1 or more; the best result is taken.

    Returns:
        `(K, 2)`, widths and heights, pixels, float32, the smallest area first. For L
        levels with the same number of shapes each: `shapes.reshape(L, -1, 2)`.

    Raises:
        BoxError: a box without area, or no box at all.
        SettingError: `num_shapes` or `restarts` below 1; fewer different shapes in the
            data than shall be found.

    >>> boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 25], [0, 0, 80, 40]])
    >>> shapes = suggest_shapes([boxes], num_shapes=2)
    >>> shapes
    tensor([[10., 20.],
            [80., 40.]])
    >>> from rpn_lib.anchors import AnchorGenerator
    >>> generator = AnchorGenerator(shapes=[shapes.tolist()], strides=[16])
    """
    if num_shapes < 1 or restarts < 1:
        raise SettingError(
            f"num_shapes={num_shapes} and restarts={restarts} must be 1 or more."
        )
    if isinstance(gt_boxes, Tensor):
        boxes = check_boxes(gt_boxes, where="gt_boxes").cpu()
    else:
        checked = [
            check_boxes(boxes, where=f"image {i}").cpu()
            for i, boxes in enumerate(gt_boxes)
        ]
        boxes = torch.cat([torch.zeros(0, 4), *checked])
    sides = (boxes[:, 2:] - boxes[:, :2]).double()  # (T, 2)
    different = len(set(map(tuple, sides.tolist())))
    if not different:
        raise BoxError(
            f"num_shapes is {num_shapes}, but there is no object to take a shape from."
        )
    if different < num_shapes:
        raise SettingError(
            f"num_shapes is {num_shapes}, but the data has only {different} different "
            f"shape{'s' * (different > 1)}, in {len(sides):,} "
            f"object{'s' * (len(sides) > 1)}. Ask for {different} at most."
        )
    generator = torch.Generator().manual_seed(seed)
    results = [
        _lloyd(sides, _spread(sides, num_shapes, generator)) for _ in range(restarts)
    ]
    _, shapes = max(results, key=lambda result: result[0])
    return shapes[shapes.prod(dim=-1).argsort(stable=True)].float()


def _spread(sides: Tensor, num_shapes: int, generator: torch.Generator) -> Tensor:
    """Starting points (K, 2), as in k-means++: drawn far from those drawn before."""
    weight = torch.ones(len(sides), dtype=sides.dtype)
    distance = torch.ones_like(weight)
    chosen: list[Tensor] = []
    while len(chosen) < num_shapes:
        # By hand: what torch.multinomial draws depends on torch's version.
        place = torch.rand(1, dtype=weight.dtype, generator=generator) * weight.sum()
        drawn = torch.searchsorted(weight.cumsum(dim=0), place, right=True)
        chosen.append(sides[drawn.clamp(max=len(sides) - 1)])
        iou = concentric_iou(sides, chosen[-1])[:, 0]
        distance = distance.minimum((1 - iou).clamp(min=0))
        weight = distance**2
    return torch.cat(chosen)


def _lloyd(sides: Tensor, shapes: Tensor) -> tuple[float, Tensor]:
    """Mean IoU of the objects with their nearest shape, and the shapes (K, 2).

    In turn, each object goes to its nearest shape, and each shape to the mean of its
    objects, until nothing moves.
    """
    for _ in range(MAX_STEPS):
        iou, nearest = concentric_iou(sides, shapes).max(dim=1)  # (T,)
        count = nearest.bincount(minlength=len(shapes))  # (K,)
        moved = torch.zeros_like(shapes).index_add(0, nearest, sides) / count[:, None]
        # A shape without objects starts anew at the one that fits worst.
        empty = count == 0
        moved[empty] = sides[iou.argsort(stable=True)[: int(empty.sum())]]
        if torch.equal(moved, shapes):
            break
        shapes = moved
    return float(concentric_iou(sides, shapes).amax(dim=1).mean()), shapes
