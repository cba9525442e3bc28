"""YOLO: a folder with one text file an image, a row for each object.

`images/` beside `labels/`, with the splits above or below them, or the text files
beside the pictures. `data.yaml`, where it is there, names the splits and the classes;
without it the folders do, and classes have numbers (or the names of `classes.txt`).

A row is `class cx cy w h`, as shares of the width and the height of the picture. Rows
of polygons and of turned boxes (`class x1 y1 x2 y2 x3 y3 ...`) give the upright box
around them, rows of key points (`class cx cy w h x1 y1 v1 ...`) the box they start
with. An empty or missing text file is a picture without objects.

Dimension letters: see `rpn_lib.data.records`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rpn_lib.data.images import SUFFIXES, PictureError, image_size
from rpn_lib.data.layout import ALL, SPLITS, canonical, folders, ordered, split_of
from rpn_lib.data.problems import Fault, Problem, box_problem
from rpn_lib.data.records import (
    Found,
    Reading,
    Record,
    Scan,
    make_record,
    notes_on,
    unreadable_problem,
)
from rpn_lib.errors import DataError

NAME = "YOLO"

TOLERANCE = 1.0  # pixels; rows are rounded to few digits

# Text files that are no labels.
NAMES = ("classes.txt", "obj.names", "classes.names", "labels.txt")


@dataclass
class _Layout:
    """What a folder says about itself.

    Attributes:
        pictures: of each split.
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


def recognises(root: Path) -> bool:
    """Whether a folder holds `data.yaml`, or text files with rows of YOLO's kind."""
    return _yaml(root) is not None or _has_rows(root)


def splits(root: Path) -> list[str]:
    """The splits of a folder; `all` where it is not split."""
    return ordered(list(_layout(root).pictures))


def scan(root: Path, split: str, reading: Reading) -> Scan:
    """Read the annotations of a split.

    Args:
        root: the folder.
        split: one of `splits`.
        reading: how to understand them.

    Raises:
        DataError: no such split.
    """
    layout = _layout(root)
    if split not in layout.pictures:
        raise DataError(
            f"{layout.source} has no split {split}; it has "
            f"{', '.join(ordered(list(layout.pictures))) or 'none with pictures'}."
        )
    reader = _Reader(root, layout, reading)
    faults = [*layout.faults, *layout.missing.get(split, [])]
    reader.problems += [Problem(str(layout.source), fault) for fault in faults]
    for picture in layout.pictures[split]:
        reader.read(picture)
    return reader.result()


def _yaml(root: Path) -> dict[str, Any] | None:
    path = _yaml_path(root)
    return None if path is None else _read_yaml(path)


def _yaml_path(root: Path) -> Path | None:
    """`data.yaml`, or another file of that kind that names splits and classes."""
    files = sorted(
        (path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml")),
        key=lambda path: (path.stem != "data", path.name),
    )
    for path in files:
        content = _read_yaml(path)
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


def _has_rows(root: Path) -> bool:
    """Whether the first text files with something in them hold rows of numbers."""
    for folder, files in folders(root):
        looked_at = 0
        for name in files:
            if not name.lower().endswith(".txt") or name in NAMES:
                continue
            if (
                folder.name.lower() == "labels"
                or "labels" in folder.parts
                or any((folder / name).with_suffix(end).is_file() for end in SUFFIXES)
            ):
                if _first_row(folder / name):
                    return True
                looked_at += 1
                if looked_at >= 100:
                    break
    return False


def _first_row(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            words = file.readline().split()
        return len(words) >= 5 and all(math.isfinite(float(w)) for w in words)
    except (OSError, ValueError):
        return False


def _layout(root: Path) -> _Layout:
    path = _yaml_path(root)
    if path is None:
        return _Layout(_found_pictures(root), _listed_classes(root), root)
    content = _read_yaml(path) or {}
    layout = _Layout({}, {}, path)
    layout.classes = _classes(content, layout.faults)
    base = _resolved(root, root, str(content.get("path") or ".")) or root
    for split in ("train", "val", "valid", "test"):
        entries = content.get(split)
        if not entries:
            continue
        pictures: list[Path] = []
        missing = layout.missing.setdefault(canonical(split), [])
        for entry in entries if isinstance(entries, list) else [entries]:
            place = _resolved(root, base, str(entry))
            if place is None:
                missing.append(
                    Fault(
                        "no picture",
                        f"{split}: there is no {entry} in {base}.",
                        "Correct the path; nothing outside the data folder is read.",
                    )
                )
            elif place.is_dir():
                pictures += _pictures_below(place)
            else:
                pictures += _named_pictures(root, base, place, missing)
        # Tools name a folder for test even where they write none.
        if pictures or split != "test":
            layout.pictures[canonical(split)] = pictures
    shape = content.get("kpt_shape")
    if isinstance(shape, list) and all(isinstance(n, int) for n in shape):
        layout.key_points = math.prod(shape)
    if not layout.pictures:
        layout.pictures = _found_pictures(root)
    return layout


def _classes(content: dict[str, Any], faults: list[Fault]) -> dict[int, str]:
    """The names of the classes, and what is wrong with them."""
    names, number = content.get("names"), content.get("nc")
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
    elif names is None and isinstance(number, int):
        classes = {i: str(i) for i in range(number)}
    if isinstance(number, int) and classes and len(classes) != number:
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
    pictures = []
    for number, line in enumerate(listing.read_text("utf-8-sig").splitlines(), 1):
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


def label_file(picture: Path) -> Path:
    """The text file of a picture: in `labels` instead of the last `images`.

    >>> label_file(Path("a/images/train/b.jpg")).as_posix()
    'a/labels/train/b.txt'
    """
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() == "images":
            parts[i] = "Labels" if parts[i] == "Images" else "labels"
            return Path(*parts).with_suffix(".txt")
    return picture.with_suffix(".txt")


def read_row(
    words: Sequence[str], key_points: int = 0
) -> tuple[int, list[float], bool] | Fault:
    """The class and the box of a row, in shares of the picture.

    Args:
        words: of the row.
        key_points: numbers behind the box in rows of key points; 0 if not known.

    Returns:
        class, `x1, y1, x2, y2`, and whether it is the hull of a polygon; or what is
        wrong.

    >>> read_row("2 0.5 0.5 0.2 0.4".split())
    (2, [0.4, 0.3, 0.6, 0.7], False)
    >>> read_row("0 0.1 0.2 0.5 0.2 0.3 0.9".split())
    (0, [0.1, 0.2, 0.5, 0.9], True)
    """
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return Fault(
            "number",
            f"{' '.join(words)[:60]!r} are not numbers alone.",
            "A row is: class cx cy w h, with spaces between them.",
        )
    if not all(map(math.isfinite, numbers)):
        return Fault("not finite", "A number is not finite.", "Delete or correct it.")
    if len(numbers) < 5 or not numbers[0].is_integer():
        return Fault(
            "row",
            f"{' '.join(words)[:60]!r} is no row of YOLO's.",
            "A row is: class cx cy w h, or a class and the corners of a polygon.",
        )
    label, values = int(numbers[0]), numbers[1:]
    is_polygon = len(values) >= 6 and len(values) % 2 == 0
    if len(values) > 4 and (
        (key_points and len(values) == 4 + key_points)
        or (not is_polygon and (len(values) - 4) % 3 == 0)
    ):
        values, is_polygon = values[:4], False
    if len(values) != 4 and not is_polygon:
        return Fault(
            "row",
            f"It has {len(numbers)} numbers.",
            "A row is: class cx cy w h. A sixth number is the score of a prediction: "
            "these are not annotations.",
        )
    if max(values) > 1.5:
        return Fault(
            "format",
            f"A coordinate is {max(values):g}, above 1.",
            "YOLO's coordinates are shares of the width and the height: are these "
            "pixels? Divide them.",
        )
    if is_polygon:
        xs, ys = values[::2], values[1::2]
        return label, [min(xs), min(ys), max(xs), max(ys)], True
    cx, cy, w, h = values
    if w < 0 or h < 0:
        name = "width" if w < 0 else "height"
        return Fault("swapped", f"The {name} is negative.", "Draw the box anew.")
    return label, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], False


class _Reader:
    """Goes through the text files and notes what cannot be right."""

    def __init__(self, root: Path, layout: _Layout, reading: Reading) -> None:
        self.root, self.layout, self.reading = root, layout, reading
        self.problems: list[Problem] = []
        self.records: list[Record] = []
        self.counts: Counter[str] = Counter()
        self.missing = 0
        self.numbers: set[int] = set()

    def read(self, picture: Path) -> None:
        """Read the annotation of one picture."""
        try:
            size = image_size(picture, self.reading.exif, self.reading.max_pixels)
        except PictureError as error:
            self.problems.append(unreadable_problem(picture, error))
            return
        path = label_file(picture)
        found: list[Found] = []
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            lines = []
            self.missing += 1
        except (OSError, UnicodeDecodeError) as error:
            fault = Fault("unreadable", f"It cannot be read: {error}.", "Save it anew.")
            self.problems.append(Problem(str(path), fault))
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                one = self.row(line.split(), size)
                if isinstance(one, Fault):
                    problem = Problem(str(path), one, f"line {number}", droppable=True)
                    self.problems.append(problem)
                else:
                    found.append(one)
        name = picture.relative_to(self.root).as_posix()
        self.records.append(
            make_record(name, picture, size, found, self.reading, self.counts)
        )

    def row(self, words: list[str], size: tuple[int, int]) -> Found | Fault:
        """One object, or what is wrong with it."""
        row = read_row(words, self.layout.key_points)
        if isinstance(row, Fault):
            return row
        number, shares, is_polygon = row
        classes = self.layout.classes
        if number < 0 or (classes and number not in classes):
            known = f"0 to {max(classes)}" if classes else "0 and above"
            return Fault(
                "class",
                f"The class {number} is unknown.",
                f"{self.layout.source.name} has {known}: correct the number or add it.",
            )
        label = classes.get(number, str(number))
        fault = self.reading.unknown_class(label)
        if fault is not None:
            return fault
        height, width = size
        x1, y1, x2, y2 = (
            share * side for share, side in zip(shares, (width, height) * 2)
        )
        fault = box_problem([x1, y1, x2, y2], size, tolerance=TOLERANCE)
        if fault is not None:
            return fault
        box = [
            max(x1, 0.0),
            max(y1, 0.0),
            min(x2, float(width)),
            min(y2, float(height)),
        ]
        if box[0] >= box[2] or box[1] >= box[3]:
            return Fault("outside", "It lies outside the image.", "Delete it.")
        self.counts["polygon"] += is_polygon
        self.numbers.add(number)
        return Found(box, label)

    def result(self) -> Scan:
        """All that was read."""
        layout = self.layout
        numbers = sorted(layout.classes) or sorted(self.numbers)
        names = [layout.classes.get(number, str(number)) for number in numbers]
        notes = notes_on(self.counts)
        if self.missing:
            notes.append(
                f"{self.missing:,} of {len(self.records):,} pictures have no text file:"
                " they are read as pictures without objects."
            )
        wanted = self.reading.classes
        return Scan(
            self.records,
            list(wanted or dict.fromkeys(names)),
            self.problems,
            layout.source,
            notes,
            self.reading,
        )
