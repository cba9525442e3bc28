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

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rpn_lib.data.layout import Pictures, ordered
from rpn_lib.data.problems import Fault, Problem, box_problem, clipped
from rpn_lib.data.reading import Reading
from rpn_lib.data.records import (
    Found,
    Record,
    Scan,
    make_record,
    notes_on,
    size_or_problem,
)
from rpn_lib.data.yolo_layout import (
    Layout,
    has_rows,
    read_layout,
    yaml_path,
)
from rpn_lib.data.yolo_rows import first_row, label_file, read_row
from rpn_lib.errors import DataError

NAME = "YOLO"

MOST_CLASSES = 2**31  # where nobody names them; a larger number is none of a class

TOLERANCE = 1.0  # pixels; rows are rounded to few digits


def recognises(root: Path) -> bool:
    """Whether a folder holds `data.yaml`, or text files with rows of YOLO's kind."""
    return yaml_path(root) is not None or has_rows(root)


def splits(root: Path) -> list[str]:
    """The splits of a folder; `all` where it is not split."""
    return ordered(list(read_layout(root).pictures))


def scan(root: Path, split: str, reading: Reading) -> Scan:
    """Read a split as `rpn_lib.data.folder.Reader` says."""
    layout = read_layout(root)
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


class _Reader:
    """Goes through the text files and notes what cannot be right."""

    def __init__(self, root: Path, layout: Layout, reading: Reading) -> None:
        self.root, self.layout, self.reading = root, layout, reading
        self.problems: list[Problem] = []
        self.records: list[Record] = []
        self.texts = Pictures()  # text files are found as pictures are
        self.counts: Counter[str] = Counter()
        self.missing = 0
        self.pictures_of: dict[Path, list[Path]] = {}  # of each text file
        self.warnings: list[Problem] = []
        self.places: set[tuple[Path, Path]] = set()  # of text files and of pictures
        self.numbers: set[int] = set()

    def read(self, picture: Path) -> None:
        """Read the annotation of one picture."""
        size = size_or_problem(picture, self.reading)
        if isinstance(size, Problem):
            self.problems.append(size)
            return
        path = label_file(picture)
        path = self.texts.named([path.parent], path.name) or path
        there = self.pictures_of.setdefault(path, [])
        if picture in there:
            self.counts["twice"] += 1
            return
        there.append(picture)
        self.places.add((path.parent, picture.parent))
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
        if number < 0 or number not in (classes or range(MOST_CLASSES)):
            known = max(classes, default=MOST_CLASSES - 1)
            return Fault(
                "class",
                f"The class {number} is unknown.",
                f"{self.layout.source.name} has 0 to {known}: correct the number or "
                "add it."
                if classes
                else f"Without names, 0 to {known:,} are taken for classes.",
            )
        label = classes.get(number, str(number))
        fault = self.reading.unknown_class(label)
        if fault is not None:
            return fault
        height, width = size
        corners = [share * side for share, side in zip(shares, (width, height) * 2)]
        fault = box_problem(corners, size, tolerance=TOLERANCE)
        if fault is not None:
            return fault
        inside = clipped(corners, size)
        if isinstance(inside, Fault):
            return inside
        self.counts["polygon"] += is_polygon
        self.numbers.add(number)
        return Found(inside, label)

    def orphans(self) -> list[str]:
        """Text files with rows whose picture is not there."""
        pictures = Pictures()
        return [
            path.relative_to(self.root).as_posix()
            for labels, place in sorted(self.places)
            for path in sorted(labels.glob("*.txt"))
            if pictures.of_stem([place], path.stem) is None and first_row(path)
        ]

    def shared(self, path: Path, pictures: Sequence[Path]) -> None:
        """Warn of a text file that belongs to several pictures."""
        names = [picture.relative_to(self.root).as_posix() for picture in pictures]
        fault = Fault(
            "shared",
            f"{' and '.join(names)} have this one text file: each gets all its boxes.",
            "If they show the same, delete one; if not, give them names that differ "
            "in more than the ending, and a text file each.",
        )
        self.warnings.append(Problem(str(path), fault))

    def result(self) -> Scan:
        """All that was read."""
        layout = self.layout
        numbers = sorted(layout.classes) or sorted(self.numbers)
        names = [layout.classes.get(number, str(number)) for number in numbers]
        notes = notes_on(self.counts)
        for path, pictures in self.pictures_of.items():
            if len(pictures) > 1 and path.is_file() and path.read_bytes().strip():
                self.shared(path, pictures)
        if self.missing:
            notes.append(
                f"{self.missing:,} of {len(self.records):,} pictures have no text file:"
                " they are read as pictures without objects."
            )
        orphans = self.orphans()
        if orphans:
            notes.append(
                f"{len(orphans):,} text files have no picture and are left out, the "
                f"first is {orphans[0]}."
            )
        wanted = self.reading.classes
        return Scan(
            self.records,
            list(wanted or dict.fromkeys(names)),
            self.problems,
            layout.source,
            notes,
            self.reading,
            self.warnings,
        )
