"""Pascal VOC: a folder with one XML file an image.

The images of a split are listed in `ImageSets/Main/SPLIT.txt`, their XML files are in
`Annotations`, the pictures in `JPEGImages`. Without lists every XML file counts, as
labelImg, Roboflow and others leave them: beside the pictures, or in a folder beside
theirs, in folders `train`, `valid` and `test` or in none.

VOC counts pixels from 1 and includes the last one, so a box `xmin, ymin, xmax, ymax`
becomes `(xmin - 1, ymin - 1, xmax, ymax)` here.

Dimension letters: see `rpn_lib.data.records`.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from rpn_lib.data.images import SUFFIXES
from rpn_lib.data.layout import (
    Pictures,
    ordered,
    picture_folders,
    subfolder,
)
from rpn_lib.data.problems import (
    LARGEST,
    Fault,
    Problem,
    leaves_folder,
    leaving_problem,
)
from rpn_lib.data.reading import Reading
from rpn_lib.data.records import (
    Found,
    Record,
    Scan,
    flag,
    make_record,
    notes_on,
    size_or_problem,
    upright_hull,
)
from rpn_lib.data.voc_files import (
    image_lists,
    read_list,
    read_xml,
    without_xml,
    xml_folders,
)
from rpn_lib.data.voc_values import (
    CORNERS,
    of_another_format,
    read_number,
    rotation_of,
    voc_fault,
)
from rpn_lib.errors import DataError

NAME = "Pascal VOC"


def recognises(root: Path) -> bool:
    """Whether a folder holds lists of VOC's, or XML files of its kind."""
    return bool(image_lists(root)) or bool(xml_folders(root))


def splits(root: Path) -> list[str]:
    """The splits of a folder; `all` where it is not split.

    Lists of a class, such as `cat_train.txt` beside `train.txt`, are no splits, and
    `trainval` is none beside `train` or `val`.
    """
    lists = image_lists(root)
    if lists:
        there = [
            name
            for name in lists
            if not ("_" in name and name.rsplit("_", 1)[1] in lists)
        ]
        if "train" in there or "val" in there:
            there = [name for name in there if name != "trainval"]
        return ordered(there)
    return ordered([split for split, _ in xml_folders(root)])


def scan(root: Path, split: str, reading: Reading) -> Scan:
    """Read a split as `rpn_lib.data.folder.Reader` says, or any list that there is."""
    reader = _Reader(root, reading)
    lists = image_lists(root)
    if lists:
        if split not in lists:
            raise DataError(
                f"{root / 'ImageSets/Main'}/{split}.txt is missing. A Pascal-VOC folder"
                " lists the images of each split there; this one has "
                f"{', '.join(sorted(lists)) or 'none'}."
            )
        listing = lists[split]
        reader.listed(listing)
    else:
        there = [path for name, path in xml_folders(root) if name == split]
        if not there:
            raise DataError(
                f"{root} has no split {split}; it has {', '.join(splits(root))}."
            )
        listing = there[0]
        reader.unlisted(there)
    return reader.result(listing)


class _Reader:
    """Goes through XML files and notes what cannot be right."""

    def __init__(self, root: Path, reading: Reading) -> None:
        self.root, self.reading = root, reading
        self.pictures = Pictures()
        self.problems: list[Problem] = []
        self.records: list[Record] = []
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        # The corners of all boxes as they stand, and the size of their image.
        self.raw: list[tuple[Sequence[float], tuple[float, float]]] = []

    def listed(self, listing: Path) -> None:
        """Read the images of a list."""
        there = subfolder(self.root, "annotations") or self.root / "Annotations"

        def is_there(line: str) -> bool:
            return not leaves_folder(line) and (there / f"{line}.xml").is_file()

        try:
            names = read_list(listing.read_text(encoding="utf-8-sig"), is_there)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{listing} is no text in UTF-8: {error}. Save it anew."
            ) from error
        picture = subfolder(self.root, "jpegimages", "images") or (
            self.root / "JPEGImages"
        )
        lines: dict[str, int] = {}
        for number, name in names:
            item = f"line {number}"
            if leaves_folder(name):
                self.problems.append(leaving_problem(str(listing), item, name))
            elif name in lines:
                fault = Fault(
                    "twice", f"{name} is named twice.", "Take one of the lines out."
                )
                self.problems.append(Problem(str(listing), fault, item))
            else:
                lines[name] = number
                self.read(there / f"{name}.xml", name, [picture])

    def unlisted(self, there: Sequence[Path]) -> None:
        """Read all XML files of folders."""
        seen: set[str] = set()
        for folder in there:
            places = picture_folders(folder)
            files = sorted(
                path for path in folder.iterdir() if path.suffix.lower() == ".xml"
            )
            stems = {path.stem for path in files}
            for path in files:
                name = path.stem
                if name in seen:
                    name = path.relative_to(self.root).with_suffix("").as_posix()
                seen.add(name)
                self.read(path, name, places, stems)
        used = {record.path for record in self.records}
        bare = without_xml(self.pictures, used, self.root)
        if bare:
            self.notes.append(
                f"{len(bare):,} pictures have no XML file and are left out, the first "
                f"is {bare[0].name}. If they show no object, write XML files without "
                "one."
            )

    def read(
        self,
        path: Path,
        name: str,
        places: Sequence[Path],
        others: set[str] | None = None,
    ) -> None:
        """Read the annotation of one image.

        Args:
            path: the XML file.
            name: what messages call the image.
            places: where its picture may lie.
            others: without lists, the names of all XML files beside it.
        """
        tree = read_xml(path, name)
        if isinstance(tree, Fault):
            self.problems.append(Problem(str(path), tree))
            return
        stem = name if others is None else path.stem
        filename = (tree.findtext("filename") or "").replace("\\", "/").split("/")[-1]
        ending = Path(filename).suffix
        picture = self.pictures.of_stem(places, stem, ending)
        # The name in the file counts where it is not that of another file's picture.
        unused = others is not None and Path(filename).stem not in others
        if picture is None and filename and unused:
            picture = self.pictures.named(places, filename)
        if picture is None:
            where = places[0].relative_to(self.root) / f"{stem}.jpg"
            fault = Fault(
                "no picture",
                f"Its picture is missing: there is no {where.as_posix()}, nor one of "
                f"{', '.join(SUFFIXES[1:])}.",
                "Copy it there, or take its name out of the split.",
            )
            self.problems.append(Problem(str(path), fault))
            return
        size = self.size(path, tree, picture)
        if size is not None:
            objects: list[Found] = []
            for number, element in enumerate(tree.iter("object")):
                objects += self.boxes(path, f"object {number}", element, size)
            self.records.append(
                make_record(name, picture, size, objects, self.reading, self.counts)
            )

    def size(self, path: Path, tree: Element, picture: Path) -> tuple[int, int] | None:
        """Height and width as the file says; if it does not, those of the picture."""
        sides = []
        for key in ("size/height", "size/width"):
            if not (tree.findtext(key) or "").strip():
                self.counts["size"] += 1
                found = size_or_problem(picture, self.reading)
                if isinstance(found, Problem):
                    self.problems.append(found)
                    return None
                return found
            value, reason = read_number(tree, key)
            if not reason and not 1 <= value <= LARGEST:
                reason = f"{key} is {value:g}."
            if reason:
                fix = "Write the size of the picture there, in pixels."
                self.problems.append(Problem(str(path), Fault("size", reason, fix)))
                return None
            sides.append(int(value))
        return sides[0], sides[1]

    def boxes(
        self, path: Path, item: str, element: Element, size: tuple[int, int]
    ) -> list[Found]:
        """The boxes of an object, one as a rule."""
        label = (element.findtext("name") or "object").strip()
        difficult, fault = flag("difficult", element.findtext("difficult"))
        if fault is not None:
            self.problems.append(Problem(str(path), fault, item, droppable=True))
            return []
        several = element.findall("bndbox") or [element]
        if len(several) > 1:
            self.counts["bndbox"] += 1
        found = []
        for number, bndbox in enumerate(several):
            where = f"{item}, bndbox {number}" if len(several) > 1 else item
            read = [read_number(bndbox, key) for key in CORNERS]
            reason = next((why for _, why in read if why), "")
            if reason:
                fix = "Write four numbers: xmin, ymin, xmax, ymax."
                if element.find("robndbox") is not None:
                    fix = "roLabelImg's robndbox is not read: write the upright box."
                fault = Fault("number", f"bndbox/{reason}", fix)
            else:
                corners = [value for value, _ in read]
                values = ", ".join(f"{value:g}" for value in corners)
                where += f" (xmin, ymin, xmax, ymax = {values})"
                self.raw.append((corners, (float(size[0]), float(size[1]))))
                fault = voc_fault(corners, size, self.reading.first_pixel)
            fault = fault or self.reading.unknown_class(label)
            if fault is not None:
                self.problems.append(Problem(str(path), fault, where, droppable=True))
                continue
            first = self.reading.first_pixel
            box = [corners[0] - first, corners[1] - first, *corners[2:]]
            turned = rotation_of(element)
            if turned:
                self.counts["rotation"] += 1
                box = upright_hull(box, turned, size)
            found.append(Found(box, label, difficult))
        return found

    def result(self, annotations: Path) -> Scan:
        """All that was read."""
        problems = of_another_format(self.problems, self.raw, self.root)
        known = sorted({label for record in self.records for label in record.classes})
        notes = self.notes + notes_on(self.counts)
        classes = list(self.reading.classes or known)
        return Scan(self.records, classes, problems, annotations, notes, self.reading)
