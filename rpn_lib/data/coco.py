"""COCO: a folder with one JSON file a split.

Dimension letters: see `rpn_lib.data.records`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rpn_lib.data.problems import Problem, all_fit_as_xyxy, box_problem, leaves_folder
from rpn_lib.data.records import (
    AnnotatedFolder,
    OnBadBox,
    Record,
    Scan,
    Transform,
    leaving_problem,
)
from rpn_lib.errors import DataError

# COCO's own files have boxes that reach out by parts of a pixel, from rounding.
COCO_TOLERANCE = 1.0


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
    rpn_lib.errors.DataError: nowhere has no annotations of the split train. A COCO...
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


def json_files(root: Path, split: str = "*") -> list[Path]:
    """Where the annotations of a split may stand; with `*` those that are there.

    >>> [str(path) for path in json_files(Path("a"), "val")][1]
    'a/annotations/val.json'
    """
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
    files = [] if leaves_folder(split) else json_files(root, split)
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        there = sorted(str(file.relative_to(root)) for file in json_files(root))
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
                self.problems.append(
                    leaving_problem(str(self.path), f"image {number}", name)
                )
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
