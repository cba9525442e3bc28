"""Write the status page of the book from what the last runs have measured.

    python tools/status.py               # book/status.md, from _build/reports
    python tools/status.py --begin       # before the tests: notes what is tested

`make test` begins by noting in `run.json` what is tested, and with what. It leaves two
reports in JUnit's format, `tests.xml` and `notebooks.xml`, and `make bench` leaves
`bench.json`. Needs nothing but Python.
"""

import argparse
import datetime
import functools
import json
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import repository

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "_build" / "reports"
PAGE = ROOT / "book" / "status.md"
PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "jupyter-book", "nbval")
OF_A_RUN = ("run.json", "tests.xml", "notebooks.xml")
NOT_COMPARED = "nbval-ignore-output"


# ---- Before a run --------------------------------------------------------------------


def begin(reports, root=ROOT):
    """Remove the reports of an older run, and note what this one tests.

    What is noted is true of the run: when the page is written, other versions may be
    installed and another commit checked out.
    """
    reports.mkdir(parents=True, exist_ok=True)
    for name in OF_A_RUN:
        (reports / name).unlink(missing_ok=True)
    versions = {name: metadata.version(name) for name in PACKAGES}
    run = {
        "commit": commit(root),
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor(),
        "versions": {"rpn_lib": repository.version(root), **versions},
    }
    (reports / "run.json").write_text(json.dumps(run, indent=1), "utf-8")


def commit(root):
    """The commit that is checked out, and whether files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=10", "--exclude=*"]
    command.append("--dirty= with changes")
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def processor():
    """What the machine says of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(": ", 1)[1] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---- After it ------------------------------------------------------------------------


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
        cells, seconds = found.get(stem_of(case), (0, 0.0))
        found[stem_of(case)] = (cells + 1, seconds + float(case.get("time")))
    return dict(sorted(found.items()))


def stem_of(case):
    """The notebook that a cell belongs to, by its name `notebooks.01_boxes.ipynb`."""
    parts = case.get("classname").split(".")
    return next(part for part in parts if part[:2].isdigit())


def not_compared(suite, root=ROOT):
    """How many cells went through whose outputs are not compared, as their tags say."""
    found = 0
    for case in suite.iter("testcase"):
        if not {child.tag for child in case} & {"failure", "error", "skipped"}:
            number = int(case.get("name").removeprefix("Cell "))
            cell = code_cells(root / "notebooks" / f"{stem_of(case)}.ipynb")[number]
            found += NOT_COMPARED in cell["metadata"].get("tags", [])
    return found


@functools.cache
def code_cells(path):
    """The code cells of a notebook, in order."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def title(stem, root=ROOT):
    """What a chapter is called."""
    path = root / "notebooks" / f"{stem}.ipynb"
    first = json.loads(path.read_text("utf-8"))["cells"][0]
    return "".join(first["source"]).splitlines()[0].removeprefix("# ")


def read_json(path, task):
    """What a task of make has left there."""
    if not path.exists():
        sys.exit(f"{path} is missing: run make {task} first.")
    return json.loads(path.read_text("utf-8"))


def ratios(bench):
    """A line of a table for each work that has a goal: our time to torchvision's."""
    for row in bench["rows"]:
        if row["goal"] and row["torchvision"]:
            ratio = row["ours"] / row["torchvision"]
            missed = " (missed)" if ratio > row["goal"] else ""
            yield f"| {row['name']} | {ratio:.2f} | {row['goal']:g}{missed} |"


def page(run, tests, notebooks, bench):
    """The text of the page."""
    day = datetime.datetime.fromisoformat(tests.get("timestamp")).date().isoformat()
    passed, failed, skipped = counts(tests)
    cells, cells_failed, _ = counts(notebooks)
    ignored = not_compared(notebooks)
    rows = [
        f"| [{title(stem)}](../notebooks/{stem}.ipynb) | {number} | {seconds:.0f} |"
        for stem, (number, seconds) in chapters(notebooks).items()
    ]
    versions = ", ".join(f"{name} {of}" for name, of in run["versions"].items())
    return f"""# Status

What the run of {day} found (`make test`; `make status` writes this page). It tested
commit {run["commit"]} with Python {run["python"]} on {run["system"]},
{run["processor"]}:
{versions}.

- **Tests**: {passed} passed, {failed} failed, {skipped} skipped, in
  {float(tests.get("time")) / 60:.0f} minutes.
- **Cells of notebooks** run again and compared with the stored outputs:
  {cells - ignored} equal, {cells_failed} different. {ignored} more were run but not
  compared, since what they print differs from run to run.

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


def stale(root=ROOT):
    """What the page says that is no longer so, a line each: before a release."""
    text = (root / "book" / "status.md").read_text("utf-8")
    number = repository.version(root)
    if not re.search(rf"^rpn_lib {re.escape(number)},", text, re.M):
        yield f"it is not of a run of rpn_lib {number}"
    listed = dict(re.findall(r"/(\d\d_\w+)\.ipynb\) \| (\d+) \|", text))
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        there, said = len(code_cells(path)), int(listed.pop(path.stem, 0))
        if said != there:
            yield f"{path.name} has {there} cells of code, and the page says {said}"
    for stem in listed:
        yield f"there is no notebooks/{stem}.ipynb"


def main(arguments=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--begin", action="store_true", help="a run of the tests")
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if options.begin:
        begin(options.reports)
        return 0
    run = read_json(options.reports / "run.json", "test")
    suites = [read(options.reports / f"{n}.xml") for n in ("tests", "notebooks")]
    bench = read_json(options.reports / "bench.json", "bench")
    options.out.write_text(page(run, *suites, bench), "utf-8")
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
