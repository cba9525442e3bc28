"""`rpn export`: a trained network as one web page in which it runs.

The page is a file of 3 to 4 MB that needs no server and no connection: photographs are
dropped on it, and every step from picture to proposals can be looked at.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from rpn_lib.cli.console import log
from rpn_lib.cli.propose import network
from rpn_lib.data.images import read_image
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import unseen_scenes
from rpn_lib.data.sides import SIDES
from rpn_lib.training.checkpoint import write_atomically


def run(options: argparse.Namespace) -> int:
    """Write the page.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    from rpn_lib.figures.live import write_page  # needs onnx, as other commands do not

    rpn, trained = network(options.checkpoint)
    resize: Any = Resize(options.side or trained.side or SIDES[0]).resize
    read = [read_image(path, trained.exif) for path in options.pictures]
    pictures: list[Tensor] = [resize(image) for image in read]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:  # a full disk leaves the page that was there
        page = Path(folder, "page.html")
        write_page(rpn, page, pictures or unseen_scenes(), options.title)
        write_atomically(options.out, page.read_bytes())
    size = options.out.stat().st_size / 1e6
    log.info(f"wrote {options.out}, {size:.1f} MB: open it in a browser")
    return 0
