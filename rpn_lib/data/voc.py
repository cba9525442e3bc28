"""Pascal VOC: a folder with one XML file an image.

Dimension letters: see `rpn_lib.data.records`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import torch
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from rpn_lib.data.images import SUFFIXES
from rpn_lib.data.problems import Problem, all_fit_as_xywh, box_problem, leaves_folder
from rpn_lib.data.records import (
    AnnotatedFolder,
    OnBadBox,
    Record,
    Scan,
    Transform,
    leaving_problem,
)
from rpn_lib.errors import DataError


class VOCFolder(AnnotatedFolder):
    """Photographs with Pascal-VOC annotations: one XML file an image.

    The folder holds `JPEGImages`, `Annotations` and `ImageSets/Main/SPLIT.txt`, which
    lists the names of a split. VOC counts pixels from 1 and includes the last one, so a
    box `xmin, ymin, xmax, ymax` becomes `(xmin - 1, ymin - 1, xmax, ymax)` here.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or whatever `ImageSets/Main` offers.
        transform: called with image and target, for instance a `transforms.v2.Resize`.
        on_bad_box: `error` refuses a box without area, with a side turned round or
            outside its image; `drop` leaves it out and lists it in `dropped`.
        classes: the names that objects may have; any if not given.
        first_pixel: 1, or 0 for tools that count from 0 and exclude the last pixel.

    Attributes:
        names: the images of the split.
        classes: names of the classes found, sorted; labels count from 1 in this order.
        records: the annotation of each image.
        dropped: what was wrong with each box that was left out.

    Raises:
        DataError: a missing folder or file, XML that cannot be read, a bad box; the
            message names the file. Annotations are all read at the start, images when
            asked for.

    >>> VOCFolder("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.DataError: nowhere/ImageSets/Main/train.txt is missing. A Pascal...
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Transform | None = None,
        on_bad_box: OnBadBox = "error",
        classes: Sequence[str] | None = None,
        first_pixel: Literal[0, 1] = 1,
    ) -> None:
        self.root = Path(root)
        self.on_bad_box = on_bad_box
        scan = scan_voc(self.root, split, classes, first_pixel)
        super().__init__(scan, transform, on_bad_box)


def scan_voc(
    root: Path,
    split: str,
    classes: Sequence[str] | None = None,
    first_pixel: Literal[0, 1] = 1,
) -> Scan:
    """Read the annotations of a split of a Pascal-VOC folder; see `VOCFolder`."""
    if first_pixel not in (0, 1):
        raise DataError(f"first_pixel is 0 or 1, not {first_pixel!r}.")
    listing = root / "ImageSets" / "Main" / f"{split}.txt"
    if leaves_folder(split) or not listing.is_file():
        there = sorted(path.stem for path in listing.parent.glob("*.txt"))
        raise DataError(
            f"{listing} is missing. A Pascal-VOC folder lists the images of each "
            f"split there; this one has {', '.join(there) or 'none'}."
        )
    # A line may hold a flag after the name, as in VOC's lists of single classes.
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{listing} is no text in UTF-8: {error}.") from error
    names = [line.split()[0] for line in lines if line.strip()]
    problems: list[Problem] = []
    records: list[Record] = []
    raw: list[tuple[Sequence[float], tuple[float, float]]] = []
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if leaves_folder(name):
            problem = leaving_problem(str(listing), f"line {number}", name)
        elif name in seen:
            problem = Problem(
                str(listing),
                f"{name} is named twice.",
                "Take one of the lines out.",
                f"line {number}",
            )
        else:
            problem = None
            seen.add(name)
        if problem is not None:
            problems.append(problem)
            continue
        record, found, numbers = _read_voc(root, name, classes, first_pixel)
        problems += found
        raw += numbers
        if record is not None:
            records.append(record)
    if all_fit_as_xywh(raw):
        problems = _as_xywh(problems, str(root / "Annotations"))
    known = sorted({label for record in records for label in record.classes})
    return Scan(records, list(classes or known), problems, listing)


def _as_xywh(problems: list[Problem], where: str) -> list[Problem]:
    """One message for the data set in place of one for every box that happens to show.

    The boxes whose corners happen to be in order would be silently wrong.
    """
    return [
        Problem(
            where,
            "The boxes look like x, y, width and height: read so, every one lies in "
            "its image; read as two corners, some have their corners swapped.",
            "Convert all of them: xmax = xmin + width - 1, ymax = ymin + height - 1.",
        ),
        *(problem for problem in problems if " is less than " not in problem.reason),
    ]


def _read_voc(
    root: Path, name: str, classes: Sequence[str] | None, first_pixel: int
) -> tuple[
    Record | None, list[Problem], list[tuple[Sequence[float], tuple[float, float]]]
]:
    """An annotation, its problems, and the corners of its boxes as they stand."""
    path = root / "Annotations" / f"{name}.xml"

    def refused(
        reason: str, fix: str
    ) -> tuple[None, list[Problem], list[tuple[Sequence[float], tuple[float, float]]]]:
        return None, [Problem(str(path), reason, fix)], []

    try:
        tree: Element = parse(path).getroot()
    except FileNotFoundError:
        return refused(
            "The file is missing.",
            f"Annotate {name}, or take it out of the split; for an image without "
            "objects write a file without object.",
        )
    except ParseError as error:
        return refused(
            f"It is not well-formed XML: {error}.", "Export the annotation anew."
        )
    except DefusedXmlException as error:
        return refused(
            f"It holds entities or refers to other files ({type(error).__name__}).",
            "Such XML can fill the memory or read files, and annotations need none of "
            "it: take the DOCTYPE out.",
        )
    except (OSError, LookupError, ValueError) as error:
        return refused(f"It cannot be read: {error}.", "Save it anew, in UTF-8.")
    sides = []
    for key in ("size/height", "size/width"):
        value, reason = _number(tree, key)
        if not reason and not 1 <= value < math.inf:
            reason = f"{key} is {value:g}."
        if reason:
            return refused(reason, "Write the size of the picture there, in pixels.")
        sides.append(int(value))
    size = (sides[0], sides[1])
    picture = _picture(root / "JPEGImages", name, tree.findtext("filename"))
    if picture is None:
        return refused(
            f"Its picture is missing: there is no JPEGImages/{name}.jpg, nor one of "
            f"{', '.join(SUFFIXES[1:])}.",
            "Copy it there, or take its name out of the split.",
        )
    boxes: list[list[float]] = []
    labels: list[str] = []
    problems: list[Problem] = []
    raw: list[tuple[Sequence[float], tuple[float, float]]] = []
    for number, element in enumerate(tree.iter("object")):
        item = f"object {number}"
        keys = ("xmin", "ymin", "xmax", "ymax")
        read = [_number(element, f"bndbox/{key}") for key in keys]
        reason = next((why for _, why in read if why), "")
        fix = "Write four numbers: xmin, ymin, xmax, ymax."
        label = (element.findtext("name") or "object").strip()
        if not reason:
            xmin, ymin, xmax, ymax = corners = [value for value, _ in read]
            values = ", ".join(f"{value:g}" for value in corners)
            item += f" (xmin, ymin, xmax, ymax = {values})"
            raw.append((corners, (float(size[0]), float(size[1]))))
            reason, fix = _voc_problem(corners, size, first_pixel)
        if not reason and classes is not None and label not in classes:
            reason = f"The class {label!r} is unknown."
            fix = f"Known are {', '.join(classes)}: correct the name, or add it."
        if reason:
            problems.append(Problem(str(path), reason, fix, item, droppable=True))
            continue
        boxes.append([xmin - first_pixel, ymin - first_pixel, xmax, ymax])
        labels.append(label)
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    none = torch.zeros(0, 4)
    return Record(name, picture, size, tensor, labels, none), problems, raw


def _voc_problem(
    corners: Sequence[float], size: tuple[int, int], first_pixel: int
) -> tuple[str, str]:
    """What is wrong with a box as Pascal VOC writes it: reason and fix, or nothing."""
    names = ("xmin", "ymin", "xmax", "ymax")
    xmin, ymin, xmax, ymax = corners
    # A box of one point, xmin = xmax, is one pixel wide in VOC's way of counting, but
    # it marks no object: it is what a slip of the mouse leaves behind.
    reason, fix = box_problem(corners, (math.inf, math.inf), names, tolerance=math.inf)
    if reason:
        return reason, fix
    if first_pixel and -1 < min(xmin, ymin) < 1:
        return (
            f"{'xmin' if xmin < 1 else 'ymin'} is below 1, and VOC counts pixels from "
            "1.",
            "If the tool that wrote the file counts from 0, read it with first_pixel=0 "
            "(--first-pixel 0).",
        )
    return box_problem([xmin - first_pixel, ymin - first_pixel, xmax, ymax], size)


def _number(element: Element, key: str) -> tuple[float, str]:
    """A number of an annotation, and why it cannot be one."""
    text = element.findtext(key)
    if text is None or not text.strip():
        return math.nan, f"{key} is missing."
    try:
        return float(text), ""
    except ValueError:
        return math.nan, f"{key} is {text!r}, which is no number."


def _picture(folder: Path, name: str, filename: str | None) -> Path | None:
    """The picture of that name, whatever its ending."""
    endings = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]
    noted = Path(filename or "").suffix
    if noted.lower() in SUFFIXES:  # where there are two, the annotation knows which
        endings.insert(0, noted)
    for ending in endings:
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    return None
