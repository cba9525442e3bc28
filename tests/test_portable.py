"""`make portable` says which cells differ; here on a notebook made for it."""

import nbformat
import portable
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

STORED = new_output("execute_result", {"text/plain": "'default'"}, execution_count=1)
CELL = "# What the kernel is told.\nimport os\nos.environ.get('ATEN_CPU_CAPABILITY')"


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "90_trial.ipynb"
    cells = [
        new_code_cell("x = 1", execution_count=1),
        new_code_cell(CELL, outputs=[STORED], execution_count=2),
        new_code_cell("%time\nassert x == 2", execution_count=3),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_cells_that_differ_are_told_with_what_differs(notebook):
    ((arguments),) = portable.commands([str(notebook)], jobs=1)
    status, same = portable.run(arguments, "sse41")
    assert status == 1
    assert len(same) == 1
    assert same[0].splitlines()[0].endswith("[3] %time")
    assert "AssertionError" in same[0]
    status, found = portable.run(arguments, "avx2")
    assert status == 1
    first, what, *lines = found[0].splitlines()
    assert first.endswith("[2] os.environ.get('ATEN_CPU_CAPABILITY')")
    assert what == "    Cell outputs differ"
    assert [line.strip() for line in lines if "?" not in line] == [
        "- 'avx2'",
        "+ 'default'",
    ]


def test_a_test_that_fails_is_told(tmp_path):
    path = tmp_path / "test_trial.py"
    path.write_text("def test_a():\n    pass\n\n\ndef test_b():\n    assert 1 == 2\n")
    ((arguments),) = portable.commands([str(path)], jobs=1)
    status, found = portable.run(arguments, "native")
    assert status == 1
    assert [text.split(".")[-1] for text in found] == [
        "test_trial test_b: assert 1 == 2"
    ]


def test_nothing_to_run_is_a_failure(tmp_path):
    ((arguments),) = portable.commands([str(tmp_path / "nowhere.ipynb")], jobs=1)
    status, found = portable.run(arguments, "native")
    assert status != 0
    assert not any("all the same" in text for text in found)


def test_tests_and_notebooks_are_told_apart():
    tests, books = portable.commands(["tests", "rpn_lib", "notebooks"], jobs=2)
    assert tests[-2:] == ["tests", "rpn_lib"]
    assert "--nbval" not in tests
    assert books[-1] == "notebooks"
    assert "--nbval" in books
    assert {*portable.PROCESSORS} == {"native", "avx2", "sse41"}
