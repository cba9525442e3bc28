"""Average precision of proposals, by torchmetrics.

Recall asks whether the objects are found. Precision asks, besides, that what is found
scores higher than what is no object.

Dimension letters: K proposals; G true boxes; T IoU thresholds.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rpn_lib.errors import BoxError
from rpn_lib.evaluation import IOU_THRESHOLDS
from rpn_lib.predictions import Boxes, Predicted, check_k, measured_images


def average_precision(
    proposals: Sequence[Predicted],
    gt_boxes: Sequence[Boxes],
    crowd: Sequence[Tensor | Sequence[bool]] | None = None,
    k: int = 100,
) -> dict[str, float]:
    """COCO's average precision (AP) of proposals, whatever their class.

    It asks, besides, that proposals on objects score higher than those on background.
    It is computed by torchmetrics, around three of its traps: its argument
    `max_detection_thresholds` must hold exactly three numbers; its `map` is -1 unless
    100 is among them; its thresholds are rounded to float32, so that an IoU of exactly
    0.55 misses the threshold 0.55.

    Args:
        proposals: for each image its boxes with scores, best first; see `evaluate`.
        gt_boxes: for each image `(G, 4)`, xyxy, pixels.
        crowd: for each image G flags, see `evaluate`. A proposal that lies in a crowd
            by the threshold's share of its own area is not counted as wrong.
        k: how many proposals of an image count, 1 or more.

    Returns:
        `AP`, `AP50`, `AP75` (at IoU 0.5 and 0.75), `AP small`, `AP medium`, `AP large`,
        each from 0 to 1; NaN where there is no such object.

    Raises:
        BoxError: as `evaluate`; boxes without scores.
        SettingError: `k` < 1.

    >>> gt = [torch.tensor([[0.0, 0, 10, 10]])]
    >>> boxes = torch.tensor([[50.0, 0, 60, 10], [0, 0, 10, 10]])
    >>> proposals = [{"boxes": boxes, "scores": torch.tensor([0.9, 0.8])}]
    >>> average_precision(proposals, gt)["AP50"]
    0.5
    """
    check_k(k)
    from torchmetrics.detection import MeanAveragePrecision  # takes a second or more

    metric = MeanAveragePrecision(
        iou_thresholds=list(IOU_THRESHOLDS),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
        max_detection_thresholds=[1, 10, max(k, 100)],
        extended_summary=True,  # gives precision for each of the three
    )
    count = 0
    for i, image in enumerate(measured_images(proposals, gt_boxes, crowd)):
        if image.scores is None:
            raise BoxError(f"image {i}: precision needs Proposals, boxes with scores.")
        # In float64 the widths of float32 boxes are exact, as in pycocotools.
        boxes, gt = image.boxes[:k].double(), image.gt_boxes.double()
        detected = {"boxes": boxes, "scores": image.scores[:k].double()}
        true = {"boxes": gt, "iscrowd": image.crowd.long()}
        for part in (detected, true):  # one class for all
            part["labels"] = torch.zeros(len(part["boxes"]), dtype=torch.int64)
        metric.update([detected], [true])
        count += len(image.gt_boxes)
    names = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
    if not count:  # torchmetrics knows no class then
        return dict.fromkeys(names, float("nan"))
    # Thresholds, recalls, class, areas (all, small, medium, large), numbers.
    precision = metric.compute()["precision"][:, :, 0, :, -1]  # (T, 101, 4)
    parts = [precision[..., 0], precision[0, :, 0], precision[5, :, 0]]
    parts += [precision[..., i] for i in (1, 2, 3)]
    means = (float(part.mean()) for part in parts)
    return {name: m if m >= 0 else float("nan") for name, m in zip(names, means)}
