"""The check of a whole folder: annotations, pictures, and what only shows in all of it.

Memory grows with the annotations, not with the pictures: these are read one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rpn_lib.data.folder import empty_part, part_of, parts_of, scan_folder
from rpn_lib.data.images import look_at
from rpn_lib.data.layout import canonical
from rpn_lib.data.problems import Fault, Problem
from rpn_lib.data.reading import Reading, ReadingOptions
from rpn_lib.data.records import (
    Record,
    Scan,
    counted,
    nothing_to_learn,
    size_problem,
    unreadable_problem,
)
from rpn_lib.data.same import same_boxes, same_pictures
from rpn_lib.data.sides import choose_side, on_small_objects
from rpn_lib.errors import PictureError, arguments_of, refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

WHOLE = 0.999  # share of an image that a box covers which covers the whole of it

DARK = (
    1 / 8
)  # of the values of 16 bits; where no picture has more, they hold fewer bits

FULL = 2**16


class Checked(NamedTuple):
    """What the check of a folder found.

    Attributes:
        problems: all that cannot be right, for which training is refused.
        summary: a sentence on what was looked at.
        warnings: what is most likely not right, but can be trained on.
        notes: what a user should know though nothing is wrong.
    """

    problems: list[Problem]
    summary: str
    warnings: list[Problem]
    notes: list[str]


def check_folder(
    root: str | Path,
    splits: Sequence[str],
    *,
    decode: bool = True,
    side: int | None = None,
    progress: Callable[[list[Record]], Iterable[Record]] = iter,
    **reading: "Unpack[ReadingOptions]",
) -> Checked:
    """Check every annotation and every picture of a folder.

    Args:
        root: the folder.
        splits: the splits to look at.
        decode: read all of each picture, which alone shows that it is truncated; if
            not, only its size.
        side: shorter side that a run would resize images to; chosen as a run chooses
            it if not given.
        progress: wraps the list of images that is gone through, for a bar.
        reading: how to understand the files, see `Reading`.

    Raises:
        DataError: no such folder or split.
        SettingError: a way of reading that there is not.
    """
    refuse_unknown(reading, arguments_of(check_folder, Reading))
    checker = _Checker(Reading(**reading), decode, side)
    for split in splits:
        scan = scan_folder(root, split, **reading)
        checker.split(split, scan, progress(scan.records))
    return checker.result()


class _Checker:
    """Goes through the splits and keeps what must be compared between them."""

    def __init__(self, reading: Reading, decode: bool, side: int | None) -> None:
        self.reading, self.decode, self.side = reading, decode, side
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.notes: dict[str, list[str]] = {}  # each with the splits it is said of
        self.split_of: dict[Path, str] = {}
        self.by_length: defaultdict[int, list[Path]] = defaultdict(list)
        self.images = self.boxes = self.regions = self.covered = 0
        self.turned = self.odd = self.deep = self.brightest = 0
        self.example = Path()
        self.annotations = Path()

    def split(self, split: str, scan: Scan, records: Iterable[Record]) -> None:
        """Look at the images of a split."""
        before = len(self.problems)
        self.problems += scan.problems
        self.warnings += scan.warnings
        for note in scan.notes:
            self.notes.setdefault(note, []).append(split)
        self.annotations = scan.annotations
        for record in records:
            self.picture(record)
            self.objects(record, scan)
            self.place(record, part_of(record, scan, split), scan)
        sound = len(self.problems) == before
        parts = parts_of(scan, split) if scan.records else {split: scan}
        for name, part in parts.items():
            if scan.records and not part.records:
                self.warnings.append(empty_part(part, name, len(scan.records)))
                continue
            if sound:
                self.empty(name, part, name != split)
            if canonical(name) not in ("val", "test"):
                self.small(name, part)

    def empty(self, split: str, scan: Scan, chosen: bool) -> None:
        """Look for a split that a run could not learn from, or not measure on.

        Args:
            split: the name of the split.
            scan: the annotations of the split.
            chosen: whether a hash has chosen its images.
        """
        empty = nothing_to_learn(scan)
        if empty is None:
            return
        known = canonical(split)
        if known == "test" or (known == "val" and chosen):
            self.notes.setdefault(empty.reason, []).append(split)
            return
        if chosen or not scan.records:
            empty = empty._replace(item=f"split {split}")
        self.problems.append(empty)

    def small(self, split: str, scan: Scan) -> None:
        """Look for objects that a run would be unable to learn."""
        side = self.side or choose_side(scan.records)
        text, everything = on_small_objects(scan.records, side)
        if everything:
            fault = Fault("too small", f"There is nothing to learn: {text}")
            self.problems.append(Problem(str(scan.annotations), fault))
        elif text:
            self.notes.setdefault(text, []).append(split)

    def picture(self, record: Record) -> None:
        """Look at a picture."""
        how = self.reading
        try:
            look = look_at(record.path, self.decode, how.exif, how.max_pixels)
        except PictureError as error:
            self.problems.append(unreadable_problem(record.path, error))
            return
        if look.size != record.size:
            self.problems.append(size_problem(record, look.size, look.orientation >= 5))
        # On its side, a picture shows by its size how its boxes were drawn.
        elif look.orientation in (2, 3, 4) or (
            look.orientation >= 5 and look.size[0] == look.size[1]
        ):
            self.turned += 1
        self.odd += look.orientation == 0
        if look.brightest is not None:
            self.deep += 1
            self.brightest = max(self.brightest, look.brightest)
            self.example = record.path

    def objects(self, record: Record, scan: Scan) -> None:
        """Look at the boxes of an image."""
        self.images += 1
        self.boxes += len(record.boxes)
        self.regions += len(record.crowds)
        for first, second in same_boxes(record):
            fault = Fault(
                "duplicate",
                f"Boxes {first} and {second} of the image, both "
                f"{record.classes[first]!r}, are the same.",
                "Delete one of them.",
            )
            self.warnings.append(Problem(str(scan.annotations), fault, record.name))
        height, width = record.size
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        self.covered += bool((sides.prod(axis=1) >= WHOLE * height * width).any())

    def place(self, record: Record, split: str, scan: Scan) -> None:
        """Look for the image in the other splits."""
        there = self.split_of.setdefault(record.path, split)
        if there != split:
            fault = Fault("leak", f"{record.name} is in {there} too.", LEAK)
            self.problems.append(Problem(str(scan.annotations), fault))
        elif record.path.is_file():
            self.by_length[record.path.stat().st_size].append(record.path)

    def leaks(self) -> None:
        """Find pictures that are the same to the byte in two splits."""
        for path, other in same_pictures(self.by_length.values(), self.split_of):
            reason = (
                f"It is the same picture as {other}, which is in "
                f"{self.split_of[other]}; this one is in {self.split_of[path]}."
            )
            self.warnings.append(Problem(str(path), Fault("leak", reason, LEAK)))

    def result(self) -> Checked:
        """All that was found."""
        self.leaks()
        if self.images > 2 and self.covered > self.images / 2:
            fault = Fault(
                "whole image",
                f"{self.covered:,} of {self.images:,} images have a box that covers "
                "the whole image.",
                "Is this a data set for classification? A network learns nothing about "
                "places from such boxes.",
            )
            self.warnings.append(Problem(str(self.annotations), fault))
        if self.deep and self.brightest < DARK * FULL:
            bits = max(self.brightest, 1).bit_length()
            fault = Fault(
                "dark",
                f"{self.deep:,} pictures have 16 bits, but none of them a value above "
                f"{self.brightest:,}: these are {bits} bits, and nearly black here.",
                f"Multiply the values by {2 ** (16 - bits):,}, or save them with 8 "
                "bits.",
            )
            self.warnings.append(Problem(str(self.example), fault))
        notes = [f"{', '.join(there)}: {note}" for note, there in self.notes.items()]
        if self.turned:
            how = self.reading.exif
            done = "are turned so" if how == "apply" else "are left as they are stored"
            other = "ignore" if how == "apply" else "apply"
            notes.append(
                f"{self.turned:,} pictures have a note of their camera that they are "
                f"upside down or mirrored; they {done}. Their size cannot tell whether "
                f"the boxes were drawn before or after: look at one, and if the boxes "
                f'do not fit, read them with exif="{other}" (--exif {other}).'
            )
        if self.odd:
            notes.append(
                f"{self.odd:,} pictures have an orientation in their EXIF data that is "
                "no number from 1 to 8: it is passed over."
            )
        summary = counted(self.images, self.boxes, self.regions)
        # Splits that a hash chooses share what is wrong with the files of both.
        problems, warnings = map(dict.fromkeys, (self.problems, self.warnings))
        return Checked([*problems], summary, [*warnings], notes)


LEAK = (
    "What is measured on images that were trained on says nothing: keep each image in "
    "one split."
)
