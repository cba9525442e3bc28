"""Where files lie in a folder, and which split they belong to.

Names of folders are compared without regard to case: macOS and Windows make no
difference between `annotations` and `Annotations`, so a folder is judged by what is in
it.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from rpn_lib.data.images import SUFFIXES

# What people call the folder with the pictures.
PICTURES = ("images", "jpegimages", "image", "imgs", "img", "pictures", "photos")

ALL = "all"  # the split of a folder that is not split

SPLITS = ("train", "val", "test")

VALIDATION_SHARE = 5  # every fifth image, where a folder is split by hash

DEPTH = 3  # folders below the root that are looked into

OWN = ("runs", "proposals")  # what rpn itself writes into

PASSED_OVER = (*OWN, "__MACOSX")  # no data


def canonical(split: str) -> str:
    """The name of a split without a year, `valid` and the like as `val`.

    >>> [canonical(name) for name in ("train2017", "valid", "Test", "trainval")]
    ['train', 'val', 'test', 'trainval']
    """
    name = split.lower().rstrip("0123456789").rstrip("_-")
    names = {"valid": "val", "validation": "val", "training": "train"}
    return names.get(name, name)


def split_of(parts: Sequence[str]) -> str | None:
    """The first of the folders that is named like a split.

    >>> split_of(("images", "valid")), split_of(("images", "day"))
    ('valid', None)
    """
    return next((part for part in parts if canonical(part) in SPLITS), None)


def matching_split(split: str, there: Sequence[str]) -> str | None:
    """Which of the splits is meant: the same name, or the one that comes to the same.

    >>> matching_split("val", ["train", "valid"])
    'valid'
    """
    if split in there:
        return split
    same = [name for name in there if canonical(name) == canonical(split)]
    return same[0] if len(same) == 1 else None


def ordered(splits: Sequence[str]) -> list[str]:
    """Train, val and test first, then the others.

    >>> ordered(["b", "test", "train2017", "b"])
    ['train2017', 'test', 'b']
    """

    def place(name: str) -> tuple[int, str]:
        known = canonical(name)
        return (SPLITS.index(known) if known in SPLITS else len(SPLITS), name)

    return sorted(set(splits), key=place)


def goes_to_validation(name: str) -> bool:
    """Whether the hash of a file's name puts it among the fifth that validates.

    What Roboflow makes of one photograph (`a.rf.0f3c....jpg`) stays together.

    >>> [goes_to_validation(name) for name in ("a", "b", "c", "d", "e", "f")]
    [True, False, False, False, False, True]
    """
    last = re.split(r"[/\\]", name)[-1]
    last = re.sub(r"\.rf\.[0-9a-f]{8,}(?=\.|$)", "", last)
    for suffix in SUFFIXES:
        last = last[: -len(suffix)] if last.lower().endswith(suffix) else last
    digest = hashlib.sha256(last.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") % VALIDATION_SHARE == 0


def subfolder(root: Path, *names: str) -> Path | None:
    """The folder of one of these names, whatever its case; the first that there is.

    Args:
        root: where to look.
        names: what the folder may be called, in lower case.
    """
    try:
        there = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    except OSError:
        return None
    return next((there[name] for name in names if name in there), None)


def folders(root: Path, depth: int = DEPTH) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, each with the sorted names of its files.

    Hidden ones and those that rpn itself writes are passed over, and links back into
    the folder, which would never end.
    """
    top, inside = len(root.parts), os.path.realpath(root)
    for path, below, files in os.walk(root, followlinks=True):
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".")
            and name not in PASSED_OVER
            and not _leads_back(os.path.join(path, name), inside)
        )
        if len(Path(path).parts) - top >= depth:
            below.clear()
        yield Path(path), sorted(name for name in files if not name.startswith("."))


def own_folders(root: Path) -> list[str]:
    """The folders below one that are passed over, since rpn itself writes into such.

    Args:
        root: the folder.

    >>> own_folders(Path("nowhere"))
    []
    """
    return [
        (folder / name).relative_to(root).as_posix()
        for folder, _ in folders(root)
        for name in OWN
        if (folder / name).is_dir()
    ]


def _leads_back(path: str, root: str) -> bool:
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    whole = os.path.join(root, ""), os.path.join(target, "")  # each ends with a /
    return whole[1].startswith(whole[0]) or whole[0].startswith(whole[1])


class Pictures:
    """Finds pictures by name; each folder is listed once, not asked for each name.

    Names are compared letter by letter, then without regard to the two ways in which
    Unicode writes an accent, of which macOS uses the other one.
    """

    def __init__(self) -> None:
        self.listed: dict[Path, dict[str, str]] = {}

    def listing(self, folder: Path) -> dict[str, str]:
        """The names in a folder, by their composed form."""
        if folder not in self.listed:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            self.listed[folder] = {unicodedata.normalize("NFC", n): n for n in names}
        return self.listed[folder]

    def named(self, folders: Sequence[Path], name: str) -> Path | None:
        """The first picture of a name with its ending; the name may hold folders."""
        for folder in folders:
            path = folder / name
            key = unicodedata.normalize("NFC", path.name)
            found = self.listing(path.parent).get(key)
            if found is not None:
                return path.parent / found
        return None

    def in_other_case(self, folders: Sequence[Path], name: str) -> Path | None:
        """A picture whose name differs in capitals alone: it may be another one."""
        for folder in folders:
            path = folder / name
            for found in self.listing(path.parent).values():
                if found.lower() == path.name.lower():
                    return path.parent / found
        return None

    def of_stem(
        self, folders: Sequence[Path], stem: str, ending: str = ""
    ) -> Path | None:
        """The first picture of a name without its ending.

        Args:
            folders: where to look.
            stem: may hold folders.
            ending: which picture to prefer if there are several.
        """
        endings = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]
        if ending.lower() in SUFFIXES:
            endings.insert(0, ending)
        for folder in folders:
            found = (self.named([folder], f"{stem}{ending}") for ending in endings)
            path = next((path for path in found if path is not None), None)
            if path is not None:
                return path
        return None

    def pictures(self, folder: Path) -> list[str]:
        """The names of all pictures in a folder."""
        names = self.listing(folder).values()
        return [name for name in names if Path(name).suffix.lower() in SUFFIXES]


def picture_folders(folder: Path) -> list[Path]:
    """Where the pictures of the annotations in a folder may lie.

    Beside them, in the folder above, and in `images` and the like beside their folder
    or beside that one: `annotations/train` goes with `images/train`.

    Args:
        folder: where the annotations lie.
    """
    found = [folder, folder.parent]
    for above, below in ((folder.parent, ""), (folder.parent.parent, folder.name)):
        sibling = subfolder(above, *PICTURES, "data")
        if sibling is not None:
            found += [sibling / below, sibling]
    return list(dict.fromkeys(found))
