"""The command line: `rpn train | evaluate | propose | export | anchors | check`.

Also `python -m rpn_lib`. A mistake of the user's ends in one line and exit code 2;
`rpn check` ends with 1 where it finds something, an interrupted run with 130.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from rpn_lib import __version__
from rpn_lib.cli import export, run_folder
from rpn_lib.coverage import coverage
from rpn_lib.data.augment import CHOICES
from rpn_lib.data.folder import check_folder, is_coco, open_folder
from rpn_lib.data.images import SUFFIXES, read_image
from rpn_lib.data.problems import report
from rpn_lib.data.records import Record, Sample
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import DataError, Interrupted, RPNError
from rpn_lib.models import BACKBONES, build_rpn, network_of
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import read_state, write_atomically
from rpn_lib.training.measure import compare, measure

FOUND, MISTAKE, STOPPED = 1, 2, 130  # exit codes


DESCRIPTION = """\
Train a Region Proposal Network on your own photographs, measure it, and use it.

  rpn check my_images                     what is wrong with the annotations?
  rpn anchors my_images                   which anchors suit the objects?
  rpn train --data my_images              learn; Ctrl-C saves, --resume continues
  rpn evaluate --data my_images           how many of the objects are found?
  rpn propose photo.jpg                   where might there be objects?

`rpn train` alone learns from scenes that it draws itself: nothing to download, about a
minute. A folder is laid out as Pascal VOC (ImageSets/Main/train.txt, Annotations,
JPEGImages) or as COCO (annotations/instances_train.json, train/)."""


TRAIN = """\
Train from scratch, or from weights learnt on ImageNet (--pretrained), and measure.

  rpn train                               on made scenes, about a minute
  rpn train --data my_images              on a Pascal-VOC or COCO folder
  rpn train --resume                      continue the run in --out, as if never stopped
  rpn train --settings runs/rpn/settings.json --out runs/again    repeat a run
  torchrun --nproc-per-node 2 -m rpn_lib train --data my_images   two processes

--out gets checkpoint.pt, results.json, proposals.png, metrics.csv, settings.json and
checkpoints/. Anchors are fitted to the training boxes unless --sizes are given."""


EVALUATE = """\
Measure a trained network: average recall (AR) for several numbers of proposals, by the
size of the objects, with plots. The data set is the one that it was trained with unless
another is given.

  rpn evaluate
  rpn evaluate --checkpoint a.pt --compare b.pt --data my_images --split test"""


PROPOSE = """\
Propose boxes in a photograph, or in each one of a folder: a picture with the best of
them drawn in, and a JSON file with all, in pixels of the photograph.

  rpn propose photo.jpg
  rpn propose holiday/ --checkpoint runs/rpn/checkpoint.pt --out found"""


ANCHORS = """\
How well do anchors fit the objects of a data set? Without --sizes, those that
`rpn train` would choose are looked at. Writes a picture.

  rpn anchors my_images
  rpn anchors my_images --sizes 32 64 128"""


CHECK = """\
Read every annotation and every picture, and list what cannot be right: file, box,
reason, fix. Exit code 1 if there is something.

  rpn check my_images
  rpn check my_images --splits train --classes cat dog"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; `rpn --help` lists them.

    Args:
        arguments: `sys.argv` without the program's name if not given.

    Returns:
        the exit code.

    >>> main(["check", "nowhere"])  # the line goes to standard error
    2
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return MISTAKE
    try:
        code: int = options.run(options)
        return code
    except Interrupted as error:
        _tell(f"{error} Continue with: rpn train --resume --out {options.out}")
        return STOPPED
    except KeyboardInterrupt:
        _tell("stopped.")
        return STOPPED
    except torch.cuda.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        _tell(f"error: {first}. Give a smaller --batch-size or --side.")
        return MISTAKE
    except (RPNError, OSError, ImportError) as error:
        _tell(f"error: {' '.join(str(error).split())}")
        return MISTAKE


def _tell(text: str) -> None:
    # The group is gone by now; torchrun's variable is still there.
    if os.environ.get("RANK", "0") == "0" or text.startswith("error: Process"):
        print(text, file=sys.stderr)


# The commands


def _train(options: argparse.Namespace) -> int:
    out: Path = options.out
    if options.resume:
        settings = run_folder.read_settings(out / "settings.json")
        settings["device"] = options.device or settings["device"]
    else:
        if options.settings is not None:
            settings = run_folder.read_settings(options.settings)
        else:
            skip = ("command", "run", "out", "resume", "overwrite", "settings")
            settings = {
                key: str(value) if isinstance(value, Path) else value
                for key, value in vars(options).items()
                if key not in skip
            }
            settings["data"] = settings["data"] and str(Path(settings["data"]))
        settings["device"] = options.device or settings.get("device")
    settings["device"] = run_folder.usable_device(settings["device"])
    run_folder.run_training(settings, out, options.resume, options.overwrite)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    with processes.processes(run_folder.usable_device(options.device)) as device:
        rpn, about = _load(options.checkpoint)
        dataset = _validation(options, about)
        networks = {str(options.checkpoint): rpn.to(device)}
        if options.compare is not None:
            other = _load(options.compare)[0].to(device)
            networks[str(options.compare)] = other
            both = compare(
                networks, dataset, precision=options.precision, workers=options.workers
            )
            run_folder.say(str(both))
            results = {both.names[0]: both.first, both.names[1]: both.second}
        else:
            result = measure(
                rpn, dataset, precision=options.precision, workers=options.workers
            )
            run_folder.say(str(result))
            results = {str(options.checkpoint): result}
        if processes.rank() == 0:
            from rpn_lib.figures.plots import evaluation_figure

            options.out.mkdir(parents=True, exist_ok=True)
            numbers = {name: result.numbers() for name, result in results.items()}
            run_folder.write_json(options.out / "evaluation.json", numbers)
            curves = {name: result.evaluation for name, result in results.items()}
            evaluation_figure(curves).savefig(options.out / "evaluation.png", dpi=100)
            run_folder.say(f"wrote evaluation.json and evaluation.png to {options.out}")
    return 0


def _load(path: Path) -> tuple[RegionProposalNetwork, dict[str, Any]]:
    """The network of a checkpoint, and the data that it was trained with."""
    state = read_state(path)
    return network_of(state, path), state.get("data", {})


def _validation(options: argparse.Namespace, about: dict[str, Any]) -> Dataset[Sample]:
    folder = options.data or about.get("data")
    if folder is None:
        return ShapesDataset(100, seed=1)
    # How the files are to be read is known of the training data only.
    known = about if options.data is None else {}
    first_pixel = options.first_pixel
    if first_pixel is None:
        first_pixel = known.get("first_pixel", 1)
    return open_folder(
        folder,
        options.split or about.get("val_split") or "val",
        Resize(options.side or about.get("side") or run_folder.SIDES[0]),
        options.on_bad_box or known.get("on_bad_box") or "error",
        first_pixel=first_pixel,
    )


def _propose(options: argparse.Namespace) -> int:
    rpn, about = _load(options.checkpoint)
    device = run_folder.usable_device(options.device)
    rpn = rpn.to(device)
    rpn.select.post_nms_top_k = options.proposals
    rpn.select.score_threshold = options.min_score
    side = options.side or about.get("side")
    if options.photo.is_dir():
        photos = sorted(
            path
            for path in options.photo.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not photos:
            raise DataError(f"{options.photo} holds no photograph.")
        base = options.photo
    else:
        photos, base = [options.photo], options.photo.parent
    failed = 0
    for photo in tqdm(photos, unit="photo", disable=len(photos) < 2):
        try:
            image = read_image(photo)
        except DataError as error:
            if len(photos) == 1:
                raise
            _tell(f"left out: {error}")
            failed += 1
            continue
        boxes, scores = propose_in(rpn, image, side)
        target = options.out / photo.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "image": str(photo),
            "width": image.shape[2],
            "height": image.shape[1],
            "boxes": [[round(x, 2) for x in box] for box in boxes.tolist()],
            "scores": [round(score, 4) for score in scores.tolist()],
        }
        run_folder.write_json(target.with_name(f"{target.name}.json"), content)
        picture = target.with_name(f"{target.name}.proposals.png")
        write_atomically(picture, _overlay(image, boxes[: options.top]))
        run_folder.say(f"{photo}: {len(boxes)} proposals, {picture}")
    return FOUND if failed else 0


@torch.no_grad()
def propose_in(
    rpn: RegionProposalNetwork, image: Tensor, side: int | None = None
) -> tuple[Tensor, Tensor]:
    """Proposals in one photograph, in its own pixels.

    Args:
        rpn: in evaluation mode.
        image: `(3, H, W)`, uint8.
        side: shorter side to resize to before; as it is if not given.

    Returns:
        boxes `(K, 4)`, xyxy, and scores `(K,)`, on the CPU, the best first.

    >>> from rpn_lib.models import trained_rpn
    >>> image, target = ShapesDataset(seed=1)[2]
    >>> propose_in(trained_rpn(), image)[0].shape[1]
    4
    """
    height, width = image.shape[1:]
    pixels = image.as_subclass(Tensor)
    if side is not None:
        pixels = Resize(side).resize(pixels)
    small = pixels.float() / 255
    device = next(rpn.parameters()).device
    [found] = rpn([small.to(device)]).proposals
    factors = torch.tensor([width / small.shape[2], height / small.shape[1]] * 2)
    return found.boxes.cpu() * factors, found.scores.cpu()


def _overlay(image: Tensor, boxes: Tensor) -> bytes:
    import io

    from matplotlib.figure import Figure

    from rpn_lib.figures.boxes import draw_boxes, show_image

    height, width = image.shape[1:]
    scale = 10 / max(height, width)  # inches
    figure = Figure(figsize=(max(width * scale, 1), max(height * scale, 1)), dpi=100)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    show_image(image, ax)
    ax.set_axis_off()
    draw_boxes(ax, boxes, "proposal")
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def _anchors(options: argparse.Namespace) -> int:
    settings = {
        **vars(options),
        "train_split": options.split,
        "val_split": options.split,
        "augment": [],
        "cache": "none",
        "check": False,
        "pretrained": False,
    }
    data = run_folder.Data(settings)
    network = run_folder.choose_network(settings, data)
    anchors = build_rpn(**network).anchors
    names = None
    if data.side is not None:
        names = data.train_set.names  # type: ignore[attr-defined]
    sizes = [tuple(size) for size in data.sizes]
    found = coverage(anchors, data.boxes, sizes, names=names)
    if data.side is not None:
        print(f"images resized to a shorter side of {data.side} pixels")
    print(found)
    shapes = [pair for level in anchors.levels for pair in level.tolist()]
    print("anchor shapes, width x height: ", end="")
    print(", ".join(f"{width:.0f} x {height:.0f}" for width, height in shapes))
    for worst in found.unreachable()[:5]:
        name = f"image {worst.image_index}"
        if names is not None:
            name = names[worst.image_index]
        box = ", ".join(f"{x:.0f}" for x in worst.box)
        print(f"hard to reach: {name}, box [{box}], best IoU {worst.best_iou:.2f}")
    from rpn_lib.figures.plots import coverage_figure

    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "anchors.png"
    coverage_figure(found, torch.cat(anchors.levels)).savefig(picture, dpi=100)
    print(f"wrote {picture}")
    return 0


def _check(options: argparse.Namespace) -> int:
    splits = options.splits or _splits(options.folder)

    def bar(records: list[Record]) -> Iterable[Record]:
        shown: Iterable[Record] = tqdm(records, unit="image", leave=False)
        return shown

    problems, summary = check_folder(
        options.folder,
        splits,
        decode=not options.quick,
        classes=options.classes,
        first_pixel=options.first_pixel,
        progress=bar,
    )
    print(report(problems, f"{', '.join(splits)}: {summary}"))
    return FOUND if problems else 0


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


# The parser


class _Help(
    argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter
):
    """Descriptions as they are written, and defaults where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, True, False, argparse.SUPPRESS):
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(action.default)})"
        return super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rpn", description=DESCRIPTION, formatter_class=_Help
    )
    parser.add_argument("--version", action="version", version=f"rpn {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text.split("\n")[0].rstrip(":,"),
            description=text,
            formatter_class=_Help,
        )
        made.set_defaults(run=run)
        return made

    _train_options(command("train", _train, TRAIN))
    evaluate = command("evaluate", _evaluate, EVALUATE)
    _checkpoint_option(evaluate)
    add = evaluate.add_argument
    add("--compare", type=Path, metavar="FILE", help="another checkpoint, to compare")
    add("--data", type=Path, metavar="FOLDER", help="default: that of the training")
    add("--split", help="list of images (default: the validation split)")
    add("--side", type=int, help="shorter side, pixels (default: as in training)")
    add("--precision", action="store_true", help="average precision too (torchmetrics)")
    add("--workers", type=int, default=0, help="processes that read images")
    add("--out", type=Path, default=Path("runs/evaluation"), help="for the results")
    _bad_box_options(evaluate, None)
    _device_option(evaluate)

    propose = command("propose", _propose, PROPOSE)
    add = propose.add_argument
    add("photo", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    _checkpoint_option(propose)
    add("--out", type=Path, default=Path("proposals"), help="for pictures and JSON")
    add("--proposals", type=int, default=100, help="how many go into the JSON file")
    add("--top", type=int, default=20, help="how many of them are drawn")
    add("--min-score", type=float, default=0.0, help="least probability, 0 to 1")
    add("--side", type=int, help="shorter side, pixels (default: as in training)")
    _device_option(propose)

    page = command("export", export.run, export.TEXT)
    _checkpoint_option(page)
    export.add_options(page)

    anchors = command("anchors", _anchors, ANCHORS)
    anchors.add_argument(
        "data", type=Path, nargs="?", metavar="FOLDER", help="default: the made scenes"
    )
    anchors.add_argument("--split", default="train", help="list of images")
    anchors.add_argument(
        "--out", type=Path, default=Path("runs/anchors"), help="folder"
    )
    _network_options(anchors)
    _bad_box_options(anchors, "error")

    check = command("check", _check, CHECK)
    add = check.add_argument
    add("folder", type=Path, metavar="FOLDER", help="Pascal VOC or COCO")
    add("--splits", nargs="+", help="default: train, val and test, where they are")
    add("--classes", nargs="+", help="the names that objects may have (default: any)")
    add("--quick", action="store_true", help="of pictures read only the size")
    add("--first-pixel", type=int, choices=(0, 1), default=1, help="as VOC counts")
    return parser


def _train_options(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("the run")
    run.add_argument("--out", type=Path, default=Path("runs/rpn"), help="for results")
    run.add_argument("--resume", action="store_true", help="continue the run in --out")
    run.add_argument(
        "--overwrite", action="store_true", help="replace the run in --out"
    )
    run.add_argument(
        "--settings", type=Path, metavar="FILE", help="settings.json of a run to repeat"
    )
    run.add_argument("--save-every", type=int, metavar="STEPS", help=SAVE)
    run.add_argument("--eval-every", type=int, metavar="EPOCHS", help=EVAL)
    run.add_argument(
        "--seed", type=int, default=0, help="of weights, order, flips and sampling"
    )
    _device_option(run)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="Pascal VOC or COCO (default: scenes)",
    )
    data.add_argument("--train-split", default="train", help="images to train on")
    data.add_argument("--val-split", default="val", help="images to measure on")
    data.add_argument(
        "--augment",
        nargs="*",
        choices=CHOICES,
        default=["flip", "updown"],
        metavar="KIND",
        help=f"any of {', '.join(CHOICES)}; nothing after it for none",
    )
    data.add_argument(
        "--cache",
        choices=("auto", "memory", "none"),
        default="auto",
        help="keep the resized images in memory; auto: up to 2 GB of them",
    )
    data.add_argument(
        "--workers", type=int, default=0, help="processes that read images"
    )
    data.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not look at every picture first (where they are not kept in memory)",
    )
    _bad_box_options(data, "error")
    _network_options(parser.add_argument_group("network"), pretrained=True)
    learn = parser.add_argument_group("learning")
    learn.add_argument("--epochs", type=int, help=EPOCHS)
    learn.add_argument("--batch-size", type=int, default=8, help="images of a step")
    learn.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    learn.add_argument(
        "--weight-decay", type=float, default=1e-2, help="of all weights"
    )
    learn.add_argument(
        "--optimizer", choices=("adamw", "sgd"), default="adamw", help=OPTIMIZER
    )
    learn.add_argument(
        "--schedule",
        choices=("one-cycle", "cosine", "step", "constant"),
        default="one-cycle",
        help="of the learning rate",
    )
    learn.add_argument("--warmup", type=float, metavar="SHARE", help=WARMUP)
    learn.add_argument(
        "--clip-norm", type=float, metavar="NORM", help="shorten longer gradients to it"
    )
    learn.add_argument("--amp", action="store_true", help="mixed precision")


SAVE = "steps between checkpoints, besides one after each epoch"


EVAL = "epochs between looks at the validation images (default: four in a run)"


OPTIMIZER = "sgd has a momentum of 0.9"


EPOCHS = "passes over the images (default: 12, or as many as 300 steps take)"


WARMUP = (
    "share of the steps in which the rate rises (default: 0.3 of one cycle, or 0.05)"
)


def _network_options(parser: Any, pretrained: bool = False) -> None:
    add = parser.add_argument
    add("--backbone", choices=BACKBONES, default="small", metavar="NAME", help=NAMES)
    add("--fpn", action="store_true", help="feature pyramid; not for small")
    if pretrained:
        add("--pretrained", action="store_true", help="weights learnt on ImageNet")
    add("--sizes", type=float, nargs="+", help="anchor sizes, pixels after resizing")
    add("--shapes", type=int, help="how many anchor shapes are fitted to the boxes")
    add(
        "--side",
        type=int,
        help="resize photographs: shorter side (default: by objects)",
    )


NAMES = f"one of {', '.join(BACKBONES)}"


def _bad_box_options(parser: Any, default: str | None) -> None:
    parser.add_argument(
        "--on-bad-box",
        choices=("error", "drop"),
        default=default,
        help="stop at a box that cannot be right, or leave it out and say so",
    )
    parser.add_argument(
        "--first-pixel",
        type=int,
        choices=(0, 1),
        default=None if default is None else 1,
        help="0 for VOC files of tools that count pixels from 0",
    )


def _checkpoint_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("runs/rpn/checkpoint.pt"),
        metavar="FILE",
        help="what rpn train has written",
    )


def _device_option(parser: Any) -> None:
    parser.add_argument(
        "--device", help="cpu, cuda, mps (default: cuda if there is one)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
