"""Folders of annotated photographs of every kind, through one door.

A reader is a module with `NAME`, `recognises(root)`, `splits(root)` and
`scan(root, split, reading)`; a new one is a file and an entry of `READERS`.

Dimension letters: see `rpn_lib.data.records`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rpn_lib.data import coco, voc, yolo
from rpn_lib.data.foreign import foreign_format
from rpn_lib.data.images import SUFFIXES
from rpn_lib.data.layout import (
    ALL,
    canonical,
    goes_to_validation,
    matching_split,
    own_folders,
)
from rpn_lib.data.problems import Fault, Problem
from rpn_lib.data.reading import OnBadBox, Reading, ReadingOptions
from rpn_lib.data.records import Record, Scan, Transform
from rpn_lib.errors import DataError, arguments_of, refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rpn_lib.data.dataset import AnnotatedFolder


class Reader(Protocol):
    """What a module of a format offers."""

    NAME: str

    def recognises(self, root: Path) -> bool:
        """Whether a folder holds annotations of this format."""

    def splits(self, root: Path) -> list[str]:
        """The splits of a folder; `all` where it is not split."""

    def scan(self, root: Path, split: str, reading: Reading) -> Scan:
        """Read all annotations of a split, and note what cannot be right.

        Args:
            root: the folder.
            split: one of `splits`.
            reading: how to understand them.

        Raises:
            DataError: no such split.
        """


READERS: tuple[Reader, ...] = (voc, coco, yolo)  # the first that recognises a folder


def reader_of(root: str | Path) -> Reader:
    """The reader of a folder, by what is in it.

    Args:
        root: the folder.

    Raises:
        DataError: no such folder, or annotations that none of the readers knows.

    >>> reader_of("nowhere")
    Traceback (most recent call last):
    rpn_lib.errors.DataError: nowhere is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        hint = f" Give the folder {root.parent}." if root.is_file() else ""
        raise DataError(f"{root} is no folder.{hint}")
    for reader in READERS:
        if reader.recognises(root):
            return reader
    raise DataError(
        f"{root} holds no annotations of Pascal VOC (XML files), COCO (JSON files) or "
        f"YOLO (data.yaml, images and labels). {foreign_format(root)} "
        f"{_passed_over(root)}".rstrip()
    )


def _passed_over(root: Path) -> str:
    """A sentence on folders that are taken for rpn's own; empty where none is."""
    own = own_folders(root)
    if not own:
        return ""
    return f"passed over, named like the folders that rpn writes: {', '.join(own)}."


def splits_of(root: str | Path) -> list[str]:
    """Train, val and test of a folder, those of them that there are; else every split.

    Args:
        root: the folder.

    Raises:
        DataError: as of `reader_of`.
    """
    reader = reader_of(root)
    there = reader.splits(Path(root))
    if not there:
        raise DataError(
            f"{root} holds annotations of {reader.NAME}, but no picture of them. Read "
            f"are {', '.join(SUFFIXES)}."
        )
    known = [name for name in there if canonical(name) in ("train", "val", "test")]
    return known or there


def scan_folder(
    root: str | Path, split: str, **reading: "Unpack[ReadingOptions]"
) -> Scan:
    """Read the annotations of a split of a folder of any kind, pictures not.

    A split is found under the names that are used for it (`valid` for `val`,
    `train2017` for `train`); `trainval` is `train` and `val`. A folder that is not
    split gives `train` and `val` by a hash of the files' names, 80 to 20.

    Args:
        root: the folder.
        split: the name of the split.
        reading: how to understand the files, see `Reading`.

    Raises:
        DataError: no such folder or split.
        SettingError: a way of reading that there is not.
    """
    refuse_unknown(reading, arguments_of(scan_folder, Reading))
    root, how = Path(root), Reading(**reading)
    reader = reader_of(root)
    scan = _scan(reader, root, split, how)
    passed_over = _passed_over(root)
    scan.notes += [passed_over] if passed_over else []
    others = [one.NAME for one in READERS if one is not reader and one.recognises(root)]
    if others:
        scan.notes.append(
            f"the annotations of {reader.NAME} are read, not those of "
            f"{' and '.join(others)}, which are there too."
        )
    return scan


def _scan(reader: Reader, root: Path, split: str, how: Reading) -> Scan:
    there = reader.splits(root)
    found = matching_split(split, there)
    pool = _pool(there)
    if found is not None:
        scan = reader.scan(root, found, how)
        if found == pool:
            scan.is_pool = True
            _tell_parts(scan, found)
        return scan
    parts = [matching_split(name, there) for name in ("train", "val")]
    if split == "trainval" and None not in parts:
        return _joined([reader.scan(root, name, how) for name in parts if name])
    if pool is not None and split in ("train", "val"):
        return _by_hash(reader.scan(root, pool, how), split, pool)
    return reader.scan(root, split, how)  # a list that is no split, or a good error


def _pool(there: Sequence[str]) -> str | None:
    """What is to be split by hash: all, where nothing is called train, val or test."""
    if any(canonical(name) in ("train", "val", "test") for name in there):
        return None
    return next((name for name in (ALL, "trainval") if name in there), None) or (
        there[0] if len(there) == 1 else None
    )


def _tell_parts(scan: Scan, split: str) -> None:
    train, val = (len(part.records) for part in parts_of(scan, split).values())
    if train + val:
        scan.notes.append(
            "not split: for train and val, a hash of the files' names chooses "
            f"{train:,} and {val:,} of the images (80 % and 20 %), always the same."
        )


def parts_of(scan: Scan, split: str) -> dict[str, Scan]:
    """What a run learns from or measures on: a split, or the two parts of a pool.

    Args:
        scan: the annotations of the split.
        split: the name of the split.
    """
    if not scan.is_pool:
        return {split: scan}
    records: dict[str, list[Record]] = {"train": [], "val": []}
    for one in scan.records:
        records[part_of(one, scan, split)].append(one)
    return {
        part: replace(scan, records=records[part], is_pool=False) for part in records
    }


def part_of(record: Record, scan: Scan, split: str) -> str:
    """The split that an image of a scan belongs to, `train` or `val` in a pool.

    Args:
        record: the annotation of the image.
        scan: the annotations that it is among.
        split: the name of the scan's split.
    """
    if not scan.is_pool:
        return split
    return "val" if goes_to_validation(record.name) else "train"


def empty_part(scan: Scan, split: str, count: int) -> Problem:
    """A part of a pool that the hash puts no image into.

    Args:
        scan: the annotations of the part.
        split: train or val.
        count: how many images the pool has.
    """
    fault = Fault(
        "no object",
        "It is not split, and the hash of the files' names puts none of the "
        f"{count} images into {split}.",
        "Put them into folders train and val, or write lists.",
    )
    return Problem(str(scan.annotations), fault)


def _by_hash(pool: Scan, split: str, name: str) -> Scan:
    part = parts_of(replace(pool, is_pool=True), name)[split]
    if pool.records and not part.records:
        raise DataError(str(empty_part(part, split, len(pool.records))))
    note = (
        f"{name} is not split: {split} are the {len(part.records):,} of its "
        f"{len(pool.records):,} images that a hash of the file's name chooses, always "
        "the same (80 % train, 20 % val)."
    )
    return replace(part, notes=[*pool.notes, note])


def _joined(scans: Sequence[Scan]) -> Scan:
    first = scans[0]
    return replace(
        first,
        records=[record for scan in scans for record in scan.records],
        classes=list(dict.fromkeys(name for scan in scans for name in scan.classes)),
        problems=[problem for scan in scans for problem in scan.problems],
        notes=[note for scan in scans for note in scan.notes],
        warnings=[problem for scan in scans for problem in scan.warnings],
    )


def open_folder(
    root: str | Path,
    split: str = "train",
    transform: Transform | None = None,
    on_bad_box: OnBadBox = "error",
    **reading: "Unpack[ReadingOptions]",
) -> "AnnotatedFolder":
    """A folder of photographs with annotations of Pascal VOC, COCO or YOLO.

    Annotations are all read at the start, pictures when they are asked for.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or whatever it offers, see `scan_folder`.
        transform: called with image and target, for instance a `transforms.v2.Resize`.
        on_bad_box: `error` refuses a box without area, with a side turned round or
            outside its image; `drop` leaves it out and lists it in `dropped`.
        reading: how to understand the files, see `Reading`.

    Raises:
        DataError: a missing folder or file, one that cannot be read, a bad box; the
            message names the file.
        SettingError: a way of reading that there is not.

    >>> open_folder("nowhere", "train")
    Traceback (most recent call last):
    rpn_lib.errors.DataError: nowhere is no folder.
    """
    from rpn_lib.data.dataset import AnnotatedFolder  # torch is not needed before

    refuse_unknown(reading, arguments_of(open_folder, Reading))
    return AnnotatedFolder(scan_folder(root, split, **reading), transform, on_bad_box)
