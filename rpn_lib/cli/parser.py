"""The options of `rpn`. Nothing here needs torch: `--help` answers at once.

The options of settings are made from the fields of the dataclasses in
`rpn_lib.training.config` (`rpn_lib.cli.options`).
"""

import argparse
from pathlib import Path

from rpn_lib import __version__
from rpn_lib.cli.options import (
    CHECKPOINT,
    RUN,
    add_settings,
    checkpoint_option,
    data_option,
    device_option,
    out_option,
)
from rpn_lib.cli.texts import COMMANDS, DESCRIPTION
from rpn_lib.training.config import (
    READING,
    DataConfig,
    NetworkConfig,
    TrainConfig,
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = argparse.ArgumentParser(
        prog="rpn",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"rpn {__version__}")
    commands = made.add_subparsers(dest="command", title="commands", metavar="")
    each = {
        "train": _train_options,
        "evaluate": _evaluate_options,
        "propose": _propose_options,
        "export": _export_options,
        "anchors": _anchors_options,
        "check": _check_options,
        "experiments": _experiments_options,
    }
    for name, add_options in each.items():
        text = COMMANDS[name]
        add_options(
            commands.add_parser(
                name,
                help=text.split("\n")[0].rstrip("."),
                description=text,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return made


def _train_options(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("the run")
    add = run.add_argument
    out_option(run, RUN, "folder that everything is written to")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--overwrite", action="store_true", help="replace the run in --out")
    add(
        "--settings",
        type=Path,
        metavar="FILE",
        help="settings.json of a run to repeat; other options take precedence",
    )
    device_option(run)
    add_settings(parser.add_argument_group("data"), DataConfig)
    add_settings(parser.add_argument_group("network"), NetworkConfig)
    add_settings(parser.add_argument_group("learning"), TrainConfig)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        default=CHECKPOINT,
        metavar="FILE",
        help="what rpn train has written (default: %(default)s)",
    )
    add("--compare", type=Path, metavar="FILE", help="another checkpoint, to compare")
    data_option(parser, " (default: that of the training)")
    add("--split", help="split to measure on (default: the training's validation)")
    add(
        "--side",
        type=int,
        help="pixels that the shorter side is resized to (default: as in training)",
    )
    add("--precision", action="store_true", help="average precision too (torchmetrics)")
    out_option(parser, "runs/evaluation", "folder for the results")
    add_settings(parser, DataConfig, ("on_bad_box", *READING))
    add_settings(parser, TrainConfig, ("workers",))
    device_option(parser)


def _propose_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    checkpoint_option(parser)
    out_option(parser, "proposals", "folder for pictures and JSON files")
    for name, kind, default, text in (
        ("--proposals", int, 100, "how many boxes go into the JSON file"),
        ("--top", int, 20, "how many of them are drawn"),
        ("--min-score", float, 0.0, "least probability of a box, 0 to 1"),
    ):
        add(name, type=kind, default=default, help=f"{text} (default: {default})")
    add(
        "--side",
        type=int,
        help="pixels that the shorter side is resized to (default: as in training)",
    )
    add("--max-pixels", type=int, metavar="N", help="allow larger photographs")
    device_option(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    checkpoint_option(parser)
    out_option(parser, "page.html", "the page")
    add(
        "--pictures",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs to begin with (default: scenes of shapes)",
    )
    add("--side", type=int, help="shorter side of them in the page")
    add("--title", default="My network at work", help="headline of the page")


def _anchors_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="FOLDER",
        help="folder of annotated photographs (default: synthetic scenes)",
    )
    parser.add_argument(
        "--split", default="train", help="split to look at (default: %(default)s)"
    )
    out_option(parser, "runs/anchors", "folder for the picture")
    add_settings(parser, DataConfig, ("side", "on_bad_box", *READING))
    add_settings(parser, NetworkConfig, ("backbone", "fpn", "sizes", "shapes"))


def _check_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="Pascal VOC, COCO or YOLO")
    add(
        "--splits",
        nargs="+",
        help="splits to look at (default: train, val and test, where they are)",
    )
    add("--classes", nargs="+", help="the names that objects may have (default: any)")
    add("--quick", action="store_true", help="of pictures read only the size")
    add("--all", action="store_true", help="list each of many problems of one kind")
    add_settings(parser, DataConfig, ("side", *READING))


def _experiments_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    data_option(parser, ", with splits train and val (default: synthetic scenes)")
    out_option(parser, "runs/experiments", "folder for runs and table")
    add("--seeds", type=int, metavar="N", help="trainings of each kind (default: 5)")
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="of a training (default: about 240 steps)",
    )
    add("--side", type=int, help="shorter side of photographs (default: chosen)")
    add("--processes", type=int, metavar="N", help="(default: one for each core)")
    add_settings(parser, DataConfig, ("on_bad_box", *READING))
