"""The template of a chapter, and the command that copies it."""

import shutil
from pathlib import Path

import chapter
import notebook_rules
import pytest

import notebooks


@pytest.fixture
def folder(tmp_path):
    first = notebooks.ROOT / "notebooks" / "01_boxes.ipynb"
    shutil.copy(first, tmp_path)
    return tmp_path


def test_the_template_keeps_all_rules():
    assert notebook_rules.lint(notebooks.TEMPLATE) == []
    assert notebook_rules.warnings(notebooks.TEMPLATE) == []


def test_a_new_chapter_keeps_all_rules(folder):
    path = chapter.begin("15_masks", "Masks of objects", folder)
    assert path == Path(folder / "15_masks.ipynb")
    made = notebooks.read(path)
    assert made.cells[0].source.startswith("# 15. Masks of objects\n")
    first = notebooks.read(folder / "01_boxes.ipynb")
    setup = [notebooks.code_cells(one)[0].source for one in (made, first)]
    assert setup[0] == setup[1]
    assert notebook_rules.lint(path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must be like 15_masks"),
        ("masks", "must be like 15_masks"),
        ("15_Masks", "must be like 15_masks"),
        ("../15_masks", "must be like 15_masks"),
        ("01_masks", "a chapter 01 already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(folder, name, message):
    with pytest.raises(SystemExit, match=message):
        chapter.begin(name, "Masks", folder)
    assert [path.name for path in folder.iterdir()] == ["01_boxes.ipynb"]
