"""Folders of annotated photographs: Pascal VOC and COCO.

Reading has two steps. A scan goes through all annotations, notes everything that
cannot be right (`rpn_lib.validate`) and touches no picture; pictures are read when they
are asked for. torchvision's `VOCDetection` and `CocoDetection` read the same files but
check nothing in them; for files without faults the boxes are the same, but for VOC's
count from 1, which torchvision keeps.

Dimension letters: H, W height and width of an image; G true boxes of an image; I
regions of it that are ignored.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.etree.ElementTree import Element, ParseError

import torch
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from rpn_lib.images import SUFFIXES, image_size, read_image
from rpn_lib.validate import (
    DataError,
    Problem,
    all_fit_as_xywh,
    all_fit_as_xyxy,
    box_problem,
    leaves_folder,
)

Target = dict[str, Any]
Sample = tuple[Tensor, Target]
Transform = Callable[[Tensor, Target], Sample]
OnBadBox = Literal["error", "drop"]

# COCO's own files have boxes that reach out by parts of a pixel, from rounding.
COCO_TOLERANCE = 1.0


class Record(NamedTuple):
    """The annotation of one image.

    Attributes:
        name: what messages call it.
        path: the picture.
        size: `(height, width)` as the annotation says, pixels.
        boxes: `(G, 4)`, float32, xyxy, pixels from 0.
        classes: of each box.
        crowds: `(I, 4)`, the same of regions that hold objects nobody has drawn.
    """

    name: str
    path: Path
    size: tuple[int, int]
    boxes: Tensor
    classes: list[str]
    crowds: Tensor


class Scan(NamedTuple):
    """All annotations of a split, and what is wrong with them.

    Attributes:
        records: the images.
        classes: names of the classes; labels count from 1 in this order.
        problems: what cannot be right.
        annotations: the file or folder that the annotations come from.
    """

    records: list[Record]
    classes: list[str]
    problems: list[Problem]
    annotations: Path


def make_target(
    boxes: Tensor,
    labels: Sequence[int],
    image_id: str,
    image: Tensor,
    crowds: Tensor | None = None,
) -> Target:
    """A target as torchvision's `transforms.v2` expects it.

    Args:
        boxes: `(G, 4)`, xyxy, pixels.
        labels: G classes, from 1.
        image_id: what to call the image in a message.
        image: `(3, H, W)`.
        crowds: `(I, 4)`, regions to ignore; no entry of the target if not given.

    >>> target = make_target(torch.zeros(0, 4), [], "a", torch.zeros(3, 4, 6))
    >>> sorted(target), target["boxes"].canvas_size
    (['boxes', 'image_id', 'labels'], (4, 6))
    """
    size = tuple(image.shape[-2:])

    def as_boxes(values: Tensor) -> Tensor:
        wrapped: Tensor = tv_tensors.BoundingBoxes(
            values.reshape(-1, 4).float(), format="XYXY", canvas_size=size
        )
        return wrapped

    target: Target = {
        "boxes": as_boxes(boxes),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
    }
    if crowds is not None:
        target["ignore_boxes"] = as_boxes(crowds)
    return target


class AnnotatedFolder(Dataset[Sample]):
    """What VOC and COCO folders have in common: a scan, and pictures when asked for.

    Attributes:
        names: the images of the split.
        classes: names of the classes; labels count from 1 in this order.
        records: the annotation of each image.
        dropped: what was wrong with each box that was left out.
    """

    def __init__(
        self, scan: Scan, transform: Transform | None, on_bad_box: OnBadBox
    ) -> None:
        if on_bad_box not in ("error", "drop"):
            raise DataError(f'on_bad_box is "error" or "drop", not {on_bad_box!r}.')
        fatal = [
            problem
            for problem in scan.problems
            if on_bad_box == "error" or not problem.droppable
        ]
        if fatal:
            text = str(fatal[0])
            if fatal[0].droppable:
                text += (
                    ' Or leave such boxes out with on_bad_box="drop" (--on-bad-box '
                    "drop)."
                )
            if len(fatal) > 1:
                text += f" {len(fatal) - 1} more: rpn check lists them all."
            raise DataError(text)
        if not scan.records:
            raise DataError(f"{scan.annotations} names no image.")
        self.records = scan.records
        self.classes = scan.classes
        self.names = [record.name for record in scan.records]
        self.dropped = [str(problem) for problem in scan.problems]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """Read image `index`."""
        record = self.records[index]
        image = tv_tensors.Image(read_image(record.path))
        found: tuple[int, int] = tuple(image.shape[1:])
        if found != record.size:
            raise DataError(str(_size_problem(record, found)))
        labels = [self.classes.index(name) + 1 for name in record.classes]
        crowds = record.crowds if self.has_crowds else None
        target = make_target(record.boxes, labels, record.name, image, crowds)
        return self.transform(image, target) if self.transform else (image, target)

    has_crowds = False


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
    rpn_lib.validate.DataError: nowhere/ImageSets/Main/train.txt is missing. A Pascal...
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


class CocoFolder(AnnotatedFolder):
    """Photographs with COCO annotations: one JSON file a split.

    The JSON file is the first of these that is there, and the pictures lie beside it:

    - `annotations/instances_SPLIT.json`, pictures in `SPLIT/` or `images/`, as COCO;
    - `annotations/SPLIT.json`, pictures in `SPLIT/` or `images/`;
    - `SPLIT/_annotations.coco.json`, pictures in `SPLIT/`, as Roboflow exports;
    - `SPLIT.json`, pictures in `SPLIT/`, `images/` or the folder itself.

    A box `x, y, width, height` becomes `(x, y, x + width, y + height)`. Crowds
    (`iscrowd`) are not objects but regions to ignore: `target["ignore_boxes"]`.

    Args:
        root: the folder.
        split: `train`, `val2017` or whatever the files are called.
        transform: called with image and target, for instance a `transforms.v2.Resize`.
        on_bad_box: as of `VOCFolder`.
        classes: the names that categories may have; any if not given.

    Attributes:
        names: the images of the split.
        classes: names of the categories by id; labels count from 1 in this order.
        records: the annotation of each image.
        dropped: what was wrong with each box that was left out.

    Raises:
        DataError: as of `VOCFolder`.

    >>> CocoFolder("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.validate.DataError: nowhere has no annotations of the split train. A COCO...
    """

    has_crowds = True

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Transform | None = None,
        on_bad_box: OnBadBox = "error",
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.on_bad_box = on_bad_box
        super().__init__(scan_coco(self.root, split, classes), transform, on_bad_box)


def is_coco(root: str | Path) -> bool:
    """Whether a folder is laid out as COCO's rather than Pascal VOC's.

    Args:
        root: the folder.

    Raises:
        DataError: it is neither.

    >>> is_coco("nowhere")
    Traceback (most recent call last):
    rpn_lib.validate.DataError: nowhere is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder.")
    if (root / "ImageSets").is_dir() or (root / "Annotations").is_dir():
        return False
    if any(path.suffix == ".json" for path in _json_files(root)):
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
    rpn_lib.validate.DataError: nowhere is no folder.
    """
    if is_coco(root):
        return CocoFolder(root, split, transform, on_bad_box, classes)
    return VOCFolder(root, split, transform, on_bad_box, classes, first_pixel)


def picture_problem(record: Record, decode: bool = True) -> Problem | None:
    """What is wrong with the picture of an annotation, or `None`.

    Args:
        record: of a scan.
        decode: read all of the picture, which alone shows that it is truncated; if not,
            only its size.
    """
    try:
        if decode:
            height, width = read_image(record.path).shape[1:]
        else:
            height, width = image_size(record.path)
    except DataError as error:
        reason = str(error).removeprefix(f"{record.path} ")
        return Problem(
            str(record.path),
            f"It {reason}" if reason.startswith("cannot") else reason,
            "Copy or export the picture anew, or take its name out of the split.",
        )
    if (height, width) != record.size:
        return _size_problem(record, (height, width))
    return None


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


def _size_problem(record: Record, found: tuple[int, int]) -> Problem:
    height, width = record.size
    return Problem(
        str(record.path),
        f"It is {found[1]} x {found[0]} pixels, but its annotation says {width} x "
        f"{height}.",
        "One of them was resized or turned without the other.",
    )


# Pascal VOC


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
            problem = _leaving(str(listing), f"line {number}", name)
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


def _leaving(file: str, item: str, name: str) -> Problem:
    return Problem(
        file,
        f"{name!r} points out of the data folder.",
        "Nothing outside it is read: copy the picture into it and name it there.",
        item,
    )


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


# COCO


def _json_files(root: Path, split: str = "*") -> list[Path]:
    """Where the annotations of a split may stand; with `*` those that are there."""
    patterns = (
        f"annotations/instances_{split}.json",
        f"annotations/{split}.json",
        f"{split}/_annotations.coco.json",
        f"{split}.json",
    )
    if split == "*":
        return [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return [root / pattern for pattern in patterns]


def scan_coco(root: Path, split: str, classes: Sequence[str] | None = None) -> Scan:
    """Read the annotations of a split of a COCO folder; see `CocoFolder`."""
    files = [] if leaves_folder(split) else _json_files(root, split)
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        there = sorted(str(file.relative_to(root)) for file in _json_files(root))
        raise DataError(
            f"{root} has no annotations of the split {split}. A COCO folder has "
            f"annotations/instances_{split}.json or {split}/_annotations.coco.json; "
            f"this one has {', '.join(there) or 'none'}."
        )
    content, problem = _read_json(path)
    if problem is not None:
        return Scan([], [], [problem], path)
    reader = _CocoReader(path, classes)
    return reader.scan(content, _picture_folders(root, split, path))


def _picture_folders(root: Path, split: str, path: Path) -> list[Path]:
    if path.name == "_annotations.coco.json":
        return [path.parent]
    return [root / split, root / "images" / split, root / "images", root]


def _read_json(path: Path) -> tuple[dict[str, list[Any]], Problem | None]:
    def refused(reason: str, fix: str) -> tuple[dict[str, list[Any]], Problem]:
        return {}, Problem(str(path), reason, fix)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        return refused(
            f"It is no JSON: {error}.", "Export or download the annotations anew."
        )
    except (RecursionError, UnicodeDecodeError, OSError) as error:
        return refused(
            f"It cannot be read as JSON: {error or type(error).__name__}.",
            "Export or download the annotations anew.",
        )
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict):
        return refused("It holds no object at its top.", "COCO has {...} there.")
    for part in parts:
        rows = content.get(part)
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            return refused(
                f'It has no list of objects "{part}".',
                f"COCO's annotations have {', '.join(parts)}; is it a file of results "
                "or captions?",
            )
    return content, None


class _CocoReader:
    """Goes through a COCO file and notes what cannot be right."""

    def __init__(self, path: Path, classes: Sequence[str] | None) -> None:
        self.path = path
        self.known = classes
        self.problems: list[Problem] = []

    def note(
        self, item: str, reason: str, fix: str = "", droppable: bool = False
    ) -> None:
        self.problems.append(Problem(str(self.path), reason, fix, item, droppable))

    def scan(self, content: dict[str, list[Any]], folders: list[Path]) -> Scan:
        names = self.categories(content["categories"])
        images = self.images(content["images"], folders)
        boxes = self.boxes(content["annotations"], images, names)
        if all_fit_as_xyxy([(box, images[image].size) for image, box in self.raw]):
            self.problems = [
                Problem(
                    str(self.path),
                    "The boxes look like two corners: read so, every one lies in its "
                    "image; read as x, y, width and height, some reach outside.",
                    "COCO's bbox is [x, y, width, height]: convert all of them.",
                ),
                *(p for p in self.problems if " outside the image" not in p.reason),
            ]
        records = []
        for key, record in images.items():
            objects = [one for one in boxes.get(key, []) if not one[2]]
            crowds = [one[0] for one in boxes.get(key, []) if one[2]]
            records.append(
                record._replace(
                    boxes=torch.tensor([box for box, _, _ in objects]).reshape(-1, 4),
                    classes=[name for _, name, _ in objects],
                    crowds=torch.tensor(crowds).reshape(-1, 4),
                )
            )
        found = [names[key] for key in sorted(names)]
        return Scan(records, list(dict.fromkeys(found)), self.problems, self.path)

    def categories(self, rows: list[Any]) -> dict[Any, str]:
        names: dict[Any, str] = {}
        for number, row in enumerate(rows):
            item, key, name = f"category {number}", row.get("id"), row.get("name")
            if not isinstance(key, int) or not isinstance(name, str):
                self.note(item, "It needs a whole number as id, and a name.")
            elif key in names:
                self.note(item, f"The id {key} is taken by {names[key]!r}.", UNIQUE)
            elif self.known is not None and name not in self.known:
                self.note(
                    item,
                    f"The class {name!r} is unknown.",
                    f"Known are {', '.join(self.known)}: correct the name, or add it.",
                    droppable=True,
                )
            else:
                names[key] = name
        return names

    def images(self, rows: list[Any], folders: list[Path]) -> dict[Any, Record]:
        images: dict[Any, Record] = {}
        seen: set[str] = set()
        none = torch.zeros(0, 4)
        for number, row in enumerate(rows):
            key, name = row.get("id"), row.get("file_name")
            item = f"image {number}" + (f" ({name})" if name else "")
            sides = row.get("height"), row.get("width")
            if not isinstance(key, int | str) or not isinstance(name, str):
                self.note(item, "It needs an id and a file_name.")
                continue
            if not all(isinstance(n, int) and n >= 1 for n in sides):
                self.note(
                    item,
                    f"height and width are {sides[0]!r} and {sides[1]!r}.",
                    "Write the size of the picture there, in pixels.",
                )
                continue
            if key in images:
                self.note(item, f"The id {key} is taken by another image.", UNIQUE)
                continue
            if leaves_folder(name):
                self.problems.append(_leaving(str(self.path), f"image {number}", name))
                continue
            if name in seen:
                self.note(
                    item,
                    "The same picture is listed twice.",
                    "Its boxes must all belong to one image: merge the two.",
                )
                continue
            seen.add(name)
            file = next((f / name for f in folders if (f / name).is_file()), None)
            if file is None:
                self.note(
                    item,
                    "The picture is missing; it is not in "
                    f"{', '.join(str(folder) for folder in folders)}.",
                    "Copy it there, or take the image out of the file.",
                )
                continue
            images[key] = Record(name, file, (sides[0], sides[1]), none, [], none)
        self.listed = {row.get("id") for row in rows if _hashable(row.get("id"))}
        return images

    def boxes(
        self, rows: list[Any], images: dict[Any, Record], names: dict[Any, str]
    ) -> dict[Any, list[tuple[list[float], str, bool]]]:
        boxes: dict[Any, list[tuple[list[float], str, bool]]] = {}
        self.raw: list[tuple[Any, Sequence[float]]] = []
        seen: set[Any] = set()
        for number, row in enumerate(rows):
            image, key, box = row.get("image_id"), row.get("id"), row.get("bbox")
            item = f"annotation {number} (id {key})"
            if not _hashable(image) or image not in self.listed:
                self.note(
                    item,
                    f"There is no image {image!r}.",
                    "Correct image_id, or delete the annotation.",
                    droppable=True,
                )
                continue
            if image not in images:  # already reported
                continue
            item = f"annotation {number} (id {key}, image {images[image].name})"
            if not _hashable(key) or (key is not None and key in seen):
                self.note(item, f"The id {key} is taken already.", UNIQUE, True)
                continue
            seen.add(key)
            if not (
                isinstance(box, list)
                and len(box) == 4
                and all(isinstance(n, int | float) for n in box)
            ):
                self.note(
                    item,
                    f"bbox is {json.dumps(box)[:60]}.",
                    "Write four numbers: [x, y, width, height].",
                    droppable=True,
                )
                continue
            category = row.get("category_id")
            if not _hashable(category) or category not in names:
                self.note(
                    item,
                    f"The class {category!r} is unknown.",
                    "Add it to categories, or correct category_id.",
                    droppable=True,
                )
                continue
            size = images[image].size
            self.raw.append((image, box))
            x, y, w, h = (float(n) for n in box)
            corners = [x, y, x + w, y + h]
            item += f" [{', '.join(f'{n:g}' for n in box)}]"
            reason, fix = box_problem(corners, size, tolerance=COCO_TOLERANCE)
            if w < 0 or h < 0:
                reason = f"The {'width' if w < 0 else 'height'} is negative."
                fix = "COCO's bbox is [x, y, width, height]: are these two corners?"
            if reason:
                self.note(item, reason, fix, droppable=True)
                continue
            x1, y1 = max(x, 0.0), max(y, 0.0)
            x2, y2 = min(x + w, float(size[1])), min(y + h, float(size[0]))
            if x1 >= x2 or y1 >= y2:
                self.note(item, "It lies outside the image.", "Delete it.", True)
                continue
            one = ([x1, y1, x2, y2], names[category], bool(row.get("iscrowd", 0)))
            boxes.setdefault(image, []).append(one)
        return boxes


UNIQUE = "Give each an id of its own."


def _hashable(value: object) -> bool:
    return value is None or isinstance(value, int | float | str)
