"""The images of a run: what is trained on, and what is measured on."""

import copy
import sys
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import clamp_bounding_boxes

from rpn_lib.cli.console import log
from rpn_lib.cli.objects import (
    Objects,
    note_on_small,
    objects_of,
    objects_of_scenes,
    refuse_nothing,
)
from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory
from rpn_lib.data.folder import open_folder
from rpn_lib.data.records import (
    AnnotatedFolder,
    Sample,
    Target,
    Transform,
    picture_problem,
)
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import DataError
from rpn_lib.training.config import DataConfig
from rpn_lib.training.processes import rank
from rpn_lib.training.progress import Bar, bar

CACHE_BYTES = 2e9  # a larger data set is read from its files in every epoch


class Images(NamedTuple):
    """The images of a run.

    Attributes:
        train_set, val_set: with transforms.
        classes: names of the classes.
        objects: those of `train_set`.
        length: how many images there are to train on.
    """

    train_set: Dataset[Sample]
    val_set: Dataset[Sample]
    classes: Sequence[str]
    objects: Objects
    length: int


class ResizeAll(Resize):
    """Resize for measuring: no object is dropped, however small it becomes."""

    def forward(self, image: Tensor, target: Target) -> Sample:
        """Resize image and boxes."""
        image, target = self.resize(image, target)
        target = dict(target)
        for key in ("boxes", "ignore_boxes"):
            if key in target:
                clamped = clamp_bounding_boxes(target[key])
                target[key] = tv_tensors.wrap(clamped, like=target[key])
        return image, target


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
    train_folder = _open(config, config.train_split)
    val_folder = _open(config, config.val_split)
    _notes_on_folders(train_folder, val_folder, config.val_split)
    objects = objects_of(train_folder.records, config.side)
    refuse_nothing(objects, config.train_split)
    assert objects.side is not None
    _notes_on_objects(objects, objects_of(val_folder.records, objects.side), config)
    resize, resize_all = Resize(objects.side), ResizeAll(objects.side)
    if _fits_in_memory(config, objects):
        # Reading everything is the check of every picture.
        train_set: Dataset[Sample] = _kept(train_folder, resize, changes)
        val_set: Dataset[Sample] = _kept(val_folder, resize_all)
    else:
        if config.check:
            for folder in (train_folder, val_folder):
                check_pictures(folder)
        train_set = _changed(train_folder, v2.Compose([resize, changes]))
        val_set = _changed(val_folder, resize_all)
    return Images(train_set, val_set, train_folder.classes, objects, len(train_folder))


def objects_to_fit(config: DataConfig) -> Objects:
    """The objects of the training images alone, without reading a picture."""
    if config.data is None:
        return objects_of_scenes(InMemory(ShapesDataset(400)))
    folder = _open(config, config.train_split)
    for line in folder.dropped:
        log.warning(f"dropped: {line}")
    objects = objects_of(folder.records, config.side)
    refuse_nothing(objects, config.train_split)
    note = note_on_small(objects, config.train_split, "not looked at")
    if note:
        log.info(note)
    return objects


def _open(config: DataConfig, split: str) -> AnnotatedFolder:
    assert config.data is not None
    return open_folder(
        config.data,
        split,
        on_bad_box=config.on_bad_box,
        first_pixel=config.first_pixel,
    )


def _notes_on_folders(
    train_folder: AnnotatedFolder, val_folder: AnnotatedFolder, val_split: str
) -> None:
    unknown = sorted(set(val_folder.classes) - set(train_folder.classes))
    if unknown:
        log.info(f"note: only in {val_split}, never trained on: {', '.join(unknown)}")
    for line in dict.fromkeys(train_folder.dropped + val_folder.dropped):
        log.warning(f"dropped: {line}")


def _notes_on_objects(train: Objects, val: Objects, config: DataConfig) -> None:
    notes = [
        note_on_small(train, config.train_split, "not learnt"),
        note_on_small(val, config.val_split, "hard to find"),
    ]
    if not val.total + val.small:
        notes.append(
            f"note: no image of {config.val_split} has an object, so recall cannot be "
            "measured."
        )
    for note in notes:
        if note is not None:
            log.info(note)


def _fits_in_memory(config: DataConfig, objects: Objects) -> bool:
    area = sum(height * width for height, width in objects.sizes)
    return config.cache == "memory" or (
        config.cache == "auto" and 3 * area < CACHE_BYTES
    )


def _changed(folder: AnnotatedFolder, transform: Transform) -> AnnotatedFolder:
    """The same folder with another transform; its files are not scanned again."""
    made = copy.copy(folder)
    made.transform = transform
    return made


def _kept(
    folder: AnnotatedFolder, resize: Resize, transform: Transform | None = None
) -> InMemory:
    """A folder kept in memory; a bar moves as its images are read."""
    with _bar(len(folder), "read") as shown:
        return InMemory(_Shown(_changed(folder, resize), shown), transform)


class _Shown(Dataset[Sample]):
    def __init__(self, folder: AnnotatedFolder, shown: Bar[object]) -> None:
        self.folder, self.shown = folder, shown

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> Sample:
        self.shown.update()
        return self.folder[index]


def _bar(total: int, text: str) -> Bar[object]:
    show = rank() == 0 and sys.stderr.isatty()
    return bar(total=total, desc=text, unit="image", leave=False, show=show)


def check_pictures(folder: AnnotatedFolder) -> None:
    """Read every picture of a folder once.

    Raises:
        DataError: the first that cannot be used, and how many more there are.
    """
    problems = []
    with _bar(len(folder), "check") as shown:
        for record in folder.records:
            problems.append(picture_problem(record))
            shown.update()
    found = [problem for problem in problems if problem is not None]
    if found:
        more = f" {len(found) - 1} more." if len(found) > 1 else ""
        raise DataError(f"{found[0]}{more}")
