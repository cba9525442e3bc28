"""The glossary is in order, and what it says of torchvision's names is true."""

import re
from pathlib import Path

import torchvision.models.detection as detection

GLOSSARY = Path(__file__).resolve().parent.parent / "book" / "glossary.md"


def names(column):
    """The names in backticks in a column of the table "Names elsewhere"."""
    table = GLOSSARY.read_text().split("## Names elsewhere")[1]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line[:1] == "|"]
    assert len(rows) > 15
    assert all(len(row) == 4 for row in rows)
    return {name for row in rows[2:] for name in re.findall(r"`(\w+)`", row[column])}


def test_names_of_torchvision_are_in_its_sources():
    folder = Path(detection.__file__).parent
    files = ("_utils", "anchor_utils", "faster_rcnn", "rpn")
    words = set()
    for file in files:
        words |= set(re.findall(r"\w+", (folder / f"{file}.py").read_text()))
    found = names(1) - {"_train"}
    assert len(found) > 20
    assert found <= words, found - words


def test_terms_are_in_alphabetical_order():
    terms = re.findall(r"^## (.+)$", GLOSSARY.read_text(), re.MULTILINE)
    assert terms.pop() == "Names elsewhere"
    assert len(terms) > 50
    assert terms == sorted(terms, key=str.casefold)
