"""The images of a run: what is trained on, and what is measured on."""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from torch.utils.data import Dataset
from torchvision.transforms import v2

from rpn_lib.cli.console import log
from rpn_lib.cli.objects import (
    Objects,
    check_objects,
    objects_of,
    objects_of_scenes,
    refuse_nothing,
)
from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory
from rpn_lib.data.check import LEAK
from rpn_lib.data.dataset import AnnotatedFolder
from rpn_lib.data.folder import scan_folder
from rpn_lib.data.problems import lines_of
from rpn_lib.data.progress import bar
from rpn_lib.data.records import Sample, Scan, picture_problem
from rpn_lib.data.resize import Resize, tidy
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import DataError
from rpn_lib.training.config import DataConfig
from rpn_lib.training.processes import rank

CACHE_BYTES = 2e9  # a larger data set is read from its files in every epoch


class Images(NamedTuple):
    """The images of a run.

    Attributes:
        train_set, val_set: their samples, resized; those to train on augmented too.
        classes: names of the classes.
        objects: those of `train_set`.
        length: how many images there are to train on.
    """

    train_set: Dataset[Sample]
    val_set: Dataset[Sample]
    classes: Sequence[str]
    objects: Objects
    length: int


def open_images(config: DataConfig) -> Images:
    """Open the images of a run, and say what is peculiar about them.

    Args:
        config: folder, splits, size, augmentation.

    Raises:
        DataError: a folder that cannot be used, or one with nothing to learn.
    """
    changes = Augment(config.augment)
    if config.data is None:
        scenes = InMemory(ShapesDataset(400), changes)
        val_scenes = InMemory(ShapesDataset(100, seed=1))
        objects = objects_of_scenes(scenes)
        return Images(scenes, val_scenes, ShapesDataset.classes, objects, len(scenes))
    train_scan, val_scan = (
        scan(config, split) for split in (config.train_split, config.val_split)
    )
    objects = objects_of(train_scan.records, config.side)
    assert objects.side is not None
    fit, learn = Resize(objects.side), v2.Compose([tidy, changes])
    cached = _fits_in_memory(config, objects)
    whole = fit if cached else v2.Compose([fit, learn])
    train_folder = AnnotatedFolder(train_scan, whole, config.on_bad_box)
    val_folder = AnnotatedFolder(val_scan, fit, config.on_bad_box)
    check_objects(train_scan, val_scan, objects.side)
    _tell_unknown(train_folder, val_folder, config.val_split)
    _tell_shared(train_scan, val_scan)
    tell(train_folder, val_folder)
    train_set: Dataset[Sample] = train_folder
    val_set: Dataset[Sample] = val_folder
    if cached:
        # Reading everything is the check of every picture.
        train_set = InMemory(train_folder, learn, _bar(f"read {config.train_split}"))
        val_set = InMemory(val_folder, progress=_bar(f"read {config.val_split}"))
    elif config.check:
        for folder in (train_folder, val_folder):
            check_pictures(folder)
    return Images(train_set, val_set, train_folder.classes, objects, len(train_folder))


def objects_to_fit(config: DataConfig) -> Objects:
    """The objects of the training images alone, without reading a picture."""
    if config.data is None:
        return objects_of_scenes(InMemory(ShapesDataset(400)))
    found = scan(config, config.train_split)
    objects = objects_of(found.records, config.side)
    folder = AnnotatedFolder(found, on_bad_box=config.on_bad_box)
    tell(folder)
    assert objects.side is not None
    refuse_nothing(found, objects.side)
    return objects


def scan(config: DataConfig, split: str) -> Scan:
    """The annotations of a split of the folder."""
    assert config.data is not None
    return scan_folder(config.data, split, **config.reading())


def _tell_unknown(
    train_folder: AnnotatedFolder, val_folder: AnnotatedFolder, val_split: str
) -> None:
    unknown = sorted(set(val_folder.classes) - set(train_folder.classes))
    if unknown:
        log.info(f"note: only in {val_split}, never trained on: {', '.join(unknown)}")


def _tell_shared(train_scan: Scan, val_scan: Scan) -> None:
    learnt = {record.path for record in train_scan.records}
    shared = [record.name for record in val_scan.records if record.path in learnt]
    if shared:
        log.warning(
            f"warning: {len(shared)} of {len(val_scan.records)} pictures that are "
            f"measured on are trained on as well, such as {shared[0]}. {LEAK}"
        )


def tell(*folders: AnnotatedFolder) -> None:
    """Say what was left out of folders, what a user should know, what may be wrong.

    Args:
        *folders: what several of them say is said once.
    """
    for line in dict.fromkeys(line for one in folders for line in one.dropped):
        log.warning(f"dropped: {line}")
    for line in dict.fromkeys(line for one in folders for line in one.notes):
        log.info(f"note: {line}")
    warnings = dict.fromkeys(line for one in folders for line in one.warnings)
    for text in lines_of([*warnings]):
        log.warning(f"warning: {text}")


def _fits_in_memory(config: DataConfig, objects: Objects) -> bool:
    area = sum(height * width for height, width in objects.sizes)
    return config.cache == "memory" or (
        config.cache == "auto" and 3 * area < CACHE_BYTES
    )


def _bar(text: str) -> Callable[[Sequence[int]], Iterable[int]]:
    """A bar that moves as images are read."""
    show = rank() == 0 and sys.stderr.isatty()
    return partial(bar, desc=text, unit="image", leave=False, show=show)


def check_pictures(folder: AnnotatedFolder) -> None:
    """Read every picture of a folder once.

    Raises:
        DataError: the first that cannot be used, and how many more there are.
    """
    show = rank() == 0 and sys.stderr.isatty()
    records = bar(folder.records, desc="check", unit="image", leave=False, show=show)
    look = partial(picture_problem, reading=folder.scan.reading)
    problems = [problem for problem in map(look, records) if problem is not None]
    if problems:
        more = f" {len(problems) - 1} more." if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
