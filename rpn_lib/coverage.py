"""Coverage: how well do the anchors fit the objects of a data set, before any training?

`coverage` finds the best anchor of every object and, where that is not good enough,
tells the two reasons apart: no anchor has a fitting shape, or the stride is too coarse
for a fitting one to lie close by. `rpn_lib.shapes` finds shapes that suit the data.

Dimension letters: I images; G objects of an image; T objects of all images; L levels; N
anchors of an image.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.boxes import box_area, check_boxes, paired_iou
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.shapes import concentric_iou

# The columns of the table, and its rows: COCO calls an object small below an area of
# 32 x 32 pixels, large above 96 x 96.
THRESHOLDS = (0.5, 0.7)
SIZE_EDGES = (32.0, 96.0)

LEGEND = (
    "shapes: lost because no anchor has a shape that fits; stride: lost because an\n"
    "anchor of such a shape is too far from the object."
)


class Unreached(NamedTuple):
    """An object that no anchor overlaps enough.

    Attributes:
        image_index: its image, from 0.
        object_index: its number within the image, from 0.
        box: `(x1, y1, x2, y2)`, pixels.
        best_iou: IoU with its best anchor.
        shape_iou: IoU with the best shape, if an anchor of it lay on the object's
            centre.
        anchor_shape: `(width, height)` of its best anchor, pixels.
    """

    image_index: int
    object_index: int
    box: tuple[float, ...]
    best_iou: float
    shape_iou: float
    anchor_shape: tuple[float, ...]


class Coverage(NamedTuple):
    """What `coverage` finds out about T objects in I images; `print` shows a table.

    All tensors are on the CPU; objects are in order of their images.

    Attributes:
        boxes: `(T, 4)`, xyxy, pixels: the objects.
        image_index: `(T,)`, int64: the image of each object, from 0.
        object_index: `(T,)`, int64: its number within the image, from 0.
        best_iou: `(T,)`, float32: its highest IoU with any anchor.
        best_anchor: `(T, 4)`, xyxy, pixels: an anchor that has this IoU.
        shape_iou: `(T,)`, float32: the highest IoU with any shape, if an anchor of it
            lay on the object's centre; `best_iou` or more.
        num_anchors: `(I,)`, int64: anchors of each image (N), all levels together.
    """

    boxes: Tensor
    image_index: Tensor
    object_index: Tensor
    best_iou: Tensor
    best_anchor: Tensor
    shape_iou: Tensor
    num_anchors: Tensor

    def recall(self, iou: float) -> float:
        """Share of the objects that have an anchor of this IoU or more.

        At 0.7 it is the share that the threshold of training gives an anchor; the
        others learn from their best anchor alone.

        Args:
            iou: the least IoU, above 0 and at most 1.

        Returns:
            from 0 to 1; NaN where there is no object.

        Raises:
            SettingError: `iou` out of range.
        """
        return _share(self.best_iou, iou)

    def shape_recall(self, iou: float) -> float:
        """The same, if anchors of every shape lay on every object's centre.

        No stride brings `recall` above it. What it lacks to 1 is lost to the shapes,
        and what `recall` lacks to it is lost to the stride.

        Args:
            iou: the least IoU, above 0 and at most 1.

        Returns:
            from `recall(iou)` to 1; NaN where there is no object.

        Raises:
            SettingError: `iou` out of range.
        """
        return _share(self.shape_iou, iou)

    def unreachable(self, iou: float = 0.5) -> list[Unreached]:
        """The objects that have no anchor of this IoU or more, the worst first.

        Args:
            iou: the least IoU, above 0 and at most 1.

        Raises:
            SettingError: `iou` out of range.
        """
        _check_iou(iou)
        order = self.best_iou.argsort(stable=True)
        order = order[self.best_iou[order] < iou]
        sides = self.best_anchor[:, 2:] - self.best_anchor[:, :2]
        columns = [*self[:4], self.shape_iou, sides]  # without the anchors
        return [
            Unreached(image, number, tuple(box), best, bound, tuple(shape))
            for box, image, number, best, bound, shape in zip(
                *(column[order].tolist() for column in columns)
            )
        ]

    def histogram(self, num_bins: int = 10) -> Tensor:
        """Number of objects by their best IoU, in equal steps from 0 to 1.

        Args:
            num_bins: number of steps, 1 or more.

        Returns:
            `(num_bins,)`, int64. Step i holds the IoUs from `i / num_bins` to below
            `(i + 1) / num_bins`; the last one holds 1 as well.

        Raises:
            SettingError: `num_bins` below 1.
        """
        if num_bins < 1:
            raise SettingError(f"num_bins is {num_bins}; it must be 1 or more.")
        step = (self.best_iou * num_bins).long().clamp(max=num_bins - 1)
        return step.bincount(minlength=num_bins)

    def by_size(self, size_edges: Sequence[float] = SIZE_EDGES) -> list["Coverage"]:
        """The coverage of small, medium and large objects, each apart.

        Args:
            size_edges: E sizes that separate the groups, in pixels, ascending. The
                size of an object is `sqrt(width * height)`; one of exactly this size is
                in the group of the larger ones.

        Returns:
            E + 1 coverages, the smallest objects first.

        Raises:
            SettingError: sizes that are not positive or not in ascending order.
        """
        edges = torch.as_tensor(size_edges, dtype=torch.float64)
        if edges.ndim != 1 or not (edges.diff(prepend=torch.zeros(1)) > 0).all():
            raise SettingError(
                "size_edges must be positive numbers in ascending order, not "
                f"{size_edges!r}."
            )
        size = box_area(self.boxes.double()).sqrt()
        group = torch.bucketize(size, edges, right=True)
        return [
            Coverage._make([*(x[group == i] for x in self[:-1]), self.num_anchors])
            for i in range(len(edges) + 1)
        ]

    def table(self, size_edges: Sequence[float] = SIZE_EDGES) -> str:
        """Text for reading: what is covered at IoU 0.5 and 0.7, by size of the object.

        Args:
            size_edges: see `by_size`.

        Raises:
            SettingError: sizes that are not positive or not in ascending order.
        """
        rows = list(zip(_size_names(size_edges), self.by_size(size_edges)))
        title = (
            f"{_count(len(self.boxes), 'object')} in "
            f"{_count(len(self.num_anchors), 'image')}"
        )
        if len(self.num_anchors):
            least, most = (int(n) for n in self.num_anchors.aminmax())
            span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            title += f", {span} anchors an image"
        if not len(self.boxes):
            return f"{title}\nThere is no object to cover."
        columns = f"{'covered':>10}{'shapes':>8}{'stride':>8}" * len(THRESHOLDS)
        lines = [
            title,
            " " * 24 + "".join(f"{f'IoU {iou:g} or more':>26}" for iou in THRESHOLDS),
            f"{'size':<15}{'objects':>9}{columns}",
        ]
        for name, group in [*rows, ("all", self)]:
            line = f"{name:<15}{len(group.boxes):>9,}"
            for iou in THRESHOLDS:
                covered, bound = group.recall(iou), group.shape_recall(iou)
                shares = (covered, 1 - bound, bound - covered)
                texts = [f"{x:.0%}" if len(group.boxes) else "-" for x in shares]
                line += f"{texts[0]:>10}{texts[1]:>8}{texts[2]:>8}"
            lines.append(line)
        return "\n".join([*lines, LEGEND])

    def __str__(self) -> str:
        return self.table()


def _check_iou(iou: float) -> None:
    if not 0 < iou <= 1:
        raise SettingError(f"iou is {iou}; it must be above 0 and at most 1.")


def _share(values: Tensor, iou: float) -> float:
    _check_iou(iou)
    return float((values >= iou).double().mean())  # the mean of nothing is NaN


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _size_names(size_edges: Sequence[float]) -> list[str]:
    edges = [f"{edge:g}" for edge in size_edges]
    if not edges:
        return []
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"{edges[-1]} and up"]


def coverage(
    generator: AnchorGenerator,
    gt_boxes: Sequence[Tensor],
    image_sizes: Sequence[Sequence[int]],
    *,
    grid_sizes: Sequence[Sequence[Sequence[int]]] | None = None,
    names: Sequence[str] | None = None,
) -> Coverage:
    """Find the best anchor of every object of a data set.

    Of all anchors of one shape and level, the one whose centre is nearest to the
    object's has the highest IoU with it. So a look at one anchor per shape is enough,
    and memory grows with the number of objects alone.

    Args:
        generator: the anchors: shapes, strides and offset of each level.
        gt_boxes: for each image `(G, 4)`, xyxy, pixels; G may be 0.
        image_sizes: for each image `(height, width)`, pixels.
        grid_sizes: for each image `(H, W)` of the feature map of each level; if not
            given, height and width over stride, rounded up.
        names: what to call the images in a message, for instance their files.

    Returns:
        the best IoU of every object, its best anchor, and what the shapes alone allow.

    Raises:
        BoxError: a box without area or outside its image, a size that is not positive,
            or lists of different lengths.

    >>> generator = AnchorGenerator([128], [1], strides=[128])
    >>> boxes = torch.tensor([[32.0, 32, 96, 96], [0, 0, 128, 128], [64, 0, 192, 128]])
    >>> result = coverage(generator, [boxes], [(128, 256)])
    >>> result.best_iou, result.shape_iou
    (tensor([0.2500, 1.0000, 0.3333]), tensor([0.2500, 1.0000, 1.0000]))
    >>> print(result)
    3 objects in 1 image, 2 anchors an image
                                       IoU 0.5 or more           IoU 0.7 or more
    size             objects   covered  shapes  stride   covered  shapes  stride
    below 32               0         -       -       -         -       -       -
    32 to 96               1        0%    100%      0%        0%    100%      0%
    96 and up              2       50%      0%     50%       50%      0%     50%
    all                    3       33%     33%     33%       33%     33%     33%
    shapes: lost because no anchor has a shape that fits; stride: lost because an
    anchor of such a shape is too far from the object.
    """
    checked, grids = _checked(generator, gt_boxes, image_sizes, grid_sizes, names)
    all_boxes = torch.cat([torch.zeros(0, 4), *checked])
    per_image = torch.tensor([len(boxes) for boxes in checked], dtype=torch.long)
    image_index = torch.arange(len(checked)).repeat_interleave(per_image)
    first = per_image.cumsum(0) - per_image  # (I,)
    grid_table = torch.tensor(grids, dtype=torch.long)
    grid_table = grid_table.reshape(-1, len(generator.strides), 2)  # (I, L, 2)
    num_anchors = grid_table.prod(dim=-1) * torch.tensor(generator.num_anchors)
    return Coverage(
        all_boxes,
        image_index,
        torch.arange(len(all_boxes)) - first[image_index],
        *_best_anchors(generator, all_boxes, grid_table[image_index]),
        num_anchors.sum(dim=1),
    )


def _checked(
    generator: AnchorGenerator,
    gt_boxes: Sequence[Tensor],
    image_sizes: Sequence[Sequence[int]],
    grid_sizes: Sequence[Sequence[Sequence[int]]] | None,
    names: Sequence[str] | None,
) -> tuple[list[Tensor], list[list[list[int]]]]:
    """The boxes of each image, and the grid of each of its levels."""
    for what, given in (
        ("gt_boxes", gt_boxes),
        ("grid_sizes", grid_sizes),
        ("names", names),
    ):
        if given is not None and len(given) != len(image_sizes):
            raise BoxError(
                f"image_sizes is for {_count(len(image_sizes), 'image')}, {what} for "
                f"{len(given)}; give one entry per image. An image without objects has "
                "an empty (0, 4) tensor in gt_boxes."
            )
    checked, grids = [], []
    for i, (boxes, size) in enumerate(zip(gt_boxes, image_sizes)):
        where = f"image {i}" if names is None else f"image {i} ({names[i]})"
        if not isinstance(size, Sequence) or len(size) != 2 or min(size) <= 0:
            raise BoxError(
                f"{where}: the image size is {size!r}; it must be (height, width), "
                "both above 0."
            )
        checked.append(check_boxes(boxes, size, where=where).cpu())
        own = None if grid_sizes is None else grid_sizes[i]
        grids.append(_grids(generator, size, own, where))
    return checked, grids


def _grids(
    generator: AnchorGenerator,
    image_size: Sequence[int],
    given: Sequence[Sequence[int]] | None,
    where: str,
) -> list[list[int]]:
    """Rows and columns of the grid of each level of an image."""
    if given is None:
        return [
            [math.ceil(side / stride) for side in image_size]
            for stride in generator.strides
        ]
    if len(given) != len(generator.strides) or not all(
        isinstance(level, Sequence)
        and len(level) == 2
        and all(n >= 1 and n % 1 == 0 for n in level)
        for level in given
    ):
        raise BoxError(
            f"{where}: the grid sizes are {given!r}; they must be (rows, columns), "
            "whole numbers of 1 or more, for each of "
            f"{_count(len(generator.strides), 'level')}."
        )
    return [list(level) for level in given]


def _best_anchors(
    generator: AnchorGenerator, boxes: Tensor, grids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Best IoU (T,), its anchor (T, 4) and best IoU of a shape (T,).

    The grids are (T, L, 2), rows and columns. A shape that slides along x shares less
    of the object the further their centres are apart, and the same holds along y, so
    the nearest centre is the best. One look per shape then replaces the N anchors.
    """
    best_iou, shape_iou = boxes.new_full((2, len(boxes)), -1)
    best_anchor = torch.zeros_like(boxes)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2  # (T, 2), x and y
    sides = boxes[:, 2:] - boxes[:, :2]
    for level, (shapes, stride) in enumerate(zip(generator.levels, generator.strides)):
        last = grids[:, level].flip(-1) - 1  # (T, 2), column and row
        cell = (middle / stride - generator.offset).round()
        cell = torch.minimum(cell.clamp(min=0), last)
        centre = (cell + generator.offset) * stride
        for shape in shapes.cpu():
            anchors = torch.cat([centre - shape / 2, centre + shape / 2], dim=1)
            iou = paired_iou(anchors, boxes)
            better = iou > best_iou
            best_iou = torch.where(better, iou, best_iou)
            best_anchor = torch.where(better[:, None], anchors, best_anchor)
            shape_iou = shape_iou.maximum(concentric_iou(sides, shape[None])[:, 0])
    # Of two equal boxes, one may come out an ulp ahead.
    return best_iou, best_anchor, shape_iou.maximum(best_iou)
