"""`rpn propose`: boxes in photographs, as pictures and as JSON."""

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from rpn_lib.cli.console import log
from rpn_lib.cli.device import usable_device
from rpn_lib.cli.evaluate import load
from rpn_lib.cli.options import CHECKPOINT
from rpn_lib.cli.run_folder import is_own_picture, save_figure, write_json
from rpn_lib.data.images import SUFFIXES, read_image
from rpn_lib.data.progress import bar
from rpn_lib.data.sides import SIDES
from rpn_lib.errors import DataError
from rpn_lib.models import trained_rpn
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training.config import DataConfig
from rpn_lib.training.measure import propose_in

# Photographs that Pillow does not read by itself: they are told, not passed over.
PHONES = (".heic", ".heif")


def run(options: argparse.Namespace) -> int:
    """Propose boxes in a photograph, or in each of a folder.

    Args:
        options: what the command line gave.

    Returns:
        the exit code: 1 where a photograph of a folder was left out.
    """
    photos, base = _photos(options.photo)
    rpn, trained = network(options.checkpoint)
    side = options.side or trained.side
    rpn = rpn.to(usable_device(options.device))
    rpn.select.post_nms_top_k = options.proposals
    rpn.select.score_threshold = options.min_score
    failed = 0
    for photo in bar(photos, unit="photo", show=len(photos) > 1):
        try:
            image = read_image(photo, trained.exif, options.max_pixels)
            boxes, scores = propose_in(rpn, image, side)
            target = options.out / photo.relative_to(base)
            content = {
                "image": str(photo),
                "width": image.shape[2],
                "height": image.shape[1],
                "boxes": [[round(x, 2) for x in box] for box in boxes.tolist()],
                "scores": [round(score, 4) for score in scores.tolist()],
            }
            _write(target.with_name(f"{target.name}.json"), content)
        except DataError as error:
            if len(photos) == 1:
                raise
            log.warning(f"left out: {error}")
            failed += 1
            continue
        picture = target.with_name(f"{target.name}.proposals.png")
        save_figure(_overlay(image, boxes[: options.top]), picture)
        log.info(f"{photo}: {len(boxes)} proposals, {picture}")
    return 1 if failed else 0


def _photos(photo: Path) -> tuple[list[Path], Path]:
    """The photographs, and the folder that their names are relative to."""
    if not photo.exists():
        raise DataError(f"{photo}: there is no such file or folder.")
    if not photo.is_dir():
        return [photo], photo.parent
    found = sorted(
        path
        for path in photo.rglob("*")
        if path.suffix.lower() in (*SUFFIXES, *PHONES) and path.is_file()
    )
    own = {path for path in found if is_own_picture(path)}
    if own:
        count = f"{len(own)} picture{'s' * (len(own) > 1)}"
        log.info(f"passed over: {count} that rpn has written, such as {min(own)}")
    if len(own) == len(found):
        raise DataError(f"{photo} holds no photograph.")
    return [path for path in found if path not in own], photo


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write proposals, but not over somebody's annotations of the same name."""
    if path.is_file():
        try:
            own = content.keys() <= json.loads(path.read_bytes()).keys()
        except (ValueError, AttributeError):
            own = False
        if not own:
            raise DataError(
                f"{path} is there, and rpn propose has not written it. Choose another "
                "folder with --out."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def network(path: Path | None) -> tuple[RegionProposalNetwork, DataConfig]:
    """The network to use, and how the images that it was trained on were read.

    Args:
        path: a checkpoint; if not given, that of `rpn train`, or else the network that
            comes with the library.
    """
    if path is None and not CHECKPOINT.is_file():
        log.warning(
            f"note: there is no {CHECKPOINT}. This is the network that comes with the "
            "library, which knows synthetic scenes only: rpn train --data FOLDER "
            "trains one on your photographs, --checkpoint names another."
        )
        return trained_rpn(), DataConfig(side=SIDES[0])
    return load(path or CHECKPOINT)


def _overlay(image: Tensor, boxes: Tensor) -> Any:
    """A figure of the image, as large as it is in its longer side's proportion."""
    from matplotlib.figure import Figure  # which takes a second

    from rpn_lib.figures.boxes import draw_boxes, show_image

    height, width = image.shape[1:]
    scale = 10 / max(height, width)  # inches
    figure = Figure(figsize=(max(width * scale, 1), max(height * scale, 1)), dpi=100)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    show_image(image, ax)
    ax.set_axis_off()
    draw_boxes(ax, boxes, "proposal")
    return figure
