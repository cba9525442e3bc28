"""Annotations that are not read, recognised by what is in the files."""

import csv
from collections.abc import Callable
from pathlib import Path

from rpn_lib.data.layout import folders

HEAD = 65536  # bytes of a file that are looked at

# Each tool here was run on a small sample, and `rpn check` read what it wrote.
GLOBOX = "with globox (pip install globox): globox convert"

TO_COCO = "--save_fmt coco --coco_auto_ids"

LABELME = (
    f"LabelMe. Convert it {GLOBOX} FOLDER annotations.json --format labelme {TO_COCO}."
)

CVAT = (
    'CVAT\'s own XML. Export the task from CVAT as "COCO 1.0" instead; or, where it '
    "holds images with upright boxes alone, neither tracks nor turned ones, convert it "
    f"{GLOBOX} annotations.xml annotations.json --format cvat {TO_COCO}."
)

VIA = (
    "VIA (VGG Image Annotator). Open the project in VIA, or import the file there, and "
    'export it to COCO ("Export Annotations (COCO format)"), which takes only regions '
    "whose class is an option of a dropdown or radio attribute; or, where regions are "
    "rectangles with the class in the attribute label_id, convert the JSON file "
    f"{GLOBOX} FILE annotations.json --format via-json --img_folder FOLDER {TO_COCO}."
)

CREATEML = (
    "CreateML. The page on running of the book (book/running.md) has a script of a few "
    "lines that converts it to COCO."
)

CSV = (
    "a table of boxes (CSV). With the columns filename, width, height, class, xmin, "
    'ymin, xmax and ymax imgann converts it (pip install imgann): python -c "from '
    "imgann import Convertor; Convertor.csv2coco('.', 'labels.csv', "
    "'annotations.json', center=False)\"."
)

TFRECORD = (
    "TFRecord. Convert it with datumaro (pip install datumaro[cli,tf]): datum convert "
    "-if tf_detection_api -i FOLDER -f coco_instances -o converted -- --save-media "
    "(-if roboflow_tfrecord for an export of Roboflow)."
)


# Of a project, of annotations, of images without any, and of a project of VIA 3.
VIA_KEYS = ('"_via_', '"shape_attributes"', '"file_attributes"', '"vid_list"')

VIA_TABLES = ("region_shape_attributes", "# CSV_HEADER = metadata_id")


def foreign_format(root: Path) -> str:
    """Which format a folder holds and how it becomes one that is read; or nothing.

    >>> foreign_format(Path("nowhere"))
    ''
    """
    for folder, names in folders(root):
        for name in names:
            path = folder / name
            recognise = SUSPECTS.get(path.suffix.lower())
            found = recognise and recognise(path)
            if found:
                return f"{path} looks like {found}"
    return ""


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(HEAD).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> str:
    text = _head(path)
    if '"shapes"' in text and '"imagePath"' in text:
        return LABELME
    if any(key in text for key in VIA_KEYS):
        return VIA
    if '"annotations"' in text and '"coordinates"' in text:
        return CREATEML
    return ""


def _xml(path: Path) -> str:
    return CVAT if "<annotations>" in _head(path) else ""


def _csv(path: Path) -> str:
    text = _head(path)
    if any(words in text for words in VIA_TABLES):
        return VIA
    try:
        header = next(csv.reader(text.splitlines()), [])
    except csv.Error:
        return ""
    names = {name.strip().lower() for name in header}
    # Without a header: a path, four numbers, a class, as RetinaNet's readers take it.
    numbers = sum(word.strip().lstrip("-").isdigit() for word in header)
    if {"xmin", "ymin", "xmax", "ymax"} <= names or (len(header) >= 6 and numbers >= 4):
        return CSV
    return ""


def _record(_path: Path) -> str:
    return TFRECORD


def _archive(_path: Path) -> str:
    return "an archive. Unpack it, and give the folder that comes out."


SUSPECTS: dict[str, Callable[[Path], str]] = {
    ".json": _json,
    ".xml": _xml,
    ".csv": _csv,
    ".tfrecord": _record,
    ".tfrecords": _record,
    ".record": _record,
    ".zip": _archive,
    ".tar": _archive,
    ".gz": _archive,
    ".7z": _archive,
}
