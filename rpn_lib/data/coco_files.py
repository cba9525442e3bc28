"""Which JSON files are COCO's, of which split, and where their pictures lie."""

import json
import mmap
import re
from pathlib import Path
from typing import Any

from rpn_lib.data.layout import (
    ALL,
    PICTURES,
    Pictures,
    folders,
    matching_split,
    split_of,
    subfolder,
)
from rpn_lib.data.problems import (
    Fault,
)

ROBOFLOW = "_annotations.coco"


# Words in the name of a file that say what it is, not which split it belongs to.
WORDS = ("instances", "annotations", "annotation", "coco", "labels", "person", "data")


# What such names begin with where they hold annotations for another task; beside
# instances files they are no splits. datumaro's export to COCO writes all of them.
OTHER_TASKS = ("stuff", "image_info", "panoptic", "captions", "keypoints")


def annotation_files(root: Path) -> tuple[dict[str, Path], list[Path]]:
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
    if any(_is_canonical(path) for paths in named.values() for path in paths):
        for split in [name for name in named if name.startswith(OTHER_TASKS)]:
            others += named.pop(split)
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


def picture_folders(root: Path, split: str, path: Path) -> list[Path]:
    """Where the pictures of a file may lie, the likeliest first."""
    if path.stem == ROBOFLOW:
        return [path.parent]
    images = subfolder(root, *PICTURES, "data")
    found = [root / split]
    inside = subfolder(root / split, *PICTURES)
    found += [inside] if inside else []
    for base in (images, root):
        if base is not None:
            below = [one.name for one in base.iterdir() if one.is_dir()]
            same = matching_split(split, below)
            found += [base / same] if same else []
            found.append(base)
    beside = subfolder(path.parent, *PICTURES, "data")
    found += [path.parent, *([beside] if beside else [])]
    return list(dict.fromkeys(found))


def no_picture(pictures: Pictures, places: list[Path], name: str) -> Fault:
    """A picture that lies in none of the places, and what to do about it."""
    where = ", ".join(str(place) for place in places)
    reason = f"The picture is missing; it is not in {where}."
    near = pictures.in_other_case(places, name)
    if near is not None:
        fix = f"There is {near}: write its name in the same capitals."
        return Fault("no picture", reason, fix)
    fix = "Copy it there, or take the image out of the file."
    return Fault("no picture", reason, fix)


def read_json(path: Path) -> tuple[dict[str, list[Any]], Fault | None]:
    """The content of an annotation file, and what is wrong with it as a whole."""

    def refused(reason: str, fix: str) -> tuple[dict[str, list[Any]], Fault]:
        return {}, Fault("unreadable", reason, fix)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        return refused(
            f"It is no JSON: {error}.", "Export or download the annotations anew."
        )
    except (RecursionError, ValueError, OSError) as error:  # no UTF-8, huge numbers
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
