"""`rpn check`: what cannot be right in a folder of annotated photographs."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from rpn_lib.cli.console import log
from rpn_lib.data.folder import check_folder, is_coco
from rpn_lib.data.problems import report
from rpn_lib.data.records import Record
from rpn_lib.training.progress import bar


def run(options: argparse.Namespace) -> int:
    """Check a folder, and print what was found.

    Args:
        options: of the command line.

    Returns:
        the exit code.
    """
    splits = options.splits or _splits(options.folder)

    def shown(records: list[Record]) -> Iterable[Record]:
        return bar(records, unit="image", leave=False)

    problems, summary = check_folder(
        options.folder,
        splits,
        decode=not options.quick,
        classes=options.classes,
        first_pixel=options.first_pixel,
        progress=shown,
    )
    log.info(report(problems, f"{', '.join(splits)}: {summary}"))
    return 1 if problems else 0


def _splits(folder: Path) -> list[str]:
    """Train, val and test, those of them that there are; else every one."""
    if is_coco(folder):
        there = {
            path.stem.removeprefix("instances_") for path in folder.rglob("*.json")
        }
        there |= {path.parent.name for path in folder.glob("*/_annotations.coco.json")}
        there -= {"_annotations.coco"}
    else:
        there = {path.stem for path in (folder / "ImageSets/Main").glob("*.txt")}
    known: list[str] = ["train", "val", "valid", "test"]
    return [name for name in known if name in there] or sorted(there) or ["train"]
