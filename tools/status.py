"""Write the status page of the book from what the last runs have measured.

    python tools/status.py               # book/status.md, from _build/reports

`make test` leaves two reports in JUnit's format, `tests.xml` and `notebooks.xml`, and
`make bench` leaves `bench.json`.
"""

import argparse
import datetime
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import nbformat

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "_build" / "reports"
PAGE = ROOT / "book" / "status.md"
PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "jupyter-book", "nbval")


def read(path):
    """The suite that a report holds."""
    if not path.exists():
        sys.exit(f"{path} is missing: run make test first.")
    return next(ElementTree.parse(path).getroot().iter("testsuite"))


def counts(suite):
    """How many tests there were, and how they ended."""
    found = {name: int(suite.get(name)) for name in ("tests", "failures", "skipped")}
    failed = found["failures"] + int(suite.get("errors"))
    return found["tests"] - failed - found["skipped"], failed, found["skipped"]


def chapters(suite):
    """For each notebook its cells that were run, and their seconds."""
    found = {}
    for case in suite.iter("testcase"):
        parts = case.get("classname").split(".")  # notebooks.01_boxes.ipynb
        stem = next(part for part in parts if part[:2].isdigit())
        cells, seconds = found.get(stem, (0, 0.0))
        found[stem] = (cells + 1, seconds + float(case.get("time")))
    return dict(sorted(found.items()))


def title(stem, folder=ROOT / "notebooks"):
    """What a chapter is called."""
    notebook = nbformat.read(folder / f"{stem}.ipynb", as_version=4)
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def read_bench(path):
    """What `make bench` has measured."""
    if not path.exists():
        sys.exit(f"{path} is missing: run make bench first.")
    return json.loads(path.read_text("utf-8"))


def ratios(bench):
    """A line of a table for each work that has a goal: our time to torchvision's."""
    for row in bench["rows"]:
        if row["goal"] and row["torchvision"]:
            ratio = row["ours"] / row["torchvision"]
            missed = " (missed)" if ratio > row["goal"] else ""
            yield f"| {row['name']} | {ratio:.2f} | {row['goal']:g}{missed} |"


def page(tests, notebooks, bench):
    """The text of the page."""
    day = datetime.datetime.fromisoformat(tests.get("timestamp")).date().isoformat()
    passed, failed, skipped = counts(tests)
    cells, cells_failed, _ = counts(notebooks)
    rows = [
        f"| [{title(stem)}](../notebooks/{stem}.ipynb) | {number} | {seconds:.0f} |"
        for stem, (number, seconds) in chapters(notebooks).items()
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"""# Status

What the run of {day} found that wrote this page (`make test`, then `make status`), with
Python {platform.python_version()} on {platform.system()}, {platform.machine()}:
{versions}.

- **Tests**: {passed} passed, {failed} failed, {skipped} skipped, in
  {float(tests.get("time")) / 60:.0f} minutes.
- **Cells of notebooks** run again and compared with the stored outputs: {cells} equal,
  {cells_failed} different.

How long the cells of each chapter took, several notebooks side by side:

| chapter | cells | seconds |
|---|---|---|
{chr(10).join(rows)}

The time of the library to that of torchvision, measured on {bench["date"]} on
{bench["processor"]} (`make bench`; below 1 ours is faster, and [](speed.md) has all
rows):

| work | ratio | goal |
|---|---|---|
{chr(10).join(ratios(bench))}
"""


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    suites = [read(options.reports / f"{n}.xml") for n in ("tests", "notebooks")]
    bench = read_bench(options.reports / "bench.json")
    options.out.write_text(page(*suites, bench), "utf-8")
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
