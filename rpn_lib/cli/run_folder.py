"""A run of `rpn train`: settings, data, the folder with its results.

The folder holds `settings.json`, which repeats the run; `metrics.csv`, a line for each
step; `checkpoints/`, to continue from; and in the end `checkpoint.pt`, `results.json`
and `proposals.png`.
"""

import contextlib
import csv
import ctypes
import io
import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from rpn_lib import __version__
from rpn_lib.anchors import AnchorGenerator
from rpn_lib.coverage import coverage, suggest_shapes
from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory
from rpn_lib.data.dataset import AnnotatedFolder
from rpn_lib.data.folder import scan_folder
from rpn_lib.data.records import (
    Record,
    Sample,
    Scan,
    nothing_to_learn,
    picture_problem,
)
from rpn_lib.data.resize import Resize, learnable, tidy, too_small
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import BoxError, DataError, TrainingError
from rpn_lib.models import build_rpn
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import Checkpoints, save_state, write_atomically
from rpn_lib.training.loop import train
from rpn_lib.training.measure import Measured, measure

Settings = dict[str, Any]


# Of objects this large after resizing, all but the smallest tenth are at least as large
# as the stride of the small backbone.
SMALLEST = 16


SIDES = (240, 800)  # least and largest shorter side that is chosen


SHAPES = 12  # anchor shapes of a single level; with a pyramid 3 for each


MIN_STEPS = 300  # of a run whose epochs are not given


MIN_EPOCHS = 12


CACHE_BYTES = 2e9  # a larger data set is read from its files in every epoch


COLUMNS = (
    *("step", "epoch", "lr", "objectness", "box", "grad_norm", "seconds", "waiting"),
    *("val_objectness", "val_box", "recall", "AR@100"),
)


def say(text: str) -> None:
    """Print a line above the bar, in the first process only."""
    if processes.rank() == 0:
        tqdm.write(text)


class Data:
    """The images of a run, and the boxes that its anchors are chosen for.

    Args:
        settings: `data` (a folder, or `None` for scenes), splits, `side` (`None` to
            choose one), `on_bad_box`, `first_pixel`, `augment`, `cache`.

    Attributes:
        side: shorter side that photographs are resized to; `None` for scenes.
        classes: names of the classes.
        train_set, val_set: with transforms.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        changes = Augment(settings["augment"])
        self.side: int | None = None
        if settings["data"] is None:
            self.classes: Sequence[str] = ShapesDataset.classes
            scenes = InMemory(ShapesDataset(400))
            targets = [target["boxes"] for _, target in scenes.samples]
            self.boxes = [boxes.as_subclass(Tensor) for boxes in targets]
            self.sizes = [tuple(image.shape[1:]) for image, _ in scenes.samples]
            scenes.transform = changes
            self.train_set: Dataset[Sample] = scenes
            self.val_set: Dataset[Sample] = InMemory(ShapesDataset(100, seed=1))
            return
        split, val_split = settings["train_split"], settings["val_split"]
        train_scan, val_scan = self.scan(split), self.scan(val_split)
        records = train_scan.records
        self.side = settings["side"] or choose_side(records)
        fit = Resize(self.side)
        fitted = [fit.boxes_of(record.boxes, record.size) for record in records]
        self.boxes = [boxes[learnable(boxes)] for boxes in fitted]
        self.sizes = [fit.size_of(record.size) for record in records]
        area = sum(height * width for height, width in self.sizes)
        cached = settings["cache"] == "memory" or (
            settings["cache"] == "auto" and 3 * area < CACHE_BYTES
        )
        learn = v2.Compose([tidy, changes])
        how = settings["on_bad_box"]
        whole = fit if cached else v2.Compose([fit, learn])
        train_folder = AnnotatedFolder(train_scan, whole, how)
        val_folder = AnnotatedFolder(val_scan, fit, how)
        check_objects(train_scan, val_scan, self.side)
        self.classes = train_folder.classes
        unknown = sorted(set(val_folder.classes) - set(self.classes))
        if unknown:
            say(f"note: only in {val_split}, never trained on: {', '.join(unknown)}")
        for line in dict.fromkeys(train_folder.dropped + val_folder.dropped):
            if processes.rank() == 0:
                print(f"dropped: {line}", file=sys.stderr)
        for line in dict.fromkeys(train_folder.notes + val_folder.notes):
            say(f"note: {line}")
        self.train_set, self.val_set = train_folder, val_folder
        if cached:
            # Reading everything is the check of every picture.
            self.train_set = InMemory(train_folder, learn, _bar(f"read {split}"))
            self.val_set = InMemory(val_folder, progress=_bar(f"read {val_split}"))
        elif settings["check"]:
            for folder in (train_folder, val_folder):
                check_pictures(folder)

    def scan(self, split: str) -> Scan:
        """The annotations of a split of the folder."""
        first_pixel = self.settings["first_pixel"]
        return scan_folder(self.settings["data"], split, first_pixel=first_pixel)


def check_objects(train_scan: Scan, val_scan: Scan, side: int) -> None:
    """Say what will not be learnt or measured.

    Args:
        train_scan, val_scan: the annotations.
        side: shorter side that images are resized to.

    Raises:
        DataError: there is nothing to learn.
    """
    empty = nothing_to_learn(train_scan)
    if empty is not None:
        raise DataError(str(empty))
    small, total, wanted = too_small(train_scan.records, side)
    text = (
        f"{small:,} of {total:,} objects are smaller than 2 pixels where the shorter "
        f"side is {side}. They are not learnt, but count in recall; with --side "
        f"{wanted} all of them would be learnt."
    )
    if small == total:
        raise DataError(f"There is nothing to learn: {text}")
    if small:
        say(f"note: {text}")
    unmeasured = nothing_to_learn(val_scan)
    if unmeasured is not None:
        say(f"note: no recall can be measured. {unmeasured}")


def _bar(text: str) -> Callable[[Sequence[int]], Iterable[int]]:
    """A bar that moves as images are read."""
    return partial(tqdm, desc=text, unit="image", leave=False, disable=_quiet())


def _quiet() -> bool:
    return processes.rank() > 0 or not sys.stderr.isatty()


def check_pictures(folder: AnnotatedFolder) -> None:
    """Read every picture of a folder once.

    Raises:
        DataError: the first that cannot be used, and how many more there are.
    """
    records = tqdm(folder.records, desc="check", unit="image", disable=_quiet())
    look = partial(picture_problem, reading=folder.scan.reading)
    problems = [p for p in map(look, records) if p is not None]
    if problems:
        more = f" {len(problems) - 1} more." if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")


def choose_side(records: Sequence[Record]) -> int:
    """The shorter side at which all but the smallest tenth of the objects are large.

    Large enough for the small backbone, that is at least its stride. Small images train
    faster; more than 800 or less than 240 pixels are not chosen.

    Args:
        records: of a folder.

    >>> from rpn_lib.data.records import as_boxes
    >>> boxes = as_boxes([[0, 0, 40, 40]] * 10)
    >>> choose_side([Record("a", Path("a.jpg"), (480, 640), boxes, [], boxes[:0])])
    240
    """
    boxes = [torch.as_tensor(record.boxes) for record in records]
    relative = [
        (one[:, 2:] - one[:, :2]).prod(1).sqrt() / min(record.size)
        for one, record in zip(boxes, records)
    ]
    sizes = torch.cat([torch.zeros(0), *relative])
    if not len(sizes):
        return SIDES[0]
    wanted = SMALLEST / float(sizes.quantile(0.1))
    return int(min(max(math.ceil(wanted / 16) * 16, SIDES[0]), SIDES[1]))


def choose_network(settings: Settings, data: Data) -> Settings:
    """Settings of `build_rpn`: anchors of the sizes given, else such as fit the data.

    Args:
        settings: `backbone`, `fpn`, `pretrained`, `sizes`, `shapes`.
        data: its boxes are looked at.

    Raises:
        BoxError: no box to fit anchors to.
    """
    network: Settings = {"backbone": settings["backbone"], "fpn": settings["fpn"]}
    if settings["pretrained"]:
        network["weights"] = "DEFAULT"
    if settings["sizes"] is not None:
        network["sizes"] = settings["sizes"]
    elif settings["data"] is None and not settings["fpn"]:
        network["sizes"] = [24, 40, 64, 96]  # the shapes are 16 to 96 pixels large
    else:
        levels = 5 if settings["fpn"] else 1
        per_level = settings["shapes"] or (3 if settings["fpn"] else SHAPES)
        boxes = torch.cat([torch.zeros(0, 4), *data.boxes])
        if not len(boxes):
            raise BoxError(
                "There is no object in the training images to fit anchors to. Give "
                "their sizes with --sizes."
            )
        sides = (boxes[:, 2:] - boxes[:, :2]).tolist()
        different = len(set(map(tuple, sides)))
        count = min(levels * per_level, different // levels * levels)
        if not count:
            raise BoxError(
                f"{different} different shapes of objects are too few for {levels} "
                "levels. Give anchor sizes with --sizes."
            )
        sample = boxes[torch.linspace(0, len(boxes) - 1, min(len(boxes), 5000)).long()]
        found = suggest_shapes(sample, min(count, len(sample)))
        network["shapes"] = [[round(x, 2) for x in pair] for pair in found.tolist()]
    return network


def coverage_of(anchors: AnchorGenerator, data: Data) -> str:
    """One line on how well anchors fit the training boxes."""
    found = coverage(anchors, data.boxes, [tuple(size) for size in data.sizes])
    return (
        f"{len(found.boxes):,} objects, {sum(anchors.num_anchors)} anchor shapes: "
        f"{found.recall(0.5):.0%} have an anchor of IoU 0.5, {found.recall(0.7):.0%} "
        "one of 0.7"
    )


class Metrics:
    """`metrics.csv`, and TensorBoard where it is installed.

    Args:
        folder: of the run.
        step: lines of later steps are removed: those steps are done again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.csv"
        rows: list[dict[str, str]] = []
        if step and self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [
                    row
                    for row in csv.DictReader(file)
                    if (row.get("step") or "").isdigit() and int(row["step"]) <= step
                ]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
        self.file = self.path.open("a", newline="", buffering=1)
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="")
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """A line, with whatever of the columns it has."""
        self.writer.writerow(
            {
                key: value if isinstance(value, int) else f"{value:.6g}"
                for key, value in row.items()
            }
        )
        if self.board is not None:
            for key, value in row.items():
                if key not in ("step", "epoch"):
                    self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        """Finish the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def read_settings(path: Path) -> Settings:
    """The settings of a run.

    Args:
        path: `settings.json`.

    Raises:
        TrainingError: no such file, or one that is damaged.
    """
    try:
        content = json.loads(path.read_text())
        settings: Settings = content["settings"]
        return settings
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path} is missing: there is no run to continue. Start one without "
            "--resume."
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise TrainingError(f"{path} cannot be used: {error!r}.") from error


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one step."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def keep_memory() -> None:
    """Let the C library keep what one step frees for the next one.

    glibc mostly hands large blocks back to the system, which clears them page by page
    for the next step: a tenth of a step on a CPU. Elsewhere nothing changes.
    """
    trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 2**25)  # the most that it takes
        library.mallopt(trim_threshold, 2**30)


def check_settings(settings: Settings) -> None:
    """Find settings that cannot work before the data are read.

    Raises:
        BoxError, TrainingError: the first of them.
    """
    for name in ("epochs", "batch_size", "save_every", "eval_every", "shapes"):
        value = settings.get(name)
        if value is not None and value < 1:
            raise TrainingError(f"{name}={value} must be 1 or more.")
    if not 0 < settings["lr"] < math.inf:
        raise TrainingError(f"lr={settings['lr']} must be a number above 0.")
    if settings["side"] is not None:
        Resize(settings["side"])
    levels = 5 if settings["fpn"] else 1
    sizes = settings["sizes"] or [32.0] * levels
    build_rpn(settings["backbone"], fpn=settings["fpn"], sizes=sizes)


def run_training(
    settings: Settings, out: Path, resume: bool = False, overwrite: bool = False
) -> Measured:
    """Train, measure, and leave everything in a folder.

    Args:
        settings: of `rpn train`; those that are `None` are chosen here, and written
            with the others to `settings.json`.
        out: the folder.
        resume: continue from the last checkpoint.
        overwrite: replace a run that is there already; if neither, it is refused.

    Returns:
        what the trained network achieves on the validation images.

    Raises:
        DataError, BoxError, TrainingError, OSError: what a user can put right.
    """
    check_settings(settings)
    keep_memory()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{out} cannot be made ({error}). Choose another folder with --out."
        ) from error
    with processes.processes(settings["device"]) as device:
        checkpoints = Checkpoints(out / "checkpoints")
        if checkpoints.paths() and not resume and not overwrite:
            whole = (out / "results.json").is_file()
            raise TrainingError(
                f"{out} holds a run that {'is finished' if whole else 'can go on'}. "
                "Continue it with --resume, choose another folder with --out, or "
                "replace it with --overwrite."
            )
        checkpoints.prepare(0)  # before the data are read
        processes.wait_for_all()
        return _run(settings, out, resume, device, checkpoints)


def _run(
    settings: Settings, out: Path, resume: bool, device: str, checkpoints: Checkpoints
) -> Measured:
    first = processes.rank() == 0
    data = Data(settings)
    settings = {**settings, "side": data.side}
    torch.manual_seed(settings["seed"])
    network = settings.get("network") or choose_network(settings, data)
    settings["network"] = network
    rpn = build_rpn(**network).to(device)
    steps = len(data.train_set) // settings["batch_size"]  # type: ignore[arg-type]
    if settings["epochs"] is None:
        settings["epochs"] = max(MIN_EPOCHS, math.ceil(MIN_STEPS / max(steps, 1)))
    if first:
        if not resume:  # not before the data are known to be good
            for path in [*checkpoints.paths(), out / "results.json"]:
                path.unlink(missing_ok=True)
        versions = {"rpn_lib": __version__, "torch": torch.__version__}
        versions["python"] = platform.python_version()
        write_json(
            out / "settings.json",
            {"settings": settings, "versions": versions, "command": sys.argv},
        )
    say(
        f"{len(data.train_set):,} images to train on"  # type: ignore[arg-type]
        + (f", shorter side {data.side} pixels" if data.side else "")
    )
    say(coverage_of(rpn.anchors, data))
    start = 0
    if resume:
        latest = checkpoints.latest()
        for line in checkpoints.skipped:
            say(f"passed over: {line}")
        start = 0 if latest is None else len(latest[1]["history"])
        say(f"continues after step {start} of {settings['epochs'] * steps}")
    processes.wait_for_all()
    metrics = Metrics(out, start) if first else None
    spent = {"seconds": 0.0, "waiting": 0.0, "steps": 0}
    every = settings["eval_every"] or max(1, settings["epochs"] // 4)

    def after_step(row: dict[str, float]) -> None:
        spent["seconds"] += row["seconds"]
        spent["waiting"] += row["waiting"]
        spent["steps"] += 1
        if metrics is not None:
            metrics.add(row)

    def after_epoch(epoch: int, losses: dict[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        done = epoch + 1
        if done % every == 0 and done < settings["epochs"]:
            result = measure(rpn, data.val_set, workers=settings["workers"])
            text += "; validation: " + _short(result)
            if metrics is not None:
                metrics.add({"step": done * steps, "epoch": epoch, **_columns(result)})
        say(f"epoch {done} of {settings['epochs']}: {text}")

    about: Settings = {"data": settings["data"] and str(settings["data"])}
    for key in ("side", "val_split", "on_bad_box", "first_pixel"):
        about[key] = settings[key]
    about["classes"] = list(data.classes)
    try:
        train(
            rpn,
            data.train_set,
            checkpoints=checkpoints,
            resume=resume,
            settings=network,
            progress=True,
            after_step=after_step,
            after_epoch=after_epoch,
            **{key: settings[key] for key in TRAIN_SETTINGS},
        )
        result = measure(rpn, data.val_set, workers=settings["workers"])
        if metrics is not None:
            last = {"step": settings["epochs"] * steps, "epoch": settings["epochs"] - 1}
            metrics.add({**last, **_columns(result)})
    finally:
        if metrics is not None:
            metrics.close()
    if first:
        state = {"settings": network, "data": about, "model": rpn.state_dict()}
        save_state(out / "checkpoint.pt", state)
        _picture(out / "proposals.png", data.val_set, result)
        write_json(
            out / "results.json",
            {**result.numbers(), "images": len(result.gt_boxes), **timing(spent)},
        )
    if spent["steps"]:
        say(time_line(spent))
    say(result.summary())
    say(f"wrote {out / 'checkpoint.pt'} and {out / 'proposals.png'}")
    processes.wait_for_all()
    return result


TRAIN_SETTINGS = (
    *("epochs", "batch_size", "lr", "weight_decay", "seed", "optimizer", "schedule"),
    *("warmup", "clip_norm", "amp", "workers", "save_every"),
)


def _short(result: Measured) -> str:
    losses = ", ".join(f"{name} {value:.4f}" for name, value in result.losses.items())
    return f"{losses}, AR@100 {result.evaluation.recall(100).average:.3f}"


def _columns(result: Measured) -> dict[str, float]:
    at = result.evaluation.recall(100)
    losses = {f"val_{name}": value for name, value in result.losses.items()}
    return {**losses, "recall": at.at(0.5), "AR@100": at.average}


def timing(spent: dict[str, float]) -> dict[str, float]:
    """Seconds of a step, and the shares of waiting and of communication."""
    if not spent["steps"]:
        return {}
    values = {
        "seconds a step": spent["seconds"] / spent["steps"],
        "waiting for data": spent["waiting"] / spent["seconds"],
        "processes": float(processes.world_size()),
    }
    if processes.world_size() > 1:
        values["communication"] = processes.SPENT["seconds"] / spent["seconds"]
    return {name: round(value, 5) for name, value in values.items()}


def time_line(spent: dict[str, float]) -> str:
    """A sentence on where the time went."""
    values = timing(spent)
    text = (
        f"{spent['steps']:.0f} steps in {spent['seconds']:.1f} s, "
        f"{values['seconds a step']:.3f} s each; waiting for data "
        f"{values['waiting for data']:.1%}"
    )
    if "communication" in values:
        each = values["communication"] * values["seconds a step"]
        text += (
            f"; communication of {processes.world_size()} processes {each:.4f} s a "
            f"step, {values['communication']:.1%}, partly beside the computation"
        )
    return text


def _picture(path: Path, dataset: Dataset[Sample], result: Measured) -> None:
    from rpn_lib.figures.plots import (
        found_figure,  # matplotlib is for the command line only
    )

    some = [i for i, boxes in enumerate(result.gt_boxes) if len(boxes)][:6]
    found_figure(
        [dataset[i][0] for i in some],
        [result.gt_boxes[i] for i in some],
        [result.proposals[i].boxes for i in some],
    ).savefig(path, dpi=100)


def usable_device(name: str | None = None) -> str:
    """The device that is asked for, or `cuda` where there is a GPU, else `cpu`.

    Args:
        name: `cpu`, `cuda`, `mps`; `None` to choose.

    Raises:
        TrainingError: a device that this machine does not have.

    >>> usable_device("cpu")
    'cpu'
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise TrainingError(
            f"The device {name} cannot be used ({reason}). Give --device cpu, or leave "
            "it out."
        ) from error
    return name
