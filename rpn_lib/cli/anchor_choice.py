"""The anchors of a run: chosen to fit its training objects unless some are given."""

from dataclasses import replace

import torch

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.cli.objects import Objects
from rpn_lib.coverage import coverage
from rpn_lib.errors import DataError, SettingError
from rpn_lib.models import SIZES, count_levels
from rpn_lib.shapes import suggest_shapes
from rpn_lib.training.config import NetworkConfig

SHAPES = 12  # anchor shapes of a single level; with a pyramid 3 for each


def choose_anchors(config: NetworkConfig, objects: Objects) -> NetworkConfig:
    """Anchors that fit the objects, where nothing else is given.

    Args:
        config: comes back as it is if it has `sizes` or `anchors`.
        objects: to fit the shapes of the anchors to.

    Raises:
        DataError: no object to fit anchors to.
        SettingError: more levels than there are different ones.
    """
    if config.sizes is not None or config.anchors is not None:
        return config
    if objects.side is None and not config.fpn:
        return replace(config, sizes=SIZES)
    levels = count_levels(config.backbone, config.fpn)
    per_level = config.shapes or (3 if config.fpn else SHAPES)
    boxes = torch.cat([torch.zeros(0, 4), *objects.boxes])
    if not len(boxes):
        raise DataError(
            "There is no object to fit anchors to. Give their sizes with --sizes."
        )
    sides = (boxes[:, 2:] - boxes[:, :2]).tolist()
    different = len(set(map(tuple, sides)))
    count = min(levels * per_level, different // levels * levels)
    if not count:
        raise SettingError(
            f"{different} different shapes of objects are too few for {levels} "
            "levels. Give anchor sizes with --sizes."
        )
    sample = boxes[torch.linspace(0, len(boxes) - 1, min(len(boxes), 5000)).long()]
    found = suggest_shapes(sample, min(count, len(sample))).tolist()
    shapes = tuple((round(width, 2), round(height, 2)) for width, height in found)
    return replace(config, anchors=shapes)


def coverage_line(anchors: AnchorGenerator, objects: Objects) -> str:
    """One line on how well anchors fit the training boxes."""
    found = coverage(anchors, objects.boxes, objects.sizes)
    return (
        f"{len(found.boxes):,} objects, {sum(anchors.num_anchors)} anchor shapes: "
        f"{found.recall(0.5):.0%} have an anchor of IoU 0.5, {found.recall(0.7):.0%} "
        "one of 0.7"
    )
