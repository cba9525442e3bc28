"""What the Makefile says and runs, tried where it downloads nothing."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

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


def stub(path, code):
    """A Python that does what `code`, of a shell, says before all else."""
    path.write_text(f'#!/bin/sh\n{code}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def test_tasks_and_rules_are_the_same():
    text = MAKEFILE.read_text()
    named = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.M)).split()
    rules = re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.M)
    assert sorted(named) == sorted(rules)


def test_environments_are_found_where_windows_has_them():
    text = MAKEFILE.read_text().split("# ---- Tasks")[1]
    assert re.findall(r"(?:\.venv|_build)[^ ]*/bin/[^ ]*", text) == []
    assert ".venv/Scripts/pytest" in planned(
        "-o", "setup", "test-library", "OS=Windows_NT"
    )


def test_distclean_removes_every_environment():
    made = set(re.findall(r"VENV=(\.venv-[a-z]+)", MAKEFILE.read_text()))
    assert made == {".venv-newest", ".venv-oldest"}
    removed = planned("distclean").split()
    assert {".venv", *made} <= {*removed}


@pytest.mark.parametrize("index", ["", "https://example.org/cpu"])
@pytest.mark.parametrize("task", ["newest", "oldest"])
def test_torch_comes_from_the_index_that_was_given(tmp_path, task, index):
    """Of the environment that is made pip only writes down what it is told."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/../../told"\n')
    pip.chmod(0o755)
    code = """
if test "$1 $2" = "-m venv"; then mkdir -p "$3/bin" && cp pip "$3/bin/python"; exit; fi
case $2 in *"(3, 13)"*) exit;; esac  # old enough, whatever runs the tests
"""
    python = stub(tmp_path / "python", code)
    options = (f"PYTHON={python}", f"TORCH_INDEX={index}")
    make(task, *options, "MAKE=true", folder=tmp_path)
    first, *rest = (tmp_path / "told").read_text().splitlines()
    if index:
        assert f"--no-deps --index-url {index} torch" in first
        (first,) = rest
    assert "-e .[test] torch" in first
    assert "--index-url" not in first
    assert ("torch==2.4.* torchvision==0.19.* numpy<2" in first) == (task == "oldest")


def test_the_address_needs_python_alone(tmp_path):
    """Debian has venv and ensurepip in a package of their own."""
    code = 'test "$2" = "import ensurepip, venv" && exit 1'
    python = f"PYTHON={stub(tmp_path / 'python', code)}"
    assert make("check-repository", python).returncode == 0
    done = make("make-venv", python, folder=tmp_path)
    assert "lacks the modules venv and ensurepip" in done.stderr


@pytest.mark.parametrize("mark", ['"', "'", "`", "\\"])
def test_an_address_may_hold_any_character(mark):
    """And is refused in one line, not by the shell."""
    url = f"https://github.com/ann/x{mark}y"
    for given in (f"URL={url}", f"URL={url};exit 0"):
        done = make("set-repository", given)
        assert done.returncode
        first, last = done.stderr.splitlines()
        assert first.endswith(
            "is no address of a repository on GitHub: give one such as "
            "https://github.com/ME/REPO, or an empty one (URL=) for none."
        )
        assert last.startswith("make: ***")
    first, second, _ = make("check-repository", f"REPOSITORY=a/{mark}").stderr.split(
        "\n"
    )
    assert f"but this repository is a/{mark}. Run: make" in first
    assert second.startswith("make: ***")


def test_an_issue_is_opened_for_each_job_that_failed_and_has_none(tmp_path):
    gh = tmp_path / "gh"
    gh.write_text("""#!/bin/sh
printf '%s|' "$@" >> told; echo >> told
case "$1 $2" in
  "run view") echo "make oldest "; echo "make colab newest";;
  "issue list") echo "make oldest fails";;
esac
""")
    gh.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = "run=https://github.com/ann/book/actions/runs/17"
    done = make("report-failure", run, folder=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0].startswith("run|view|17|")
    created = [line for line in told if line.startswith("issue|create")]
    see = "See https://github.com/ann/book/actions/runs/17"
    assert created == [f"issue|create|--title|make colab newest fails|--body|{see}|"]


def test_a_quick_look_at_a_chapter_does_not_run_it():
    ask = ("-o", "setup", "check-chapter", "NAME=07_training")
    run = '--nbval --nbval-sanitize-with tests/nbval.cfg "notebooks/07_training.ipynb'
    whole, quick = planned(*ask), planned(*ask, "QUICK=1")
    assert run in whole
    assert run not in quick
    assert "NOT RUN: the cells of 07_training." in quick
    assert "tests/test_notebooks.py" in quick


def test_lint_looks_at_every_file_that_github_reads():
    lint = planned("-o", "setup", "lint")
    for schema in ("github-workflows", "github-actions", "dependabot"):
        assert f"--builtin-schema vendor.{schema} .github/" in lint


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


# ---- Notebooks in git --------------------------------------------------------------


@pytest.fixture
def git(tmp_path):
    """Run git in a new clone, with a PATH that has no .venv."""
    bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    bare |= {f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")}
    bare |= {f"GIT_{who}_EMAIL": "a@b.c" for who in ("AUTHOR", "COMMITTER")}
    clone = tmp_path / "a clone"
    clone.mkdir()

    def run(*arguments):
        command = ["git", "--no-pager", *arguments]
        options = {"cwd": clone, "env": bare, "capture_output": True, "text": True}
        return subprocess.run(command, check=True, **options).stdout

    run("init", "-q", "-b", "main")
    shutil.copy(ROOT / ".gitattributes", clone)
    run.clone = clone
    save(run, "x = 1", "y = 1")
    return run


def save(git, *sources, count=1):
    cells = [
        new_code_cell(source, id=f"c{n}", execution_count=count)
        for n, source in enumerate(sources)
    ]
    nbformat.write(new_notebook(cells=cells), git.clone / "a.ipynb")
    git("add", "-A")
    git("commit", "-q", "-m", "changed")


def nbdiff(git):
    """`make nbdiff`, with this environment in place of .venv."""
    done = make("nbdiff", "-o", "setup", f"VENV={sys.prefix}", folder=git.clone)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_git_shows_cells_where_no_environment_is_activated(git):
    save(git, "x = 2", "y = 1")
    plain = git("diff", "HEAD~1", "--", "a.ipynb")
    assert '+    "x = 2"' in plain
    undo = re.findall("^  git (.*)$", nbdiff(git), re.M)
    shown = git("diff", "HEAD~1", "--", "a.ipynb")
    assert "## modified /cells/0/source:" in shown
    assert '"source"' not in shown
    for command in undo:
        git(*command.split())
    assert git("diff", "HEAD~1", "--", "a.ipynb") == plain


@pytest.mark.parametrize("driver", [False, True])
def test_git_merges_what_two_have_changed(git, driver):
    """Of what is run twice the counts differ: to text a conflict, to nbdime none."""
    git("branch", "other")
    save(git, "x = 2", "y = 1", count=2)
    git("checkout", "-q", "other")
    save(git, "x = 1", "y = 2", count=3 if driver else 1)
    if driver:
        with pytest.raises(subprocess.CalledProcessError):
            git("merge", "-q", "-m", "both", "main")
        git("merge", "--abort")
        nbdiff(git)
    git("merge", "-q", "-m", "both", "main")
    merged = nbformat.read(git.clone / "a.ipynb", as_version=4)
    assert [cell.source for cell in merged.cells] == ["x = 2", "y = 2"]
