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
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rpn_lib.data.coco_files import (
    annotation_files,
    no_picture,
    picture_folders,
    read_json,
)
from rpn_lib.data.coco_values import (
    LOOKS_LIKE_XYXY,
    as_float,
    coco_fault,
    four_numbers,
    order_of,
    read_key,
    read_size,
    rotation_of,
    shown,
)
from rpn_lib.data.layout import (
    Pictures,
    ordered,
)
from rpn_lib.data.problems import (
    LOOKS_LIKE_SHARES,
    Fault,
    Kind,
    Problem,
    all_are_shares,
    all_fit_as_xyxy,
    clipped,
    leaves_folder,
    leaving_problem,
)
from rpn_lib.data.reading import Reading
from rpn_lib.data.records import (
    Found,
    Scan,
    flag,
    make_record,
    notes_on,
    size_or_problem,
    upright_hull,
)
from rpn_lib.errors import DataError

NAME = "COCO"


UNIQUE = "Give each an id of its own."


def recognises(root: Path) -> bool:
    """Whether a folder holds a JSON file of COCO's kind."""
    return bool(annotation_files(root)[0])


def splits(root: Path) -> list[str]:
    """The splits of a folder, one for each JSON file with boxes."""
    return ordered(list(annotation_files(root)[0]))


def scan(root: Path, split: str, reading: Reading) -> Scan:
    """Read a split as `rpn_lib.data.folder.Reader` says."""
    files, others = annotation_files(root)
    if split not in files:
        there = sorted(path.relative_to(root).as_posix() for path in files.values())
        raise DataError(
            f"{root} has no annotations of the split {split}. A COCO folder has "
            f"annotations/instances_{split}.json or {split}/_annotations.coco.json; "
            f"this one has {', '.join(there) or 'none'}."
        )
    path = files[split]
    content, fault = read_json(path)
    if fault is not None:
        return Scan([], [], [Problem(str(path), fault)], path, reading=reading)
    reader = _Reader(path, reading)
    found = reader.scan(content, picture_folders(root, split, path))
    if others:
        names = [other.relative_to(root).as_posix() for other in others[:5]]
        if len(others) > len(names):
            names.append(f"{len(others) - len(names):,} more")
        found.notes.append(f"passed over, no boxes of a split: {', '.join(names)}.")
    return found


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
            others = [p for p in self.problems if p.kind != "outside"]
            self.problems = [Problem(str(self.path), LOOKS_LIKE_XYXY), *others]
        if all_are_shares(self.raw):
            self.note("", LOOKS_LIKE_SHARES)
        records = [
            make_record(*image, found.get(key, []), self.reading, self.counts)
            for key, image in images.items()
        ]
        classes = list(dict.fromkeys(names[key] for key in sorted(names, key=order_of)))
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
            item, key, name = (
                f"category {number}",
                read_key(row.get("id")),
                row.get("name"),
            )
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
            key, name = read_key(row.get("id")), row.get("file_name")
            if key is not None:
                self.listed.add(key)
            item = f"image {number}" + (f" ({name})" if name else "")
            if key is None or not isinstance(name, str) or not name.strip():
                self.note(item, Fault("id", "It needs an id and a file_name."))
                continue
            if leaves_folder(name):
                where = f"image {number}"
                self.problems.append(leaving_problem(str(self.path), where, name))
                continue
            size, fault = read_size(row)
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
            file = self.pictures.named(places, name)
            if file is None:
                self.note(item, no_picture(self.pictures, places, name))
                continue
            if size is None:
                self.counts["size"] += 1
            found = size or size_or_problem(file, self.reading)
            if isinstance(found, Problem):
                self.problems.append(found)
            else:
                images[key] = (name, file, found)
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
            image, key = read_key(row.get("image_id")), row.get("id")
            item = f"annotation {number} (id {key})"
            if image is None or image not in self.listed:
                fault = Fault(
                    "image",
                    f"There is no image {shown(row.get('image_id'))}.",
                    "Correct image_id, or delete the annotation.",
                )
                self.note(item, fault, droppable=True)
                continue
            if image not in images:  # already reported
                continue
            name, _, size = images[image]
            item = f"annotation {number} (id {key}, image {name})"
            known = read_key(key)
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
                    item += f" [{', '.join(f'{as_float(n):g}' for n in box)}]"
                self.note(item, wrong, droppable=True)
            elif one is not None:
                found.setdefault(image, []).append(one)
        return found

    def box(
        self, row: dict[str, Any], size: tuple[int, int], names: dict[int | str, str]
    ) -> tuple[Found | None, Fault | None]:
        """One annotation, or what is wrong with it."""
        box = four_numbers(row.get("bbox"))
        if box is None:
            reason = f"bbox is {json.dumps(row.get('bbox'))[:60]}."
            fix = "Write four numbers: [x, y, width, height]."
            return None, Fault("number", reason, fix)
        category = read_key(row.get("category_id"))
        if category is None or category not in names:
            return None, Fault(
                "class",
                f"The class {shown(row.get('category_id'))} is unknown.",
                "Add it to categories, or correct category_id.",
            )
        crowd, fault = flag("iscrowd", row.get("iscrowd"))
        if fault is None:
            ignored, fault = flag("ignore", row.get("ignore"))
        if fault is not None:
            return None, fault
        x, y, w, h = box
        self.raw.append((box, (float(size[0]), float(size[1]))))
        fault = coco_fault(x, y, w, h, size)
        if fault is not None:
            return None, fault
        turned = rotation_of(row)
        corners = [x, y, x + w, y + h]
        if turned:
            self.counts["rotation"] += 1
            corners = upright_hull(corners, turned, size)
        inside = clipped(corners, size)
        if isinstance(inside, Fault):
            return None, inside
        return Found(inside, names[category], ignored, crowd), None


# Faults of numbers, which are shown with them.
SHOWN: tuple[Kind, ...] = ("not finite", "swapped", "zero", "outside")
