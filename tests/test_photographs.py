"""Pictures of a data set come from a run at build time, never into the repository."""

import importlib.util
import json

import nbformat
import photographs
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import notebooks
from rpn_lib.errors import DataError

DRAW = (
    "import io, os\nfrom PIL import Image\nfrom IPython.display import display\n"
    "file = io.BytesIO()\nImage.new('RGB', (8, 6), 'red').save(file, 'png')\n"
    "print('eight by six')\n"
    "display({'image/png': file.getvalue(), 'text/plain': 'a figure'}, raw=True)"
)
FIGURE = {"image": {"alt": "A red picture."}, "figure": {"caption": "Red."}}


def extension():
    path = notebooks.ROOT / "book" / "_ext" / "rpn_photographs.py"
    spec = importlib.util.spec_from_file_location("rpn_photographs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chapter(tmp_path):
    """A chapter with one photograph, as it is stored: without it."""
    metadata = {"tags": ["data-picture"], "mystnb": FIGURE}
    cell = new_code_cell(DRAW.replace("file.getvalue()", PNG), metadata=metadata)
    path = tmp_path / "90_photographs.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1"), cell]), path)
    notebooks.execute(path)
    return path


PNG = "__import__('base64').b64encode(file.getvalue()).decode()"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "BCCD" / "JPEGImages"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a photograph")
    return folder.parent


@pytest.fixture
def runs(monkeypatch):
    """Counts the notebooks that are run."""
    counted, run = [], photographs.run
    monkeypatch.setattr(
        photographs, "run", lambda *given: (counted.append(1), run(*given))
    )
    return counted


def kept(folder):
    return json.loads((folder / "90_photographs.json").read_text())["cells"]


def test_a_chapter_is_run_where_the_data_are_and_once(chapter, data, tmp_path, runs):
    stored = chapter.read_bytes()
    for _ in range(2):
        assert photographs.make([chapter], tmp_path / "kept", data) == []
    (made,) = kept(tmp_path / "kept").values()
    assert set(made["shown"][0]) == {"image/png", "text/plain"}
    assert len(runs) == 1
    assert chapter.read_bytes() == stored
    (data / "JPEGImages" / "a.jpg").write_bytes(b"another one")
    assert photographs.make([chapter], tmp_path / "kept", data) == []
    assert len(runs) == 2


def test_it_is_run_again_where_its_code_changed(chapter, data, tmp_path, runs):
    photographs.make([chapter], tmp_path / "kept", data)
    notebook = notebooks.read(chapter)
    notebook.cells[0].source = "x = 2"
    nbformat.write(notebook, chapter)
    photographs.make([chapter], tmp_path / "kept", data)
    assert len(runs) == 2


def test_without_the_data_it_is_said_and_old_pictures_go(
    chapter, data, tmp_path, capsys
):
    photographs.make([chapter], tmp_path / "kept", data)
    assert photographs.make([chapter], tmp_path / "kept", None) == []
    assert list((tmp_path / "kept").iterdir()) == []
    assert "90_photographs.ipynb: without photographs." in capsys.readouterr().out


def test_a_run_that_fails_is_told_in_one_line(chapter, data, tmp_path):
    photographs.make([chapter], tmp_path / "kept", data)
    notebook = notebooks.read(chapter)
    notebook.cells[0].source = "raise ValueError('no such\\ncell')"
    nbformat.write(notebook, chapter)
    (line,) = photographs.make([chapter], tmp_path / "kept", data)
    assert line == (
        "90_photographs.ipynb cannot be run with the photographs: ValueError: no such "
        "cell"
    )
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_chapter_is_left_out_where_its_data_cannot_be_had(chapter, monkeypatch):
    other = notebooks.NOTEBOOKS[0]
    monkeypatch.setattr(photographs, "bccd", lambda **_: None)
    assert photographs.runnable([other, chapter]) == ([other, chapter], None)

    def refuse(**_):
        raise DataError("No network.")

    monkeypatch.setattr(photographs, "bccd", refuse)
    assert photographs.runnable([other]) == ([other], None)
    found, line = photographs.runnable([other, chapter])
    assert found == [other]
    assert line == "NOT RUN: 90_photographs.ipynb. No network."


# ---- The pages ---------------------------------------------------------------------


def cell_of(chapter):
    """The cell with a photograph, as Sphinx reads it."""
    return json.loads(chapter.read_text())["cells"][1]


def test_pictures_take_the_place_of_what_is_stored(chapter, data, tmp_path):
    photographs.make([chapter], tmp_path / "kept", data)
    cell = cell_of(chapter)
    assert "image/png" not in json.dumps(cell["outputs"])
    (made,) = kept(tmp_path / "kept").values()
    extension().fill(cell, made)
    printed, shown = cell["outputs"]
    assert "eight by six" in "".join(printed["text"])
    assert shown["data"]["image/png"] == made["shown"][0]["image/png"]


@pytest.mark.parametrize("made", [{}, {"source": "of yesterday", "shown": [{}]}])
def test_without_them_a_note_says_what_is_missing(chapter, made):
    cell = cell_of(chapter)
    extension().fill(cell, made)
    printed, shown = cell["outputs"]
    assert "eight by six" in "".join(printed["text"])
    text = shown["data"]["text/markdown"]
    assert "not in this copy" in text
    assert "A red picture." in text


def test_there_is_a_chapter_with_photographs():
    assert [path.stem for path in photographs.chapters()][:1] == ["10_real_images"]
