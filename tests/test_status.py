"""The status page says what the reports say."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import status

import notebooks

TESTS = """<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3"
tests="20" time="125" timestamp="2026-01-02T03:04:05.6"/></testsuites>"""
CELLS = """<testsuites><testsuite errors="0" failures="1" skipped="0" tests="3" time="9"
timestamp="2026-01-02T03:04:05.6">
<testcase classname="notebooks.01_boxes.ipynb" name="Cell 0" time="1.5"/>
<testcase classname="notebooks.01_boxes.ipynb" name="Cell 1" time="2.25">
<failure message="differs"/></testcase>
<testcase classname="notebooks.02_anchors.ipynb" name="Cell 0" time="4"/>
</testsuite></testsuites>"""


BENCH = """{"date": "2026-01-03", "processor": "abacus", "rows": [
{"name": "fast", "ours": 1.0, "torchvision": 4.0, "goal": 0.3},
{"name": "slow", "ours": 2.0, "torchvision": 4.0, "goal": 0.3},
{"name": "aimless", "ours": 2.0, "torchvision": 4.0, "goal": null},
{"name": "alone", "ours": 2.0, "torchvision": null, "goal": 11}]}"""


RUN = """{"commit": "0123456789", "python": "3.99.1", "system": "Plan 9",
"processor": "slide rule", "versions": {"rpn_lib": "8.7", "torch": "9.9"}}"""


@pytest.fixture
def reports(tmp_path):
    (tmp_path / "run.json").write_text(RUN)
    (tmp_path / "tests.xml").write_text(TESTS)
    (tmp_path / "notebooks.xml").write_text(CELLS)
    (tmp_path / "bench.json").write_text(BENCH)
    return tmp_path


def written(reports):
    """The page that is made of these reports."""
    out = reports / "status.md"
    assert status.main(["--reports", str(reports), "--out", str(out)]) == 0
    return out.read_text()


def test_the_page_has_counts_times_and_the_date(reports):
    text = written(reports)
    assert "the run of 2026-01-02" in text
    assert "14 passed, 3 failed, 3 skipped" in text
    assert "2 equal, 1 different" in text
    assert "(../notebooks/01_boxes.ipynb) | 2 | 4 |" in text
    assert "(../notebooks/02_anchors.ipynb) | 1 | 4 |" in text
    assert "measured on 2026-01-03 on\nabacus" in text
    assert "| fast | 0.25 | 0.3 |\n| slow | 0.50 | 0.3 (missed) |\n" in text
    assert "aimless" not in text
    assert "alone" not in text


def test_the_page_tells_what_was_tested_not_what_is_there_now(reports):
    text = written(reports)
    assert "commit 0123456789 with Python 3.99.1 on Plan 9,\nslide rule:" in text
    assert "\nrpn_lib 8.7, torch 9.9.\n" in text


def test_cells_that_are_not_compared_are_counted_apart(reports):
    tagged = [
        number
        for number, cell in enumerate(status.code_cells(notebooks.NOTEBOOKS[0]))
        if status.NOT_COMPARED in cell["metadata"].get("tags", [])
    ]
    assert tagged
    text = CELLS.replace("Cell 0", f"Cell {tagged[0]}", 1)
    (reports / "notebooks.xml").write_text(text)
    assert "1 equal, 1 different. 1 more were run but not" in written(reports)
    # One that went wrong is a failure, tagged or not.
    text = CELLS.replace("Cell 1", f"Cell {tagged[0]}", 1)
    (reports / "notebooks.xml").write_text(text)
    assert "2 equal, 1 different. 0 more were run but not" in written(reports)


def test_a_run_begins_without_the_reports_of_an_older_one(reports):
    assert status.main(["--begin", "--reports", str(reports)]) == 0
    left = {path.name for path in reports.iterdir()}
    assert left == {"run.json", "bench.json"}
    run = json.loads((reports / "run.json").read_text())
    assert run.keys() == json.loads(RUN).keys()
    assert run["versions"].keys() == {"rpn_lib", *status.PACKAGES}
    assert run["python"] == sys.version.split()[0]
    with pytest.raises(SystemExit, match=r"tests\.xml is missing: run make test"):
        written(reports)


def test_the_commit_says_whether_files_differ(tmp_path):
    assert status.commit(tmp_path) == "unknown"
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c"]
    (tmp_path / "a").write_text("a")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    clean = status.commit(tmp_path)
    assert len(clean) == 10
    (tmp_path / "a").write_text("b")
    assert status.commit(tmp_path) == f"{clean} with changes"


@pytest.mark.parametrize("name", ["run.json", "tests.xml", "notebooks.xml"])
def test_a_missing_report_says_what_to_run(reports, name):
    (reports / name).unlink()
    with pytest.raises(SystemExit, match=f"{name} is missing: run make test first"):
        written(reports)


def test_a_missing_bench_says_what_to_run(reports):
    (reports / "bench.json").unlink()
    with pytest.raises(SystemExit, match="run make bench first"):
        written(reports)


def test_the_title_is_that_of_the_chapter():
    assert status.title("01_boxes") == "1. Boxes"
    assert status.title(notebooks.NOTEBOOKS[0].stem) == "1. Boxes"


def test_counts_of_a_suite():
    suite = next(ElementTree.fromstring(TESTS).iter("testsuite"))
    assert status.counts(suite) == (14, 3, 3)


@pytest.fixture
def released(tmp_path):
    """A book of two chapters, and its page after a run."""
    for name in ("rpn_lib", "notebooks", "book"):
        (tmp_path / name).mkdir()
    (tmp_path / "rpn_lib" / "__init__.py").write_text('__version__ = "8.7"\n')
    for stem, count in {"01_boxes": 2, "02_anchors": 1}.items():
        cells = [{"cell_type": "code"}] * count + [{"cell_type": "markdown"}]
        path = tmp_path / "notebooks" / f"{stem}.ipynb"
        path.write_text(json.dumps({"cells": cells}))
    return tmp_path


def test_a_page_is_stale_where_version_or_cells_are_others(reports, released):
    page = released / "book" / "status.md"
    text = written(reports)
    page.write_text(text)
    assert list(status.stale(released)) == []
    page.write_text(text.replace("rpn_lib 8.7", "rpn_lib 8.7.dev0"))
    assert list(status.stale(released)) == ["it is not of a run of rpn_lib 8.7"]
    page.write_text(text.replace("ipynb) | 2 |", "ipynb) | 3 |"))
    (found,) = status.stale(released)
    assert found == "01_boxes.ipynb has 2 cells of code, and the page says 3"
    page.write_text(text)
    (released / "notebooks" / "02_anchors.ipynb").unlink()
    assert list(status.stale(released)) == ["there is no notebooks/02_anchors.ipynb"]
