"""Evaluation: how many of the objects do the proposals find?

Recall is the share of true boxes that some proposal overlaps well enough. It is counted
as in COCO: proposals, best first, each take the free true box that they overlap most,
so that one proposal never counts for two objects. Average recall (AR) is its mean over
IoU thresholds from 0.5 to 0.95. AR@100 looks at the first 100 proposals of an image.

What the first k proposals take does not depend on those after them. So one pass over
all of them, which notes for every true box the rank of the proposal that took it,
answers for every k: the box is found if that rank is below k.

Dimension letters: K proposals; G true boxes; T IoU thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rpn_lib.boxes import box_area, box_iou
from rpn_lib.errors import SettingError
from rpn_lib.predictions import Boxes, Predicted, check_k, measured_images

# 0.5, 0.55, ... 0.95: the thresholds of COCO.
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

# COCO's ranges of object areas, square pixels; both ends belong to the range.
AREAS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "small": (0, 32**2),
        "medium": (32**2, 96**2),
        "large": (96**2, float("inf")),
    }
)


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
        """Recall at one of the thresholds; SettingError if it is none of them."""
        return float(self.recalls[_row(self.thresholds, iou)])


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What `evaluate` found out about a data set; `print` shows it as a table.

    >>> gt = [torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])]
    >>> result = evaluate([torch.tensor([[20.0, 0, 30, 10], [0, 0, 10, 7]])], gt)
    >>> result.recall(k=1).average, result.recall(k=2, area="small").at(0.75)
    (0.5, 0.5)
    >>> result.curve(iou=0.5)  # recall of the first proposal, and of the first two
    tensor([0.5000, 1.0000])

    Attributes:
        ranks: for `"all"` and each range of areas `(T, G)`, float: at which rank each
            true box was found, see `find_ranks`.
        thresholds: T IoU thresholds.
        num_images: how many images there are.
        num_proposals: how many proposals the image with the most of them has.
    """

    ranks: Mapping[str, Tensor]
    thresholds: tuple[float, ...]
    num_images: int
    num_proposals: int

    def recall(self, k: int = 100, area: str = "all") -> Recall:
        """Recall of the first `k` proposals of each image.

        Args:
            k: how many proposals of an image count, 1 or more.
            area: `"all"`, or which true boxes: a key of `ranks`.

        Raises:
            SettingError: `k` < 1, or an unknown area.
        """
        check_k(k)
        ranks = self._ranks(area)
        recalls = (ranks < k).sum(dim=1) / ranks.shape[1]  # 0 / 0: NaN
        return Recall(self.thresholds, recalls, ranks.shape[1])

    def curve(self, area: str = "all", iou: float | None = None) -> Tensor:
        """Recall against the number of proposals.

        Args:
            area: `"all"`, or which true boxes: a key of `ranks`.
            iou: one of the thresholds; their mean, AR, if not given.

        Returns:
            `(K,)`: for the first 1, 2, ... `num_proposals` of each image.

        Raises:
            SettingError: an unknown area, or another IoU.
        """
        ranks = self._ranks(area)
        if iou is not None:
            ranks = ranks[_row(self.thresholds, iou)]
        at = ranks[ranks.isfinite()].long()
        return at.bincount(minlength=self.num_proposals).cumsum(0) / ranks.numel()

    def table(self, ks: Sequence[int] = (10, 100, 300, 1000)) -> str:
        """AR and recall as text: a row for each kind of object, a column for each k.

        Args:
            ks: numbers of proposals, each 1 or more.

        Raises:
            SettingError: a number < 1.
        """
        rows = []
        for area in self.ranks:
            at = [self.recall(k, area) for k in ks]
            rows.append((f"AR, {area}", at[0].num_gt, [one.average for one in at]))
        for iou in (0.5, 0.75):
            if iou in self.thresholds:
                at = [self.recall(k) for k in ks]
                label = f"recall, IoU {iou}"
                rows.append((label, at[0].num_gt, [one.at(iou) for one in at]))
        lines = [
            f"images: {self.num_images}, most proposals of one: {self.num_proposals}; "
            f"AR over IoU {min(self.thresholds)} to {max(self.thresholds)}",
            f"{'':16}{'objects':>9}" + "".join(f"{f'@{k}':>8}" for k in ks),
        ]
        for label, count, values in rows:
            cells = ("-" if value != value else f"{value:.3f}" for value in values)
            lines.append(f"{label:16}{count:>9}" + "".join(f"{c:>8}" for c in cells))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__

    def _ranks(self, area: str) -> Tensor:
        if area not in self.ranks:
            raise SettingError(f"area {area!r} is none of {', '.join(self.ranks)}.")
        return self.ranks[area]


def find_ranks(
    proposals: Tensor, gt_boxes: Tensor, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> Tensor:
    """Which proposal finds each true box of an image, one proposal for one true box.

    Each proposal, best first, takes the free true box that it overlaps most; of equal
    IoUs the last, as in COCO.

    Args:
        proposals: `(K, 4)`, xyxy, pixels, best first.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        thresholds: T least IoUs, above 0 and up to 1.

    Returns:
        `(T, G)`, float: the rank of the proposal that takes the box, 0 for the best
        proposal; infinite where none does.

    Raises:
        SettingError: a threshold out of range.

    >>> gt = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]])
    >>> proposals = torch.tensor([[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 8.0]])
    >>> find_ranks(proposals, gt, thresholds=[0.5, 0.95])
    tensor([[0., 1.],
            [inf, 1.]])
    """
    _check_thresholds(thresholds)
    least = np.minimum(thresholds, 1 - 1e-10)  # as COCO: IoU 1 may be rounded
    # (K, G); the order of the true boxes is reversed, for `argmax` takes the first.
    iou = box_iou(*(b.detach().cpu().double() for b in (proposals, gt_boxes.flip(0))))
    overlap = iou.numpy()
    ranks = np.full((len(least), len(gt_boxes)), np.inf, dtype=np.float32)
    rows = np.arange(len(least))
    # A proposal below the lowest threshold everywhere can take nothing.
    for rank in np.flatnonzero(overlap.max(axis=1, initial=0) >= least.min()):
        free = np.where(np.isinf(ranks), overlap[rank], -1)  # (T, G)
        best = free.argmax(axis=1)  # (T,)
        takes = free[rows, best] >= least
        ranks[rows[takes], best[takes]] = rank
    return torch.from_numpy(ranks).flip(1)


def found(
    proposals: Tensor, gt_boxes: Tensor, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> Tensor:
    """Which true boxes of an image are found, one proposal for one true box.

    Args:
        proposals: `(K, 4)`, xyxy, pixels, best first.
        gt_boxes: `(G, 4)`, xyxy, pixels.
        thresholds: T least IoUs, above 0 and up to 1.

    Returns:
        `(T, G)`, bool.

    Raises:
        SettingError: a threshold out of range.

    >>> gt = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]])
    >>> found(torch.tensor([[0.0, 0.0, 10.0, 9.0]]), gt, thresholds=[0.5, 0.95])
    tensor([[ True, False],
            [False, False]])
    """
    return find_ranks(proposals, gt_boxes, thresholds).isfinite()


def recall(
    proposals: Sequence[Predicted],
    gt_boxes: Sequence[Boxes],
    k: int = 100,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> Recall:
    """Recall of the first `k` proposals of each image, whatever their class.

    Args:
        proposals: for each image its boxes `(K, 4)`, xyxy, pixels, best first:
            `Proposals`, a tensor, an array, a list, or a dictionary with `boxes` and
            perhaps `scores`, as torchvision's detectors give.
        gt_boxes: for each image `(G, 4)`, likewise.
        k: how many proposals of an image count, 1 or more.
        thresholds: least IoUs for a true box to count as found.

    Raises:
        BoxError: as `evaluate`.
        SettingError: as `evaluate`, or `k` < 1.

    >>> gt = [torch.tensor([[0.0, 0.0, 10.0, 10.0]])]
    >>> result = recall([torch.tensor([[0.0, 0.0, 10.0, 9.0]])], gt)
    >>> result.at(0.5), round(result.average, 2)  # IoU 0.9: found at 9 of 10 thresholds
    (1.0, 0.9)
    """
    check_k(k)
    return evaluate(proposals, gt_boxes, thresholds=thresholds, areas={}).recall(k)


def evaluate(
    proposals: Sequence[Predicted],
    gt_boxes: Sequence[Boxes],
    crowd: Sequence[Tensor | Sequence[bool]] | None = None,
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    areas: Mapping[str, tuple[float, float]] = AREAS,
) -> Evaluation:
    """Recall for every number of proposals, IoU threshold and range of object areas.

    The numbers are those of pycocotools with a single category, where an object's area
    is that of its box. (COCO's own files give the area of its outline, which is less.)

    Boxes that COCO ignores, crowds and those out of the range, only excuse proposals
    that match no other box. That raises precision (`rpn_lib.precision`), but cannot
    change recall; so they are left out here.

    Args:
        proposals: for each image its boxes `(K, 4)`, xyxy, pixels, best first:
            `Proposals`, a tensor, an array, a list, or a dictionary with `boxes` and
            perhaps `scores`, as torchvision's detectors give.
        gt_boxes: for each image `(G, 4)`, likewise.
        crowd: for each image G flags, true where a box holds a crowd of objects that
            nobody has drawn one by one; those do not count as objects.
        thresholds: T least IoUs, above 0 and up to 1.
        areas: name and least and largest area, square pixels, of kinds of objects to
            look at by themselves, besides `"all"`.

    Raises:
        BoxError: lists of different lengths; boxes that cannot be used; scores that are
            not in descending order.
        SettingError: a threshold or an area out of range.

    >>> gt = [torch.tensor([[0.0, 0, 10, 10], [50, 50, 150, 150]])]
    >>> boxes = torch.tensor([[50.0, 50, 150, 140], [0, 0, 10, 7]])
    >>> print(evaluate([boxes], gt).table(ks=[1, 10]))
    images: 1, most proposals of one: 2; AR over IoU 0.5 to 0.95
                      objects      @1     @10
    AR, all                 2   0.450   0.700
    AR, small               1   0.000   0.500
    AR, medium              0       -       -
    AR, large               1   0.900   0.900
    recall, IoU 0.5         2   0.500   1.000
    recall, IoU 0.75        2   0.500   0.500
    """
    _check_thresholds(thresholds)
    ranges = {"all": (0.0, float("inf")), **areas}
    for name, (low, high) in ranges.items():
        if not 0 <= low <= high:
            raise SettingError(f"area {name!r}: {low} to {high} is no range of areas.")
    ranks = {name: [torch.zeros(len(thresholds), 0)] for name in ranges}
    most = 0
    for image in measured_images(proposals, gt_boxes, crowd):
        most = max(most, len(image.boxes))
        gt = image.gt_boxes[~image.crowd]
        area = box_area(gt.double())
        for name, (low, high) in ranges.items():
            chosen = gt[(area >= low) & (area <= high)]
            ranks[name].append(find_ranks(image.boxes, chosen, thresholds))
    joined = {name: torch.cat(parts, dim=1) for name, parts in ranks.items()}
    return Evaluation(joined, tuple(thresholds), len(gt_boxes), most)


def _check_thresholds(thresholds: Sequence[float]) -> None:
    if not len(thresholds) or not all(0 < iou <= 1 for iou in thresholds):
        raise SettingError(
            f"thresholds {list(thresholds)} must be IoUs above 0 and up to 1, at least "
            "one."
        )


def _row(thresholds: Sequence[float], iou: float) -> int:
    for row, threshold in enumerate(thresholds):
        if abs(threshold - iou) < 1e-9:
            return row
    raise SettingError(f"IoU {iou} is none of the thresholds {list(thresholds)}.")
