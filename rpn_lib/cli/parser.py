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
    number_of,
    out_option,
)
from rpn_lib.cli.texts import COMMANDS, DESCRIPTION
from rpn_lib.data.reading import LEAST_SIDE
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
    device_option(run, "that of the run; for a new one cuda if there is one, else cpu")
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
        help="network that rpn train has written (default: %(default)s)",
    )
    add("--compare", type=Path, metavar="FILE", help="network to compare it with")
    data_option(parser, " (default: that of the training)")
    add("--split", help="split to measure on (default: the training's val-split)")
    add(
        "--side",
        type=number_of(int, LEAST_SIDE),
        help="pixels that the shorter side is resized to (default: as in training)",
    )
    add("--precision", action="store_true", help="compute average precision too")
    out_option(
        parser, "runs/evaluation", "folder that numbers and plots are written to"
    )
    reading = ("on_bad_box", *READING)
    add_settings(parser, DataConfig, reading, "{} with --data, else as in training")
    add_settings(parser, TrainConfig, ("workers",))
    device_option(parser)


def _propose_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    checkpoint_option(parser)
    out_option(
        parser, "proposals", "folder that pictures and JSON files are written to"
    )
    for name, kind, default, text in (
        (
            "--proposals",
            number_of(int, 1),
            100,
            "how many boxes the JSON file gets at most",
        ),
        (
            "--top",
            number_of(int, 0),
            20,
            "how many boxes, the best, are drawn into the picture",
        ),
        (
            "--min-score",
            number_of(float, 0, 1),
            0.0,
            "smallest probability, 0 to 1, that a box must have",
        ),
    ):
        add(name, type=kind, default=default, help=f"{text} (default: {default})")
    add(
        "--side",
        type=number_of(int, LEAST_SIDE),
        help="pixels that the shorter side is resized to (default: as in training)",
    )
    add(
        "--max-pixels",
        type=int,
        metavar="N",
        help="allow photographs of up to so many pixels (default: about 179 million)",
    )
    device_option(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    checkpoint_option(parser)
    out_option(parser, "page.html", "file that the page is written to")
    add(
        "--pictures",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs that the page offers at first (default: scenes of shapes)",
    )
    add(
        "--side",
        type=number_of(int, LEAST_SIDE),
        help="pixels that the shorter side of --pictures is resized to (default: as in "
        "training)",
    )
    add(
        "--title",
        default="My network at work",
        help="headline of the page (default: %(default)s)",
    )


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
    out_option(parser, "runs/anchors", "folder that the picture is written to")
    add_settings(parser, DataConfig, ("side", "on_bad_box", *READING))
    add_settings(parser, NetworkConfig, ("backbone", "fpn", "sizes", "shapes"))


def _check_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="folder of annotated photographs: Pascal VOC, COCO or YOLO",
    )
    add(
        "--splits",
        nargs="+",
        help="splits to look at (default: train, val and test, where they are)",
    )
    add("--classes", nargs="+", help="the names that objects may have (default: any)")
    add("--quick", action="store_true", help="read only the size of each picture")
    add(
        "--all",
        action="store_true",
        help="list all problems, however many are of one kind",
    )
    add_settings(parser, DataConfig, ("side", *READING))


def _experiments_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    data_option(parser, ", with splits train and val (default: synthetic scenes)")
    out_option(parser, "runs/experiments", "folder that runs and table are written to")
    add(
        "--seeds",
        type=int,
        metavar="N",
        help="how often each kind of training is done, each time from another seed "
        "(default: 5)",
    )
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the images in each training (default: as many as about 240 "
        "steps take)",
    )
    add(
        "--processes",
        type=int,
        metavar="N",
        help="how many trainings run at a time (default: one for each core)",
    )
    add_settings(parser, DataConfig, ("side", "on_bad_box", *READING))
