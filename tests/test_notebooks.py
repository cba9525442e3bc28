"""The committed notebooks keep the rules of the book."""

import copy
import io

import nbformat
import notebook_tools as tools
import numpy as np
import pytest
from PIL import Image, ImageColor

from rpn_lib.figures.boxes import STYLES


@pytest.fixture(params=tools.NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_notebooks():
    assert tools.NOTEBOOKS


def test_notebook_keeps_the_rules(path):
    assert tools.lint(path) == []


def write(tmp_path, notebook):
    path = tmp_path / "02_broken.ipynb"
    tools.nbformat.write(notebook, path)
    return path


def first_cell(notebook):
    return tools.code_cells(notebook)[0]


def with_tag(notebook, tag):
    return next(c for c in notebook.cells if tag in c.metadata.get("tags", []))


STDERR = nbformat.v4.new_output("stream", name="stderr", text="a warning")


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda nb: first_cell(nb).update(source="1 + 1"), "is stale"),
        (lambda nb: first_cell(nb).update(source="x\n" * 16), "16 lines"),
        (lambda nb: first_cell(nb).update(source="plt.show();"), "semicolon"),
        (lambda nb: first_cell(nb).update(execution_count=None), "top to bottom"),
        (lambda nb: first_cell(nb).update(execution_count=9), "top to bottom"),
        (lambda nb: first_cell(nb).update(outputs=[STDERR]), "stderr"),
        (lambda nb: with_tag(nb, "solution").update(outputs=[]), "is a solution but"),
        (lambda nb: with_tag(nb, "exercise-check").update(outputs=[]), "but says ''"),
        (lambda nb: with_tag(nb, "lead-picture").metadata.pop("mystnb"), "alt text"),
        (lambda nb: nb.cells[0].pop("attachments"), "no lead picture"),
        (lambda nb: nb.metadata.clear(), "is stale"),
    ],
)
def test_a_broken_notebook_is_refused(tmp_path, breakage, message):
    notebook = copy.deepcopy(tools.read(tools.NOTEBOOKS[0]))
    breakage(notebook)
    assert any(message in problem for problem in tools.lint(write(tmp_path, notebook)))


def test_a_change_of_the_library_makes_notebooks_stale(tmp_path, monkeypatch):
    notebook = tools.read(tools.NOTEBOOKS[0])
    assert not tools.is_stale(notebook)
    (tmp_path / "rpn_lib").mkdir()
    (tmp_path / "rpn_lib" / "boxes.py").write_text("changed")
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    assert tools.is_stale(notebook)


def test_a_palette_keeps_white_and_the_colours_of_boxes():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)  # a busy photograph
    pixels[:40] = 255
    pixels[40:60] = rng.integers(250, 256, (20, 160, 3))  # and what is nearly white
    for row, style in enumerate(STYLES.values()):
        pixels[row] = ImageColor.getrgb(style.color)
    before = io.BytesIO()
    Image.fromarray(pixels).save(before, "PNG")
    after = Image.open(io.BytesIO(tools._with_palette(before.getvalue())))
    assert after.mode == "P"
    assert (np.asarray(after.convert("RGB"))[:40] == pixels[:40]).all()
