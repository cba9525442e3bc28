"""`rpn check`: what is wrong with a folder of annotated photographs?"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import splits_of
from rpn_lib.data.problems import lines_of, report
from rpn_lib.data.records import Record

CHECK = """\
Read every annotation and every picture, and list what cannot be right: file, box,
reason, fix. Exit code 1 if there is something that training would refuse.

  rpn check my_images
  rpn check my_images --splits train --classes cat dog"""

FOUND = 1  # exit code


def check(options: argparse.Namespace) -> int:
    """Check a folder; see `check_options` for the options."""
    any_name()
    splits = options.splits or splits_of(options.folder)

    def bar(records: list[Record]) -> Iterable[Record]:
        shown: Iterable[Record] = tqdm(records, unit="image", leave=False)
        return shown

    found = check_folder(
        options.folder,
        splits,
        decode=not options.quick,
        progress=bar,
        classes=options.classes,
        first_pixel=options.first_pixel,
        difficult=options.difficult,
        exif=options.exif,
        max_pixels=options.max_pixels,
    )
    for note in found.notes:
        print(f"note: {note}")
    for line in lines_of(found.warnings, options.all):
        print(f"warning: {line}")
    summary = f"{', '.join(splits)}: {found.summary}"
    count = len(found.warnings)
    if count:
        summary += f" {count:,} warning{'' if count == 1 else 's'}."
    if count and not found.problems:
        print(f"{summary} No problems.")
    else:
        print(report(found.problems, summary, options.all))
    return FOUND if found.problems else 0


def check_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `rpn check`."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="Pascal VOC, COCO or YOLO")
    add("--splits", nargs="+", help="default: train, val and test, where they are")
    add("--classes", nargs="+", help="the names that objects may have (default: any)")
    add("--quick", action="store_true", help="of pictures read only the size")
    add("--all", action="store_true", help="list each of many problems of one kind")
    reading_options(parser)


def reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how files are to be understood."""
    add = parser.add_argument
    add("--first-pixel", type=int, choices=(0, 1), default=1, help=FIRST_PIXEL)
    add(
        "--difficult",
        choices=("ignore", "keep", "drop"),
        default="ignore",
        help="objects marked difficult (VOC) or ignore (COCO): regions to ignore, "
        "objects like any other, or background",
    )
    add(
        "--exif",
        choices=("apply", "ignore"),
        default="apply",
        help="turn photographs upright as their camera noted, or leave them as stored",
    )
    add("--max-pixels", type=int, metavar="N", help="allow pictures of up to N pixels")


FIRST_PIXEL = "0 for VOC files of tools that count pixels from 0"


def any_name() -> None:
    """Let file names be printed that the terminal cannot show, escaped."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
