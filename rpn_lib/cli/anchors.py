"""`rpn anchors`: how well anchors fit the objects of a data set."""

import argparse

import torch

from rpn_lib.cli.anchor_choice import choose_anchors
from rpn_lib.cli.console import log
from rpn_lib.cli.images import objects_to_fit
from rpn_lib.cli.objects import Objects
from rpn_lib.cli.run_folder import save_figure
from rpn_lib.cli.settings import RunSettings, given_settings
from rpn_lib.coverage import Coverage, coverage
from rpn_lib.models import build_rpn


def run(options: argparse.Namespace) -> int:
    """Print and draw the coverage of the anchors that the options ask for.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    given = given_settings(vars(options))
    settings = RunSettings.of({**given, "train_split": options.split})
    objects = objects_to_fit(settings.data)
    anchors = build_rpn(**choose_anchors(settings.network, objects).arguments()).anchors
    names = objects.names if objects.side is not None else None
    found = coverage(anchors, objects.boxes, objects.sizes, names=names)
    if objects.side is not None:
        log.info(f"images resized to a shorter side of {objects.side} pixels")
    log.info(str(found))
    shapes = [pair for level in anchors.levels for pair in level.tolist()]
    listed = ", ".join(f"{width:.0f} x {height:.0f}" for width, height in shapes)
    log.info(f"anchor shapes, width x height: {listed}")
    _tell_unreachable(found, objects)
    from rpn_lib.figures.plots import coverage_figure  # matplotlib takes a second

    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "anchors.png"
    save_figure(coverage_figure(found, torch.cat(anchors.levels)), picture)
    log.info(f"wrote {picture}")
    return 0


def _tell_unreachable(found: Coverage, objects: Objects) -> None:
    for worst in found.unreachable()[:5]:
        name = f"image {worst.image_index}"
        if objects.side is not None:
            name = objects.names[worst.image_index]
        box = ", ".join(f"{x:.0f}" for x in worst.box)
        log.info(f"hard to reach: {name}, box [{box}], best IoU {worst.best_iou:.2f}")
