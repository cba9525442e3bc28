"""Folders of annotated photographs of either kind, and the check of a whole folder.

Dimension letters: see `rpn_lib.data.records`.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from rpn_lib.data.coco import CocoFolder, json_files, scan_coco
from rpn_lib.data.problems import Problem
from rpn_lib.data.records import (
    AnnotatedFolder,
    OnBadBox,
    Record,
    Scan,
    Transform,
    picture_problem,
)
from rpn_lib.data.voc import VOCFolder, scan_voc
from rpn_lib.errors import DataError


def is_coco(root: str | Path) -> bool:
    """Whether a folder is laid out as COCO's rather than Pascal VOC's.

    Args:
        root: the folder.

    Raises:
        DataError: it is neither.

    >>> is_coco("nowhere")
    Traceback (most recent call last):
    rpn_lib.errors.DataError: nowhere is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder.")
    if (root / "ImageSets").is_dir() or (root / "Annotations").is_dir():
        return False
    if any(path.suffix == ".json" for path in json_files(root)):
        return True
    raise DataError(
        f"{root} holds no annotations. A Pascal-VOC folder has ImageSets/Main/train.txt"
        ", Annotations and JPEGImages; a COCO folder has annotations/*.json, or "
        "train/_annotations.coco.json, and the images."
    )


def scan_folder(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    first_pixel: Literal[0, 1] = 1,
) -> Scan:
    """Read the annotations of a split of a folder of either kind, images not.

    Args:
        root: the folder.
        split: see `VOCFolder` and `CocoFolder`.
        classes: the names that objects may have; any if not given.
        first_pixel: see `VOCFolder`.

    Raises:
        DataError: no such folder or split.
    """
    if is_coco(root):
        return scan_coco(Path(root), split, classes)
    return scan_voc(Path(root), split, classes, first_pixel)


def open_folder(
    root: str | Path,
    split: str,
    transform: Transform | None = None,
    on_bad_box: OnBadBox = "error",
    classes: Sequence[str] | None = None,
    first_pixel: Literal[0, 1] = 1,
) -> AnnotatedFolder:
    """A `VOCFolder` or a `CocoFolder`, whichever the folder is.

    Args and errors are theirs.

    >>> open_folder("nowhere", "train")
    Traceback (most recent call last):
    rpn_lib.errors.DataError: nowhere is no folder.
    """
    if is_coco(root):
        return CocoFolder(root, split, transform, on_bad_box, classes)
    return VOCFolder(root, split, transform, on_bad_box, classes, first_pixel)


def check_folder(
    root: str | Path,
    splits: Sequence[str],
    *,
    decode: bool = True,
    classes: Sequence[str] | None = None,
    first_pixel: Literal[0, 1] = 1,
    progress: Callable[[list[Record]], Iterable[Record]] = iter,
) -> tuple[list[Problem], str]:
    """Check every annotation and every picture of a folder.

    Args:
        root: the folder.
        splits: the splits to look at.
        decode: see `picture_problem`.
        classes: the names that objects may have; any if not given.
        first_pixel: see `VOCFolder`.
        progress: wraps the list of images that is gone through, for a bar.

    Returns:
        all problems, and a sentence on what was looked at.

    Raises:
        DataError: no such folder or split.
    """
    problems: list[Problem] = []
    images = boxes = 0
    seen: dict[Path, str] = {}
    for split in splits:
        scan = scan_folder(root, split, classes, first_pixel)
        problems += scan.problems
        for record in progress(scan.records):
            problem = picture_problem(record, decode)
            if problem is not None:
                problems.append(problem)
            if record.path in seen and seen[record.path] != split:
                problems.append(
                    Problem(
                        str(scan.annotations),
                        f"{record.name} is in {seen[record.path]} too.",
                        "What is measured on images that were trained on says "
                        "nothing: keep each image in one split.",
                    )
                )
            seen.setdefault(record.path, split)
            images += 1
            boxes += len(record.boxes)
    return problems, f"{images:,} images, {boxes:,} boxes."
