"""Lists of images and folders of XML files, as users of Pascal VOC lay them out."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from rpn_lib.data.images import SUFFIXES
from rpn_lib.data.layout import (
    ALL,
    Pictures,
    folders,
    picture_folders,
    split_of,
    subfolder,
)
from rpn_lib.data.problems import Fault


def image_lists(root: Path) -> dict[str, Path]:
    """The lists in `ImageSets/Main` by their names; none without that folder."""
    sets = subfolder(root, "imagesets")
    main = sets and (subfolder(sets, "main") or sets)
    return {} if main is None else {path.stem: path for path in main.glob("*.txt")}


def xml_folders(root: Path) -> list[tuple[str, Path]]:
    """Folders with XML files of VOC's kind, each with the split it belongs to."""
    found = []
    for path, files in folders(root):
        # Any of them: one that is empty or broken shall not hide the others.
        if any(_is_voc(path / name) for name in files if name.lower().endswith(".xml")):
            found.append((split_of(path.relative_to(root).parts), path))
    split = any(name is not None for name, _ in found)
    return [(name or ALL, path) for name, path in found if name or not split]


def _is_voc(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return re.search(rb"<annotation[\s>]", head) is not None


def read_list(
    text: str, is_there: Callable[[str], bool] = lambda name: False
) -> list[tuple[int, str]]:
    """The names of a list of images, each with the number of its line.

    Left out are comments (`#`) and images that a second column marks with -1, as VOC's
    lists of a class do. Names may hold spaces, stand in quotes and have an ending.

    Args:
        text: the content of the file.
        is_there: whether there is an annotation of a name: `my cat 1` may be that name,
            or `my cat` and a flag.

    >>> read_list('a\\n# b\\nmy cat.jpg  1\\n"my dog"\\r\\nc -1\\n')
    [(1, 'a'), (3, 'my cat'), (4, 'my dog')]
    """
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if is_there(line):
            names.append((number, line))
            continue
        name, flag = line, "1"
        match = re.fullmatch(r'"([^"]*)"(?:\s+(-?[01]))?', line) or re.fullmatch(
            r"(.*\S)\s+(-?[01])", line
        )
        if match:
            name, flag = match[1], match[2] or "1"
        for suffix in (*SUFFIXES, ".xml"):
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
        if flag != "-1":
            names.append((number, name))
    return names


def read_xml(path: Path, name: str) -> Element | Fault:
    """The content of an XML file, or why there is none.

    Args:
        path: the XML file.
        name: what to call the image.
    """
    try:
        tree: Element = parse(path).getroot()
        for element in tree.iter():  # a namespace says nothing here
            element.tag = element.tag.rsplit("}", 1)[-1]
        return tree
    except FileNotFoundError:
        return Fault(
            "no annotation",
            "The file is missing.",
            f"Annotate {name}, or take it out of the split; for an image without "
            "objects write a file without object.",
        )
    except ParseError as error:
        reason = f"It is not well-formed XML: {error}."
        return Fault("unreadable", reason, "Export the annotation anew.")
    except DefusedXmlException as error:
        return Fault(
            "unreadable",
            f"It holds entities or refers to other files ({type(error).__name__}).",
            "Such XML can fill the memory or read files, and annotations need none of "
            "it: take the DOCTYPE out.",
        )
    except (OSError, LookupError, ValueError) as error:
        reason = f"It cannot be read: {error}."
        return Fault("unreadable", reason, "Save it anew, in UTF-8.")


def without_xml(pictures: Pictures, used: Collection[Path], root: Path) -> list[Path]:
    """The pictures beside those of XML files that no XML file is about.

    A picture whose XML file cannot be read is none of them. One is that shares its name
    but for the ending with the picture of an XML file.

    Args:
        pictures: lists what is in a folder.
        used: pictures that XML files are about.
        root: the folder of the data set.
    """
    known = {path.with_suffix("") for path in used}
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for _, folder in xml_folders(root):
        names = {path.stem for path in folder.glob("*.[xX][mM][lL]")}
        for place in picture_folders(folder):
            stems[place] |= names
    return [
        place / name
        for place in sorted({path.parent for path in used})
        for name in pictures.pictures(place)
        if place / name not in used
        and (
            Path(name).stem not in stems[place]
            or (place / name).with_suffix("") in known
        )
    ]
