"""The status page says what the reports say."""

from xml.etree import ElementTree

import pytest
import status

import notebooks

TESTS = """<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3"
tests="20" time="125" timestamp="2026-01-02T03:04:05.6"/></testsuites>"""
CELLS = """<testsuites><testsuite errors="0" failures="1" skipped="0" tests="3" time="9"
timestamp="2026-01-02T03:04:05.6">
<testcase classname="notebooks.01_boxes.ipynb" name="Cell 0" time="1.5"/>
<testcase classname="notebooks.01_boxes.ipynb" name="Cell 1" time="2.25"/>
<testcase classname="notebooks.02_anchors.ipynb" name="Cell 0" time="4"/>
</testsuite></testsuites>"""


BENCH = """{"date": "2026-01-03", "processor": "abacus", "rows": [
{"name": "fast", "ours": 1.0, "torchvision": 4.0, "goal": 0.3},
{"name": "slow", "ours": 2.0, "torchvision": 4.0, "goal": 0.3},
{"name": "aimless", "ours": 2.0, "torchvision": 4.0, "goal": null},
{"name": "alone", "ours": 2.0, "torchvision": null, "goal": 11}]}"""


@pytest.fixture
def reports(tmp_path):
    (tmp_path / "tests.xml").write_text(TESTS)
    (tmp_path / "notebooks.xml").write_text(CELLS)
    (tmp_path / "bench.json").write_text(BENCH)
    return tmp_path


def test_the_page_has_counts_times_and_the_date(reports):
    suites = [status.read(reports / f"{n}.xml") for n in ("tests", "notebooks")]
    text = status.page(*suites, status.read_bench(reports / "bench.json"))
    assert "the run of 2026-01-02" in text
    assert "14 passed, 3 failed, 3 skipped" in text
    assert "2 equal,\n  1 different" in text
    assert "(../notebooks/01_boxes.ipynb) | 2 | 4 |" in text
    assert "(../notebooks/02_anchors.ipynb) | 1 | 4 |" in text
    assert "measured on 2026-01-03 on\nabacus" in text
    assert "| fast | 0.25 | 0.3 |\n| slow | 0.50 | 0.3 (missed) |\n" in text
    assert "aimless" not in text
    assert "alone" not in text


def test_a_missing_report_says_what_to_run(tmp_path):
    with pytest.raises(SystemExit, match="run make test first"):
        status.read(tmp_path / "tests.xml")
    with pytest.raises(SystemExit, match="run make bench first"):
        status.read_bench(tmp_path / "bench.json")


def test_the_title_is_that_of_the_chapter():
    assert status.title("01_boxes") == "1. Boxes"
    assert status.title(notebooks.NOTEBOOKS[0].stem) == "1. Boxes"


def test_counts_of_a_suite():
    suite = next(ElementTree.fromstring(TESTS).iter("testsuite"))
    assert status.counts(suite) == (14, 3, 3)
