"""What the Makefile says and runs, tried where it downloads nothing."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = ROOT / "Makefile"


def make(*arguments, folder=ROOT, **environment):
    """Run make in a folder, without what another make tells this one."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", "-f", MAKEFILE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**ours, **environment},
    )


def planned(*arguments):
    """The commands that make would run."""
    done = make("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("minor", "fits"), [(12, True), (13, False), (14, False)])
def test_a_python_too_new_for_the_oldest_versions_is_told(tmp_path, minor, fits):
    python = tmp_path / "python"
    new = f"import sys; sys.version_info = (3, {minor}, 1)"
    python.write_text(
        f'#!/bin/sh\ntest "$1" = -c && exec {sys.executable} -c "{new}\n$2"\nexit 1\n'
    )
    python.chmod(0o755)
    done = make("oldest", f"PYTHON={python}", folder=tmp_path)
    assert done.returncode
    says = f"not made for Python 3.{minor}.1: make oldest PYTHON=python3.12"
    assert (says in done.stderr) != fits
    assert fits or len(done.stderr.splitlines()) == 2  # ours, and that of make


def test_the_tests_of_the_library_need_no_tool():
    """So that they run on every system, and with the oldest packages."""
    tools = "|".join(path.stem for path in (ROOT / "tools").glob("*.py"))
    ignored = re.findall(r"--ignore (\S+)", planned("test-library"))
    assert all((ROOT / path).exists() for path in ignored)
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        uses = re.search(rf"^(import|from) ({tools})\b", path.read_text("utf-8"), re.M)
        if uses and path.stem != "test_make_scenes":  # which is of the library
            assert f"tests/{path.name}" in ignored, uses[0]


POSIX = r"os\.(kill|killpg|fork|sched_\w+)\(|SIGKILL|resource\.|MALLOC_|torchrun\("


def test_what_windows_lacks_is_not_asked_of_it():
    """`os.kill` too: on Windows it ends the process, whatever the signal."""
    ignored = re.findall(r"--ignore tests/(\S+)", planned("test-library"))
    found = 0
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        if path.name in ignored:
            continue
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = "".join(map(ast.unparse, node.decorator_list))
                body = ast.unparse(node)
                if re.search(POSIX, body):
                    found += 1
                    told = "NOT RUN" in marks or "posix" in marks
                    assert told or "sys.platform" in body, f"{path.name}: {node.name}"
    assert found >= 6
