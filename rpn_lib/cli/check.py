"""`rpn check`: what is wrong with a folder of annotated photographs?"""

import argparse
import sys
from collections.abc import Iterable

from rpn_lib.cli.console import log
from rpn_lib.data.check import Checked, check_folder
from rpn_lib.data.folder import splits_of
from rpn_lib.data.problems import lines_of, report
from rpn_lib.data.progress import bar
from rpn_lib.data.records import Record
from rpn_lib.training.config import DataConfig
from rpn_lib.training.options import from_values

FOUND = 1  # exit code


def run(options: argparse.Namespace) -> int:
    """Check a folder, and print what was found.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    config = from_values(DataConfig, vars(options))
    splits = options.splits or splits_of(options.folder)
    found = check_folder(
        options.folder,
        splits,
        decode=not options.quick,
        side=config.side,
        progress=_shown,
        classes=options.classes,
        **config.reading(),
    )
    for note in found.notes:
        log.info(f"note: {note}")
    for line in lines_of(found.warnings, options.all):
        log.info(f"warning: {line}")
    log.info(_summary(found, splits, options.all))
    return FOUND if found.problems else 0


def _shown(records: list[Record]) -> Iterable[Record]:
    return bar(records, unit="image", leave=False, show=sys.stderr.isatty())


def _summary(found: Checked, splits: list[str], list_all: bool) -> str:
    text = f"{', '.join(splits)}: {found.summary}"
    count = len(found.warnings)
    if count:
        text += f" {count:,} warning{'' if count == 1 else 's'}."
    if count and not found.problems:
        return f"{text} No problems."
    return report(found.problems, text, list_all)
