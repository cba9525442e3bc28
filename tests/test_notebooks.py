"""The committed notebooks keep the rules, and the rules find what breaks them."""

import base64
import copy
import io
import shutil

import nbformat
import notebook_rules as rules
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import notebooks as tools
from rpn_lib.data.samples import example_photo


@pytest.fixture(params=tools.NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_notebooks():
    assert tools.NOTEBOOKS


def test_notebook_keeps_the_rules(path):
    assert rules.lint(path) == []


def write(tmp_path, notebook, name="02_broken"):
    path = tmp_path / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def first_cell(notebook):
    return tools.code_cells(notebook)[0]


def with_tag(notebook, tag):
    return next(c for c in notebook.cells if tag in tools.tags(c))


STDERR = new_output("stream", name="stderr", text="a warning")


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
        (
            lambda nb: with_tag(nb, "lead-picture").metadata.tags.append(
                "data-picture"
            ),
            "must not be stored",
        ),
        (lambda nb: nb.cells[0].pop("attachments"), "no lead picture"),
        (lambda nb: nb.metadata.clear(), "is stale"),
    ],
)
def test_a_broken_notebook_is_refused(tmp_path, breakage, message):
    notebook = copy.deepcopy(tools.read(tools.NOTEBOOKS[0]))
    breakage(notebook)
    assert any(message in problem for problem in rules.lint(write(tmp_path, notebook)))


def notebook_of(*cells):
    """A notebook of these cells: a source, or a source and its tags."""
    made = []
    for cell in cells:
        source, *tags = [cell] if isinstance(cell, str) else cell
        made.append(new_code_cell(source, metadata={"tags": tags}))
    return new_notebook(cells=made)


def problems(tmp_path, *cells, name="90_new"):
    return " | ".join(rules.lint(write(tmp_path, notebook_of(*cells), name)))


def test_imports_do_not_count_as_lines_of_a_cell(tmp_path):
    lines = "x = 1\n" * 15
    imports = "import os\nfrom sys import (\n    path,\n    argv,\n)\n\n"
    assert "besides imports" not in problems(tmp_path, imports + lines)
    assert "has 16 lines besides imports" in problems(tmp_path, imports + lines + "x")


GUARD = "# Serves the build.\nassert x == 1"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["x = 1", (GUARD, "remove-cell")], ""),
        ([(GUARD, "remove-cell")], "[1], tagged remove-cell, does not follow"),
        (
            ["x = 1", (GUARD, "remove-cell"), (GUARD, "remove-cell")],
            "",
        ),
    ],
)
def test_guards_stand_below_what_they_guard(tmp_path, cells, message):
    found = problems(tmp_path, *cells)
    assert message in found
    assert ("remove-cell" in found) == bool(message)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["x = 1\nx = 2", "for x in [3]: pass", "with y as x: pass"], ""),
        (["x = 1", "x += 1"], ""),
        (["def f():\n    x = 1", "x = 2", "y = [f for f in [1]]"], ""),
        (["x = None", ("x = 1", "solution")], ""),
        (["fig, ax = a()", "fig, ax = b()", "x1 = y1 = 0", "x1, y1 = box[:2]"], ""),
        (["x[0] = y.z = 1", "x[0] = y.z = 2"], ""),
        (["x = 1", "y = 1", "x = 2"], "x is given a value anew in cells [1], [3]"),
        (["x = None", ("x = 1", "solution"), "x = 2"], "anew in cells [1], [3]"),
        (["x = 1", ("x = 2", "remove-cell")], "x is given a value anew"),
        (["x = 1", "y, (x, *_) = z"], "x is given a value anew"),
        (["*x, _ = z", "x: int = 1"], "x is given a value anew"),
        (["for i in y:\n    x = i", "if (x := y): pass"], "x is given a value anew"),
        (["f = lambda: 1", "f = lambda: 2"], "f is defined anew in cells [1], [2]"),
        (["def f(): pass", ("def f(): return 1", "solution")], ""),
        (["import torch", "import torch"], ""),
        (["import torch.nn", "import torch.optim"], ""),
        (["def f(): pass", "f = 1"], "f is function and value in cells [1], [2]"),
        (["def f(): pass", "def f(): return 1"], "f is defined anew in cells [1], [2]"),
        (["f = lambda: 1", "f = 2"], "f is function and value in cells [1], [2]"),
        (["from a import b", "b = 1"], "b is import and value in cells [1], [2]"),
        (["from a import b", "for b in c: pass"], "b is import and value"),
        (["from a import b", "def b(): pass"], "b is function and import"),
        (["from a import b", "from c import b"], "b is imported from a.b and c.b"),
        (["import a as b, c as b"], "b is imported from a and c"),
    ],
)
def test_a_name_stands_for_one_thing(cells, message):
    found = list(rules.rebound(tools.code_cells(notebook_of(*cells))))
    assert len(found) == bool(message)
    assert message in "".join(found)


def test_a_chapter_has_a_length(tmp_path):
    cells = ["x"] * 71
    assert "shows 71 cells; 70 are the most" in problems(tmp_path, *cells)
    guarded = [*cells[:70], ("assert x", "remove-cell")]
    assert "are the most" not in problems(tmp_path, *guarded)


def test_words_are_those_that_are_read():
    assert rules.count_words("Two words: $a + b$ and `a + b`.") == 5
    assert rules.count_words("See [it](http://a.b/c d).\n\n$$x + y$$\n\n![p](q r)") == 2
    assert rules.count_words("```\na b c\n```\nA box's 2,304 anchors.") == 4


def test_a_chapter_takes_half_an_hour_and_says_so(tmp_path):
    lines = "\n".join(["x = 1"] * 15)
    shown, folded = [lines] * 13, [(lines, "hide-input")] * 13
    assert rules.reading_minutes(notebook_of(*shown)) == 32.5  # ten seconds a line
    assert "takes 35 minutes to read" in problems(tmp_path, *shown, "x = 1")
    assert "to read" not in problems(tmp_path, *folded, "x = 1")
    prose = "# Masks\n\n**Time**: 20 minutes to read. " + "word " * 990
    notebook = new_notebook(cells=[new_markdown_cell(prose)])
    found = rules.lint(write(tmp_path, notebook, "90_new"))
    assert "should say **Time**: 5 minutes to read" in " ".join(found)


def test_the_clock_stops_at_exercises_and_references():
    def minutes(*cells):
        return rules.reading_minutes(new_notebook(cells=cells))

    text = "## 1. A\n\n" + "word " * 198  # 200 words with the title
    references = "\n\n**References**\n\n" + "word " * 100
    exercises = new_markdown_cell("## 2. Exercises\n\n" + "word " * 300)
    summary = new_markdown_cell("## Summary\n\n" + "word " * 199)
    assert minutes(new_markdown_cell(text)) == 1
    assert minutes(new_markdown_cell(text + references)) == 1
    chapter = [new_markdown_cell(text), exercises, new_code_cell("answer = None")]
    assert minutes(*chapter) == 1
    assert minutes(*chapter, summary) == 2


@pytest.fixture
def exempt_01(monkeypatch):
    """Chapter 01 need not keep the rules of cells and imports."""
    exempt = dict.fromkeys(rules.EXEMPT, ()) | {"cells": {"01"}, "imports": {"01"}}
    monkeypatch.setattr(rules, "EXEMPT", exempt)


@pytest.mark.usefixtures("exempt_01")
def test_exempt_chapters_are_warned_and_others_refused(tmp_path):
    cells = ["import a", "import b", "import c"]
    message = "imports in cells [1, 2, 3]"
    for name, exempt in (("01_old", True), ("90_new", False)):
        path = write(tmp_path, notebook_of(*cells), name)
        assert (message in " ".join(rules.warnings(path))) == exempt
        assert (message in " ".join(rules.lint(path))) != exempt


@pytest.mark.usefixtures("exempt_01")
def test_what_needs_no_exemption_any_more_is_told(tmp_path):
    folded = ("import b", "hide-input")
    path = write(tmp_path, notebook_of("import a", folded), "01_done")
    (line,) = rules.warnings(path)
    assert "needs no exemption any more from: cells, imports" in line


def test_judges_of_answers_are_folded(tmp_path):
    judge = "def verdict(x):\n    return x\n\n\nanswer = 1\nverdict(answer)"
    for tags, folded in ((), False), (("hide-input",), True):
        found = problems(tmp_path, (judge, "exercise-check", *tags))
        assert ("[1] judges an answer" in found) != folded
    assert "judges" not in problems(tmp_path, ("check_value(a, b)", "exercise-check"))


def test_imports_are_folded(tmp_path):
    for tags, folded in ((), False), (("hide-input",), True):
        found = problems(tmp_path, "import a", ("import b", *tags))
        assert ("[2] imports" in found) != folded


# ---- What a notebook's outputs depend on -------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A copy of the library that may be changed."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(tools.ROOT / "rpn_lib", tmp_path / "rpn_lib", ignore=ignore)
    return tmp_path


def names(source, root=tools.ROOT):
    found = tools.dependencies(notebook_of(source), root)
    return {path.relative_to(root / "rpn_lib").as_posix() for path in found}


def test_dependencies_are_the_closure_of_the_imports(root):
    library = {
        "__init__.py": "_HOME = {'Net': 'net', 'work': 'deep.work'}\n"
        "from rpn_lib.unused import x\n",
        "net.py": "from rpn_lib import boxes\nDATA = 'weights.pt'\n",
        "boxes.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from rpn_lib.types import T\n",
        "types.py": "",
        "unused.py": "",
        "lazy.py": "def f():\n    import rpn_lib.boxes\n",
        "deep/__init__.py": "",
        "deep/work.py": "from ..net import Net\n",
        "weights.pt": "1",
    }
    shutil.rmtree(root / "rpn_lib")
    for name, text in library.items():
        path = root / "rpn_lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    net = {"net.py", "boxes.py", "weights.pt"}
    deep = {"deep/__init__.py", "deep/work.py"} | net
    for source, expected in {
        "import torch": set(),
        "import rpn_lib": set(),
        "from rpn_lib import Net": net,
        "import rpn_lib\nrpn_lib.Net()": net,
        "from rpn_lib.net import Net": net,
        "%matplotlib inline\ndef f():\n    from rpn_lib.lazy import f": {
            "lazy.py",
            "boxes.py",
        },
        "from rpn_lib import work": deep,
        "from rpn_lib.deep.work import work": deep,
        "from rpn_lib import deep": {"deep/__init__.py"},
        "PROGRAM = 'from rpn_lib import types'": {"types.py"},
    }.items():
        assert names(source, root) == expected, source


def test_commands_depend_on_the_command_line():
    """On all of it: which of the commands a cell runs is not looked into."""
    commands = {"cli/train.py", "cli/propose.py", "cli/export.py", "figures/live.py"}
    for source in ("!rpn train --help", "!python -m rpn_lib --help", "['rpn', 'x']"):
        assert {"cli/__init__.py", *commands} <= names(source), source
    assert names("!pip install rpn_x") == set()


def stale(root):
    """Which notebooks a change of the library in `root` makes stale."""
    found = set()
    for path in tools.NOTEBOOKS:
        notebook = tools.read(path)
        if tools.digest(notebook, root) != tools.digest(notebook):
            found.add(path.stem[:2])
    return found


def test_a_word_in_the_command_line_leaves_all_notebooks_fresh(root):
    assert stale(root) == set()
    path = root / "rpn_lib" / "cli" / "__init__.py"
    path.write_text(path.read_text() + "# a word\n")
    users = {
        path.stem[:2]
        for path in tools.NOTEBOOKS
        if any("!rpn " in cell.source for cell in tools.code_cells(tools.read(path)))
    }
    assert stale(root) == users


def test_other_weights_make_stale_those_that_use_them_and_no_other(root):
    (root / "rpn_lib" / "scenes.pt").write_bytes(b"other weights")
    users = stale(root)
    assert {"07", "08"} <= users  # the chapters that load the trained network
    assert "01" not in users
    for path in tools.NOTEBOOKS:
        if "trained_rpn" in path.read_text():
            assert path.stem[:2] in users


def test_a_file_in_a_folder_of_the_library_is_noticed(root):
    path = root / "rpn_lib" / "figures" / "explorer.js"
    path.write_text(path.read_text() + "// a word\n")
    explorers = {
        path.stem[:2]
        for path in tools.NOTEBOOKS
        if "figures.explorer import" in path.read_text()
    }
    assert explorers
    assert explorers <= stale(root)
    path = root / "rpn_lib" / "data" / "scenes.py"
    path.write_text(path.read_text() + "# a word\n")
    assert len(stale(root)) == len(tools.NOTEBOOKS)  # every chapter has scenes


def test_a_change_of_the_code_makes_a_notebook_stale():
    notebook = notebook_of("1 + 1")
    assert tools.is_stale(notebook)
    notebook.metadata[tools.KEY] = {"digest": tools.digest(notebook)}
    assert not tools.is_stale(notebook)
    notebook.cells.append(new_markdown_cell("Prose."))
    assert not tools.is_stale(notebook)
    notebook.cells[0].source = "1 + 2"
    assert tools.is_stale(notebook)


# ---- Running -----------------------------------------------------------------------


def png_output(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    png = base64.b64encode(file.getvalue()).decode()
    return new_output("display_data", {"image/png": png, "text/plain": "<Figure>"})


def stored(output):
    ((kind, content),) = tools.pictures(new_code_cell(outputs=[output]))
    return kind, Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")


def test_drawings_are_stored_to_the_pixel():
    steps = np.linspace(0, 255, 640).astype(np.uint8)
    drawing = np.stack([np.tile(steps, (480, 1))] * 3, axis=2)
    drawing[100:200, 50:90] = (0, 158, 115)
    (output,) = tools.tidy([png_output(drawing)])
    kind, picture = stored(output)
    assert kind == "png"
    assert np.array_equal(np.asarray(picture), drawing)


def test_photographs_are_stored_as_they_look():
    """As a JPEG, under the limit: no sky in steps, and thin lines keep their colour."""
    photo = np.asarray(Image.fromarray(example_photo()[0].permute(1, 2, 0).numpy()))
    photo = np.array(Image.fromarray(photo).resize((900, 700)))
    photo[100:103, 100:600] = (213, 94, 0)
    (output,) = tools.tidy([png_output(photo)])
    kind, picture = stored(output)
    assert kind == "jpeg"
    assert len(base64.b64decode(output.data["image/jpeg"])) <= tools.MAX_PICTURE
    assert "image/png" not in output.data
    difference = np.abs(np.asarray(picture).astype(int) - photo)
    assert difference.mean() < 4
    assert difference[101, 100:600].mean() < 12
    assert len(picture.getcolors(10**6)) > 10_000


def test_streams_in_pieces_are_joined():
    pieces = [new_output("stream", name="stdout", text=text) for text in "abc"]
    pieces.insert(1, STDERR)
    assert [o.text for o in tools.tidy(pieces)] == ["a", "a warning", "bc"]


def test_pictures_of_data_that_must_not_be_passed_on_are_dropped(tmp_path):
    show = (
        "import base64, os\nfrom IPython.display import display\n"
        "png = base64.b64encode(b'').decode()\n"
        "display({'image/png': png, 'text/plain': 'a figure'}, raw=True)\n"
        "print(os.environ['OMP_NUM_THREADS'])"
    )
    path = write(tmp_path, notebook_of((show, "data-picture")))
    tools.execute(path)
    shown, printed = tools.read(path).cells[0].outputs
    assert shown.data == {"text/plain": "a figure"}
    assert printed.text == "1\n"
    found = " | ".join(rules.lint(path))
    assert "without alt text" in found  # the page still says what is there
    assert "must not be stored" not in found


def test_the_lead_picture_is_that_of_its_cell():
    notebook = notebook_of(("1", "lead-picture"))
    notebook.cells[0].outputs = tools.tidy([png_output(np.zeros((9, 9, 3), np.uint8))])
    title = "# Title\n\n![A box.](attachment:lead.jpeg)"
    notebook.cells.insert(0, new_markdown_cell(title))
    tools.refresh_lead_picture(notebook)
    first = notebook.cells[0]
    assert first.source.endswith("![A box.](attachment:lead.png)")
    ((_, content),) = tools.pictures(notebook.cells[1])
    assert first.attachments == {"lead.png": {"image/png": content}}
