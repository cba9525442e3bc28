"""Run the tests and the notebooks as on other processors, and say what differs.

    python tools/portable.py                                  # everything, three times
    python tools/portable.py --processor sse41 notebooks      # one of them, notebooks
    python tools/portable.py notebooks/06_loss.ipynb

PyTorch and oneDNN choose their code by the vector instructions of the processor, and
sums in another order end in other digits. Both can be told to do without some of the
instructions, which makes an x86 machine compute as an older one does. (Elsewhere the
settings change nothing.)
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import photographs

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
# What the site looks like, and whether outputs are fresh, no processor decides.
ELSEWHERE = ("browser", "test_book.py", "test_notebooks.py", "test_readme.py")


def commands(paths, jobs):
    """The arguments of pytest: for the tests among the paths, and for the notebooks."""
    options = ["-q", "-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else ["-q"]
    books = [p for p in paths if p.endswith(".ipynb") or Path(p).name == "notebooks"]
    tests = [path for path in paths if path not in books]
    if tests:
        ignored = [f"--ignore=tests/{name}" for name in ELSEWHERE]
        yield [*options, *ignored, *tests]
    if books:
        sanitize = ["--nbval", "--nbval-sanitize-with", "tests/nbval.cfg"]
        yield [*options, *sanitize, *books]


def without_data_left_out(paths):
    """The paths; in place of `notebooks` those that can be run here."""
    if not any(Path(path).name == "notebooks" for path in paths):
        return paths
    found, left_out = photographs.runnable()
    if left_out:
        print(left_out, flush=True)
    others = [path for path in paths if Path(path).name != "notebooks"]
    return others + [os.path.relpath(path, ROOT) for path in found]


def run(arguments, processor):
    """Run pytest as on this processor: its exit status, and what failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **PROCESSORS[processor]}
    environment.pop("MPLBACKEND", None)  # would keep figures out of the notebooks
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        program = [sys.executable, "-m", "pytest", "--color=no", *arguments]
        done = subprocess.run(
            [*program, f"--junitxml={report}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        if not report.exists():  # pytest did not come as far as to run anything
            return done.returncode, [(done.stdout + done.stderr).strip()]
        return done.returncode, list(failures(report.read_text("utf-8")))


def failures(report):
    """What failed, by pytest's report in JUnit's format, a text each."""
    for case in ElementTree.fromstring(report).iter("testcase"):
        for fault in (*case.findall("failure"), *case.findall("error")):
            text = re.sub(r"(#x1B|\x1b)\[[\d;]*m", "", fault.text or "")
            where = f"{case.get('classname')} {case.get('name')}"
            cell = re.search(r"Cell (\d+): (.*)\n\nInput:\n(.*?)\n\n", text, re.DOTALL)
            if cell is None:
                yield f"{where}: {fault.get('message', '').splitlines()[0]}"
                continue
            # nbval counts from 0, notebooks from 1.
            number, what, source = int(cell[1]) + 1, cell[2], first_line(cell[3])
            yield "\n".join(
                [f"{case.get('classname')} [{number}] {source}", f"    {what}"]
                + [f"    {line}" for line in difference(text)]
            )


def first_line(source):
    """The first line of a cell that is more than a comment or an import."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # with %magic
        body = []
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return source.splitlines()[node.lineno - 1]
    return source.strip().splitlines()[0]


def difference(text, most=6):
    """The lines of nbval's text that say what is not the same, or what was raised."""
    lines = [line.strip() for line in text.splitlines()]
    changed = [line for line in lines if re.match(r"[-+?] ", line)]
    raised = [line for line in lines if re.match(r"\w*(Error|Exception)\b:?", line)]
    shown = changed or raised[-1:]
    more = [f"and {len(shown) - most} lines more"] if len(shown) > most else []
    return [line[:120] for line in shown[:most]] + more


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--processor", choices=PROCESSORS, help="only as on this one, not all three"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many side by side")
    parser.add_argument("paths", nargs="*", default=["tests", "rpn_lib", "notebooks"])
    options = parser.parse_args()
    paths = without_data_left_out(options.paths)
    failed = False
    for processor in [options.processor] if options.processor else PROCESSORS:
        settings = " ".join(f"{k}={v}" for k, v in PROCESSORS[processor].items())
        print(f"=== {processor} {settings}".rstrip(), flush=True)
        for arguments in commands(paths, options.jobs):
            status, found = run(arguments, processor)
            failed |= status != 0
            name = "notebooks" if "--nbval" in arguments else "tests"
            text = "\n".join(found) or f"pytest ended with {status}"
            print(f"{name}: all the same" if status == 0 else f"{name}:\n{text}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
