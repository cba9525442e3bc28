"""`rpn export`: a trained network as one web page in which it runs.

The page is a file of 3 to 4 MB that needs no server and no connection: photographs are
dropped on it, and every step from picture to proposals can be looked at.
"""

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

TEXT = """\
Write a web page in which a network runs.

The page is one file: open it in a browser, or send it. Photographs are picked or
dropped there, nothing leaves the machine, and each step from picture to proposals can
be looked at.

  rpn export
  rpn export --checkpoint mine.pt --out page.html --pictures a.jpg b.jpg"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command, besides `--checkpoint`.

    Args:
        parser: gets them.
    """
    add = parser.add_argument
    add("--out", type=Path, default=Path("page.html"), help="the page")
    add(
        "--pictures",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs to begin with (default: scenes of shapes)",
    )
    add("--side", type=int, help="shorter side of them in the page (default: 240)")
    add("--title", default="My network at work", help="headline of the page")


def run(options: argparse.Namespace) -> int:
    """Write the page.

    Args:
        options: of the command line.

    Returns:
        the exit code.
    """
    from rpn_lib.data.images import read_image
    from rpn_lib.data.resize import Resize
    from rpn_lib.figures.live import write_page
    from rpn_lib.models import network_of
    from rpn_lib.training.checkpoint import read_state

    rpn = network_of(read_state(options.checkpoint), options.checkpoint)
    resize: Any = Resize(options.side or 240).resize
    pictures: list[Tensor] = [resize(read_image(path)) for path in options.pictures]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_page(rpn, options.out, pictures, options.title)
    size = options.out.stat().st_size / 1e6
    print(f"wrote {options.out}, {size:.1f} MB: open it in a browser")
    return 0
