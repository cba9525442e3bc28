"""COCO: a folder with one JSON file a split.

Every JSON file with boxes is a split, wherever it lies: `annotations/instances_SPLIT`,
`SPLIT/_annotations.coco.json` as Roboflow exports, `SPLIT.json`, `annotations.json`.
Captions, results and settings beside it are passed over. The pictures are in `SPLIT/`,
`images/` or beside the file.

A box `x, y, width, height` becomes `(x, y, x + width, y + height)`. Crowds (`iscrowd`)
are not objects but regions to ignore: `target["ignore_boxes"]`.

Dimension letters: see `rpn_lib.data.records`.
"""

import json
import math
import mmap
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpn_lib.data.layout import (
    ALL,
    PICTURES,
    Pictures,
    folders,
    matching_split,
    ordered,
    split_of,
    subfolder,
)
from rpn_lib.data.problems import (
    Fault,
    Kind,
    Problem,
    all_fit_as_xyxy,
    box_problem,
    leaves_folder,
    leaving_problem,
)
from rpn_lib.data.records import (
    Found,
    Reading,
    Scan,
    flag,
    make_record,
    notes_on,
    upright_hull,
)
from rpn_lib.errors import DataError

NAME = "COCO"

# COCO's own files have boxes that reach out by parts of a pixel, from rounding.
COCO_TOLERANCE = 1.0

ROBOFLOW = "_annotations.coco"

# Words in the name of a file that say what it is, not which split it belongs to.
WORDS = ("instances", "annotations", "annotation", "coco", "labels", "person", "data")

UNIQUE = "Give each an id of its own."


def recognises(root: Path) -> bool:
    """Whether a folder holds a JSON file of COCO's kind."""
    return bool(_files(root)[0])


def splits(root: Path) -> list[str]:
    """The splits of a folder, one for each JSON file with boxes."""
    return ordered(list(_files(root)[0]))


def scan(root: Path, split: str, reading: Reading) -> Scan:
    """Read the annotations of a split.

    Args:
        root: the folder.
        split: one of `splits`.
        reading: how to understand them.

    Raises:
        DataError: no such split.
    """
    files, others = _files(root)
    if split not in files:
        there = sorted(path.relative_to(root).as_posix() for path in files.values())
        raise DataError(
            f"{root} has no annotations of the split {split}. A COCO folder has "
            f"annotations/instances_{split}.json or {split}/_annotations.coco.json; "
            f"this one has {', '.join(there) or 'none'}."
        )
    path = files[split]
    content, fault = _read_json(path)
    if fault is not None:
        return Scan([], [], [Problem(str(path), fault)], path, reading=reading)
    reader = _Reader(path, reading)
    found = reader.scan(content, _picture_folders(root, split, path))
    if others:
        names = [other.relative_to(root).as_posix() for other in others[:5]]
        if len(others) > len(names):
            names.append(f"{len(others) - len(names):,} more")
        found.notes.append(f"passed over, no boxes of a split: {', '.join(names)}.")
    return found


def _files(root: Path) -> tuple[dict[str, Path], list[Path]]:
    """The file of each split, and the JSON files that are none."""
    named: dict[str, list[Path]] = {}
    others: list[Path] = []
    for folder, names in folders(root, depth=2):
        for name in names:
            if not name.lower().endswith(".json"):
                continue
            path = folder / name
            split = _split_name(path.relative_to(root))
            if _is_canonical(path) or _has_boxes(path):
                named.setdefault(split, []).append(path)
            else:
                others.append(path)
    files: dict[str, Path] = {}
    for split, paths in named.items():
        paths.sort(key=lambda path: not _is_canonical(path))
        files[split] = paths[0]
        rest = paths[1:]
        keypoints = [path for path in rest if "keypoints" in path.stem.lower()]
        others += keypoints
        for path in rest:
            if path not in keypoints:
                files[path.relative_to(root).with_suffix("").as_posix()] = path
    return files, sorted(others)


def _is_canonical(path: Path) -> bool:
    return path.stem.startswith("instances_") or path.stem == ROBOFLOW


def _split_name(path: Path) -> str:
    """What a file below the root holds, by its name or that of its folder.

    >>> [_split_name(Path(name)) for name in ("annotations/instances_val2017.json",
    ...     "valid/_annotations.coco.json", "annotations.json", "train_coco.json")]
    ['val2017', 'valid', 'all', 'train']
    """
    words = [
        word
        for word in re.split(r"[_\-. ]+", path.stem)
        if word and word.lower() not in (*WORDS, "keypoints")
    ]
    return "_".join(words) or split_of(path.parent.parts) or ALL


def _has_boxes(path: Path) -> bool:
    """Whether a JSON file holds lists of images and of boxes, without reading it in."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if any(content.find(key) < 0 for key in (b'"images"', b'"annotations"')):
                return False
            return content.find(b'"bbox"') >= 0 or (
                content.find(b'"categories"') >= 0 and content.find(b'"caption"') < 0
            )
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _picture_folders(root: Path, split: str, path: Path) -> list[Path]:
    """Where the pictures of a file may lie, the likeliest first."""
    if path.stem == ROBOFLOW:
        return [path.parent]
    images = subfolder(root, *PICTURES, "data")
    found = [root / split]
    for base in (images, root):
        if base is not None:
            below = [one.name for one in base.iterdir() if one.is_dir()]
            same = matching_split(split, below)
            found += [base / same] if same else []
            found.append(base)
    beside = subfolder(path.parent, *PICTURES, "data")
    found += [path.parent, *([beside] if beside else [])]
    return list(dict.fromkeys(found))


def _read_json(path: Path) -> tuple[dict[str, list[Any]], Fault | None]:
    def refused(reason: str, fix: str) -> tuple[dict[str, list[Any]], Fault]:
        return {}, Fault("unreadable", reason, fix)

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


def _whole(value: object) -> int | None:
    """A whole number, also one that a tool wrote as `"7"` or `7.0`.

    >>> _whole("7"), _whole(7.0), _whole("seven"), _whole(True)
    (7, 7, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+(\.0*)?\s*", value):
        return int(float(value)) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _key(value: object) -> int | str | None:
    """What an id is compared by: 7, 7.0 and "7" are the same."""
    number = _whole(value)
    return value if number is None and isinstance(value, str) else number


class _Reader:
    """Goes through a COCO file and notes what cannot be right."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path, self.reading = path, reading
        self.problems: list[Problem] = []
        self.counts: Counter[str] = Counter()
        self.pictures = Pictures()
        # All boxes as they stand, and the size of their image.
        self.raw: list[tuple[Sequence[float], tuple[float, float]]] = []
        self.listed: set[int | str] = set()

    def note(self, item: str, fault: Fault, droppable: bool = False) -> None:
        self.problems.append(Problem(str(self.path), fault, item, droppable))

    def scan(self, content: dict[str, list[Any]], places: list[Path]) -> Scan:
        names = self.categories(content["categories"])
        images = self.images(content["images"], places)
        found = self.boxes(content["annotations"], images, names)
        if all_fit_as_xyxy(self.raw):
            fault = Fault(
                "format",
                "The boxes look like two corners: read so, every one lies in its "
                "image; read as x, y, width and height, some reach outside.",
                "COCO's bbox is [x, y, width, height]: convert all of them.",
            )
            others = [p for p in self.problems if p.kind != "outside"]
            self.problems = [Problem(str(self.path), fault), *others]
        records = [
            make_record(*image, found.get(key, []), self.reading, self.counts)
            for key, image in images.items()
        ]
        classes = list(dict.fromkeys(names[key] for key in sorted(names, key=_order)))
        return Scan(
            records,
            classes,
            self.problems,
            self.path,
            notes_on(self.counts),
            self.reading,
        )

    def categories(self, rows: list[Any]) -> dict[int | str, str]:
        names: dict[int | str, str] = {}
        for number, row in enumerate(rows):
            item, key, name = f"category {number}", _key(row.get("id")), row.get("name")
            if key is None or not isinstance(name, str):
                self.note(item, Fault("id", "It needs an id and a name."))
            elif key in names:
                reason = f"The id {key} is taken by {names[key]!r}."
                self.note(item, Fault("id", reason, UNIQUE))
            elif (unknown := self.reading.unknown_class(name)) is not None:
                self.note(item, unknown, droppable=True)
            else:
                names[key] = name
        return names

    def images(
        self, rows: list[Any], places: list[Path]
    ) -> dict[int | str, tuple[str, Path, tuple[int, int]]]:
        images: dict[int | str, tuple[str, Path, tuple[int, int]]] = {}
        seen: set[str] = set()
        for number, row in enumerate(rows):
            key, name = _key(row.get("id")), row.get("file_name")
            if key is not None:
                self.listed.add(key)
            item = f"image {number}" + (f" ({name})" if name else "")
            if key is None or not isinstance(name, str):
                self.note(item, Fault("id", "It needs an id and a file_name."))
                continue
            if leaves_folder(name):
                self.problems.append(
                    leaving_problem(str(self.path), f"image {number}", name)
                )
                continue
            size, fault = _size(row)
            name = name.replace("\\", "/")
            if fault is None and key in images:
                fault = Fault("id", f"The id {key} is taken by another image.", UNIQUE)
            if fault is None and name in seen:
                fault = Fault(
                    "twice",
                    "The same picture is listed twice.",
                    "Its boxes must all belong to one image: merge the two.",
                )
            if fault is not None:
                self.note(item, fault)
                continue
            seen.add(name)
            there = (self.pictures.named(place, name) for place in places)
            file = next((path for path in there if path is not None), None)
            if file is None:
                fault = Fault(
                    "no picture",
                    "The picture is missing; it is not in "
                    f"{', '.join(str(place) for place in places)}.",
                    "Copy it there, or take the image out of the file.",
                )
                self.note(item, fault)
                continue
            images[key] = (name, file, size)
        return images

    def boxes(
        self,
        rows: list[Any],
        images: dict[int | str, tuple[str, Path, tuple[int, int]]],
        names: dict[int | str, str],
    ) -> dict[int | str, list[Found]]:
        found: dict[int | str, list[Found]] = {}
        seen: set[int | str] = set()
        for number, row in enumerate(rows):
            image, key = _key(row.get("image_id")), row.get("id")
            item = f"annotation {number} (id {key})"
            if image is None or image not in self.listed:
                fault = Fault(
                    "image",
                    f"There is no image {row.get('image_id')!r}.",
                    "Correct image_id, or delete the annotation.",
                )
                self.note(item, fault, droppable=True)
                continue
            if image not in images:  # already reported
                continue
            name, _, size = images[image]
            item = f"annotation {number} (id {key}, image {name})"
            known = _key(key)
            if (key is not None and known is None) or known in seen:
                fault = Fault("id", f"The id {key} is taken already.", UNIQUE)
                self.note(item, fault, droppable=True)
                continue
            if known is not None:
                seen.add(known)
            one, wrong = self.box(row, size, names)
            if wrong is not None:
                box = row.get("bbox")
                if wrong.kind in SHOWN:
                    item += f" [{', '.join(f'{n:g}' for n in box)}]"
                self.note(item, wrong, droppable=True)
            elif one is not None:
                found.setdefault(image, []).append(one)
        return found

    def box(
        self, row: dict[str, Any], size: tuple[int, int], names: dict[int | str, str]
    ) -> tuple[Found | None, Fault | None]:
        """One annotation, or what is wrong with it."""
        box = row.get("bbox")
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(n, int | float) for n in box)
        ):
            fix = "Write four numbers: [x, y, width, height]."
            return None, Fault("number", f"bbox is {json.dumps(box)[:60]}.", fix)
        category = _key(row.get("category_id"))
        if category is None or category not in names:
            return None, Fault(
                "class",
                f"The class {row.get('category_id')!r} is unknown.",
                "Add it to categories, or correct category_id.",
            )
        crowd, fault = flag("iscrowd", row.get("iscrowd"))
        if fault is None:
            ignored, fault = flag("ignore", row.get("ignore"))
        if fault is not None:
            return None, fault
        self.raw.append((box, (float(size[0]), float(size[1]))))
        x, y, w, h = (float(n) for n in box)
        fault = _box_fault(x, y, w, h, size)
        if fault is not None:
            return None, fault
        turned = _rotation(row)
        corners = [x, y, x + w, y + h]
        if turned:
            self.counts["rotation"] += 1
            corners = upright_hull(corners, turned, size)
        x1, y1 = max(corners[0], 0.0), max(corners[1], 0.0)
        x2 = min(corners[2], float(size[1]))
        y2 = min(corners[3], float(size[0]))
        if x1 >= x2 or y1 >= y2:
            return None, Fault("outside", "It lies outside the image.", "Delete it.")
        return Found([x1, y1, x2, y2], names[category], ignored, crowd), None


# Faults of numbers, which are shown with them.
SHOWN: tuple[Kind, ...] = ("not finite", "swapped", "zero", "outside")


def _box_fault(
    x: float, y: float, w: float, h: float, size: tuple[int, int]
) -> Fault | None:
    if all(map(math.isfinite, (x, y, w, h))) and (w < 0 or h < 0):
        return Fault(
            "swapped",
            f"The {'width' if w < 0 else 'height'} is negative.",
            "COCO's bbox is [x, y, width, height]: are these two corners?",
        )
    corners = [x, y, x + w, y + h]
    if not all(map(math.isfinite, (w, h))):  # infinite less infinite is no number
        corners = [x, y, w, h]
    return box_problem(corners, size, tolerance=COCO_TOLERANCE)


def _size(row: dict[str, Any]) -> tuple[tuple[int, int], Fault | None]:
    height, width = _whole(row.get("height")), _whole(row.get("width"))
    if height is not None and width is not None and min(height, width) >= 1:
        return (height, width), None
    return (0, 0), Fault(
        "size",
        f"height and width are {row.get('height')!r} and {row.get('width')!r}.",
        "Write the size of the picture there, in pixels.",
    )


def _rotation(row: dict[str, Any]) -> float:
    """Degrees by which CVAT turned a box, 0 where nothing is noted."""
    attributes = row.get("attributes")
    value = attributes.get("rotation") if isinstance(attributes, dict) else None
    try:
        degrees = float(value) if value is not None else 0.0
    except (TypeError, ValueError):
        return 0.0
    return degrees if math.isfinite(degrees) else 0.0


def _order(key: int | str) -> tuple[bool, int | str]:
    return isinstance(key, str), key
