"""Where pictures and text files of a YOLO folder lie, and what `data.yaml` says.

Dimension letters: see `rpn_lib.data.records`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rpn_lib.data.images import SUFFIXES
from rpn_lib.data.layout import ALL, SPLITS, canonical, folders, split_of
from rpn_lib.data.problems import Fault
from rpn_lib.data.records import whole
from rpn_lib.data.yolo_rows import first_row

MOST_NUMBERED = 10**6  # classes that `nc` may count without naming them

# Text files that are no labels.
NAMES = ("classes.txt", "obj.names", "classes.names", "labels.txt")


@dataclass
class Layout:
    """What a folder says about itself.

    Attributes:
        pictures: the pictures of each split.
        classes: their names by number; empty where nobody names them.
        key_points: numbers of a row of key points behind its box; 0 if not known.
        source: the file or folder that says so.
        faults: what is wrong with all of it.
        missing: what is not where it should be, of each split.
    """

    pictures: dict[str, list[Path]]
    classes: dict[int, str]
    source: Path
    key_points: int = 0
    faults: list[Fault] = field(default_factory=list)
    missing: dict[str, list[Fault]] = field(default_factory=dict)


def yaml_path(root: Path) -> Path | None:
    """`data.yaml`, or another file of that kind that names splits and classes."""
    files = sorted(
        (path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml")),
        key=lambda path: (path.stem != "data", path.name),
    )
    for path in files:
        content = _read_yaml(path)
        if content is None and path.stem == "data":
            return path  # damaged, which `read_layout` says
        if content is not None and ("names" in content or "nc" in content):
            return path
    return None


def _read_yaml(path: Path) -> dict[str, Any] | None:
    import yaml  # only where there is such a file

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def has_rows(root: Path) -> bool:
    """Whether the first text files with something in them hold rows of numbers."""
    for folder, files in folders(root):
        looked_at = 0
        pictures = {Path(x).stem for x in files if Path(x).suffix.lower() in SUFFIXES}
        for name in files:
            if not name.lower().endswith(".txt") or name in NAMES:
                continue
            if (
                folder.name.lower() == "labels"
                or "labels" in folder.parts
                or Path(name).stem in pictures
            ):
                if first_row(folder / name):
                    return True
                looked_at += 1
                if looked_at >= 100:
                    break
    return False


def read_layout(root: Path) -> Layout:
    """What `data.yaml` says, or where there is none, what the folders say."""
    path, content = _darknet(root)
    classes = _listed_classes(root)
    faults: list[Fault] = []
    yaml_file = yaml_path(root)
    if yaml_file is not None:
        path, content = yaml_file, _read_yaml(yaml_file) or {}
        if not content:
            reason = "It is no YAML that names splits."
            faults.append(Fault("unreadable", reason, "Correct it."))
        classes = _classes(content, faults)
    layout = Layout({}, classes, path, faults=faults)
    base = _resolved(root, root, str(content.get("path") or ".")) or root
    for split in ("train", "val", "valid", "validation", "test"):
        entries = content.get(split)
        if not entries:
            continue
        missing = layout.missing.setdefault(canonical(split), [])
        pictures = [
            picture
            for entry in (entries if isinstance(entries, list) else [entries])
            for picture in _pictures_of(root, base, f"{split}: ", str(entry), missing)
        ]
        # Tools name a folder for test even where they write none.
        if pictures or split != "test":
            layout.pictures[canonical(split)] = pictures
    shape = content.get("kpt_shape")
    if isinstance(shape, list) and all(isinstance(n, int) for n in shape):
        layout.key_points = math.prod(shape)
    if not layout.pictures:
        layout.pictures = _found_pictures(root)
    return layout


def _darknet(root: Path) -> tuple[Path, dict[str, Any]]:
    """`obj.data`, in which darknet and CVAT name a list of pictures for each split.

    If there is none with lists that are here, the folder itself, which says nothing.
    """
    for path in sorted(root.glob("*.data")):
        lines = path.read_text("utf-8-sig", errors="replace").splitlines()
        pairs = (line.split("=", 1) for line in lines if "=" in line)
        content = {key.strip().lower(): value.strip() for key, value in pairs}
        splits = [key for key in content if canonical(key) in SPLITS]
        lists = {x: content[x] for x in splits if _resolved(root, root, content[x])}
        if {"train", "val"} <= {*map(canonical, lists)}:
            return path, lists
    return root, {}


def _pictures_of(
    root: Path, base: Path, where: str, entry: str, faults: list[Fault]
) -> list[Path]:
    """The pictures of an entry: a folder, a list in a text file, or a picture."""
    place = _resolved(root, base, entry)
    if place is None:
        reason = f"{where}there is no {entry} in {base}."
        fix = "Correct the path; nothing outside the data folder is read."
        faults.append(Fault("no picture", reason, fix))
        return []
    if place.is_dir():
        return _pictures_below(place)
    if place.suffix.lower() in SUFFIXES:
        return [place]
    return _named_pictures(root, base, place, faults)


def _classes(content: dict[str, Any], faults: list[Fault]) -> dict[int, str]:
    """The names of the classes, and what is wrong with them."""
    names, noted = content.get("names"), content.get("nc")
    number = whole(noted)
    classes: dict[int, str] = {}
    if isinstance(names, list):
        classes = {i: str(name) for i, name in enumerate(names)}
    elif isinstance(names, dict):
        try:
            classes = {int(key): str(name) for key, name in names.items()}
        except (TypeError, ValueError):
            faults.append(
                Fault("class", "names: a key is no whole number.", "Number them.")
            )
    elif names is not None:
        reason = f"names is {str(names)[:60]!r}."
        faults.append(Fault("class", reason, "Write a list, or a number for each."))
    elif number is not None and 0 <= number <= MOST_NUMBERED:
        classes = {i: str(i) for i in range(number)}
    elif noted is not None:
        fix = "Write how many classes there are."
        faults.append(Fault("class", f"nc is {str(noted)[:60]}.", fix))
    if number is not None and classes and len(classes) != number:
        faults.append(
            Fault(
                "class",
                f"nc is {number}, but there are {len(classes)} names.",
                "Correct one of them.",
            )
        )
    return classes


def _resolved(root: Path, base: Path, entry: str) -> Path | None:
    """Where an entry of `data.yaml` leads, inside the folder.

    The paths are often those of another machine, or one folder off (`../train/images`
    beside `train/images`): the longest end of them that is there counts. A last part
    alone must name a split: `images` may hold all of them.
    """
    parts = [
        part
        for part in PurePosixPath(entry.replace("\\", "/")).parts
        if part not in ("..", ".", "/")
    ]
    if not parts:
        return base
    for start in range(len(parts)):
        is_last = 0 < start == len(parts) - 1
        if is_last and canonical(Path(parts[start]).stem) not in SPLITS:
            break
        for above in (base, root):
            path = above.joinpath(*parts[start:])
            if path.exists():
                return path
    return None


def _pictures_below(folder: Path) -> list[Path]:
    return [
        path / name
        for path, names in folders(folder, depth=8)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]


def _named_pictures(
    root: Path, base: Path, listing: Path, faults: list[Fault]
) -> list[Path]:
    """The pictures of a text file with one path a line."""
    pictures: list[Path] = []
    try:
        lines = listing.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{listing.name} is no list of pictures: {error}."
        faults.append(Fault("unreadable", reason, "Write a path a line, in UTF-8."))
        return []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path = _resolved(root, base, line.strip())
        if path is None or not path.is_file():
            faults.append(
                Fault(
                    "no picture",
                    f"{listing.name}, line {number}: there is no {line.strip()}.",
                    "Copy it there, or take the line out.",
                )
            )
        else:
            pictures.append(path)
    return pictures


def _found_pictures(root: Path) -> dict[str, list[Path]]:
    """All pictures by the folders that they lie in."""
    found: dict[str | None, list[Path]] = {}
    for path in _pictures_below(root):
        split = split_of(path.relative_to(root).parts[:-1])
        found.setdefault(split, []).append(path)
    rest = found.pop(None, [])
    if not found:
        return {ALL: rest} if rest else {}
    return {name: found[name] for name in found if name is not None}


def _listed_classes(root: Path) -> dict[int, str]:
    for folder in (root, root / "labels"):
        for name in NAMES:
            path = folder / name
            if path.is_file():
                lines = path.read_text("utf-8-sig", errors="replace").splitlines()
                return dict(enumerate(line.strip() for line in lines if line.strip()))
    return {}
