"""Build the packages, look into them, and say what a release brings.

python tools/release.py build            # dist/: sdist and wheel, built and checked
python tools/release.py imports WHEEL    # which modules go without the extras?
python tools/release.py test WHEEL       # install it, and run tests against it
python tools/release.py notes v0.1.0     # the section of CHANGELOG.md
python tools/release.py check v0.1.0     # is everything of the version of the tag?
"""

import argparse
import ast
import importlib.metadata as metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import status
from repository import ROOT, version

# What a wheel holds besides modules.
DATA = {"py.typed", "scenes.pt", "explorer.js"}
DATA |= {"experiments_scenes.json", "experiments_bccd.json"}
# The tests of the core, which need the library alone; its doctests reach the rest.
CORE = (
    *("boxes", "anchors", "coverage", "backbones", "network", "transforms"),
    *("matching", "loss", "rpn", "nms", "evaluation", "unchanged"),
)
TESTS = tuple(f"tests/test_{name}.py" for name in CORE)
# The newest that the action in release.yml uploads: its twine is as old as its pin.
METADATA = (2, 4)


class ReleaseError(Exception):
    """Why there is nothing to release."""


# ---- What is in them ---------------------------------------------------------------


def library_files(root: Path) -> set[str]:
    """The files of the library that belong into a wheel."""
    return {
        path.relative_to(root).as_posix()
        for path in (root / "rpn_lib").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel; its list of checksums is left out."""
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if not n.endswith(".dist-info/RECORD")]
        return {name: archive.read(name) for name in names}


def check_wheel(wheel: Path, root: Path = ROOT) -> None:
    """It holds rpn_lib, whole, and nothing else."""
    found = {n for n in contents(wheel) if ".dist-info/" not in n}
    wanted = library_files(root)
    if found != wanted:
        raise ReleaseError(
            f"{wheel.name} lacks {sorted(wanted - found)} and has "
            f"{sorted(found - wanted)} too many."
        )
    missing = DATA - {Path(name).name for name in found}
    if missing:
        raise ReleaseError(f"{wheel.name} lacks data files: {sorted(missing)}.")


def metadata_of(package: Path) -> str:
    """What an sdist or a wheel says of itself."""
    if package.suffix == ".whl":
        (text,) = [t for n, t in contents(package).items() if n.endswith("/METADATA")]
        return text.decode()
    with tarfile.open(package) as archive:
        (name,) = [n for n in archive.getnames() if re.fullmatch("[^/]+/PKG-INFO", n)]
        return archive.extractfile(name).read().decode()


def check_metadata(package: Path) -> None:
    """The metadata of an sdist or a wheel have a version that can be uploaded."""
    (found,) = re.findall(r"^Metadata-Version: (.*)$", metadata_of(package), re.M)
    if tuple(map(int, found.split("."))) > METADATA:
        newest = ".".join(map(str, METADATA))
        raise ReleaseError(
            f"{package.name} has metadata of version {found}, and release.yml uploads "
            f"{newest} at most: set core-metadata-version in pyproject.toml."
        )


def build(out: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """sdist and wheel in `out`; a wheel made of the sdist is the same one."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("rpn_lib-*"):
        old.unlink()
    make = [sys.executable, "-m", "hatchling", "build", "--directory"]
    subprocess.run([*make, out, "-t", "sdist", "-t", "wheel"], cwd=root, check=True)
    (sdist,) = out.glob("rpn_lib-*.tar.gz")
    (wheel,) = out.glob("rpn_lib-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        second = Path(folder) / "wheel"
        subprocess.run([*make, second, "-t", "wheel"], cwd=source, check=True)
        if contents(second / wheel.name) != contents(wheel):
            raise ReleaseError(f"{sdist.name} does not build the same wheel.")
    check_wheel(wheel, root)
    for package in (sdist, wheel):
        check_metadata(package)
    return sdist, wheel


# ---- What they need ----------------------------------------------------------------


def requirements(wheel: Path) -> set[str]:
    """The packages that a wheel asks for, with those that they ask for in turn."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def asked(lines, extras):
        for line in lines or []:
            needed = Requirement(line)
            marks = [{"extra": name} for name in ("", *extras)]
            if not needed.marker or any(map(needed.marker.evaluate, marks)):
                yield canonicalize_name(needed.name), needed.extras

    lines = re.findall(r"^Requires-Dist: (.*)$", metadata_of(wheel), re.M)
    todo, seen = list(asked(lines, [])), set()
    while todo:
        name, extras = todo.pop()
        if name not in seen:
            seen.add(name)
            try:
                todo += asked(metadata.requires(name), extras)
            except metadata.PackageNotFoundError:
                continue  # for another system, or not installed: the import will tell
    return seen


ONLY = """
import importlib, importlib.abc, importlib.metadata, json, pkgutil, sys, warnings
folder, allowed = sys.argv[1], set(json.loads(sys.argv[2]))
owners = importlib.metadata.packages_distributions()
simple = lambda name: name.lower().replace("_", "-").replace(".", "-")

class Only(importlib.abc.MetaPathFinder):
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        owned = {simple(owner) for owner in owners.get(top, ())}
        if owned and top != "rpn_lib" and not owned & allowed:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
sys.path.insert(0, folder)
import rpn_lib
assert rpn_lib.__file__.startswith(folder), rpn_lib.__file__
failed = {}
"""
IMPORTS = """
for module in pkgutil.walk_packages(rpn_lib.__path__, "rpn_lib."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        failed[module.name] = error.name
for name, lines in json.loads(sys.argv[3]).items():
    try:
        exec(lines, {})
    except ModuleNotFoundError as error:
        failed[name] = error.name
json.dump(failed, sys.stdout)
"""


def chapter_imports(root: Path = ROOT) -> dict[str, str]:
    """What each chapter imports, as code."""
    found = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        code = ["".join(cell["source"]) for cell in status.code_cells(path)]
        lines = [
            ast.unparse(node)
            for source in code
            for node in ast.walk(
                ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", source, flags=re.M))
            )
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        found[path.name] = "\n".join(lines)
    return found


def failing_imports(wheel: Path, chapters: dict[str, str]) -> dict[str, str]:
    """The modules, and chapters, that cannot import something, and what it is.

    The wheel is unpacked, and of the packages of this environment only those are found
    that it asks for: as in a new environment, without downloading torch again.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        names = json.dumps(sorted(requirements(wheel)))
        command = [sys.executable, "-I", "-c", ONLY + IMPORTS, folder, names]
        command.append(json.dumps(chapters))
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise ReleaseError(f"rpn_lib cannot be imported: {done.stderr.strip()}")
        return json.loads(done.stdout)


def check_imports(wheel: Path) -> None:
    """All modules and chapters can import what they do, without an extra."""
    if not zipfile.is_zipfile(wheel):
        raise ReleaseError(f"{wheel} is no wheel: make dist builds one.")
    failed = failing_imports(wheel, chapter_imports())
    if failed:
        lines = [f"  {name} needs {what}" for name, what in failed.items()]
        raise ReleaseError("\n".join(["pip install rpn_lib is too little:", *lines]))


# ---- Do they work once installed? ----------------------------------------------------


def make_environment(folder: Path) -> Path:
    """A new environment with the packages of this one, but not its rpn_lib; its Python.

    They, and pip among them, are reached by a .pth file, which saves gigabytes. The
    .pth files among them are not followed, so an editable install of this checkout is
    not seen.
    """
    venv.create(folder, clear=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name.endswith("-packages")]
    (site / "shared.pth").write_text("\n".join(shared), "utf-8")
    return folder / "bin" / "python"


WHERE = "import os, rpn_lib; print(os.path.realpath(rpn_lib.__file__))"


def check_installed(
    wheel: Path, tests: tuple[str, ...] = TESTS, doctests: str = "rpn_lib"
) -> None:
    """Install a wheel into an environment of its own, and run tests there.

    Args:
        wheel: what is installed, without what it needs.
        tests: files of this checkout; all of tests/ is copied elsewhere.
        doctests: the package or module whose examples are run, as installed.
    """
    # Neither the checkout nor options of the user's pytest.
    hidden = {"PYTHONPATH", "PYTEST_ADDOPTS", "PYTHONHOME"}
    clean = {name: text for name, text in os.environ.items() if name not in hidden}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        python = make_environment(folder / "environment")
        away = folder / "away"
        shutil.copytree(ROOT / "tests", away / "tests")
        shutil.copy(ROOT / "conftest.py", away)
        (away / "pytest.ini").write_text("[pytest]\n")

        def run(*command: str | Path, failing: str) -> str:
            done = subprocess.run(
                command, cwd=away, env=clean, stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                print(done.stdout)
                raise ReleaseError(f"{wheel.name} {failing} (see above).")
            return done.stdout.strip()

        pip = (python, "-m", "pip", "install", "-q", "--no-index", "--no-deps")
        run(*pip, wheel.resolve(), failing="cannot be installed")
        found = run(python, "-c", WHERE, failing="cannot be imported")
        if not Path(found).is_relative_to(folder):
            raise ReleaseError(f"rpn_lib comes from {found}, not from {wheel.name}.")
        run(python.with_name("rpn"), "--version", failing="lacks the command rpn")
        pytest = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        selected = ("--doctest-modules", "--pyargs", *tests, doctests)
        print(run(*pytest, *selected, failing="fails tests once installed"))


# ---- What a release brings -----------------------------------------------------------


def notes(tag: str, root: Path = ROOT) -> str:
    """The section of CHANGELOG.md on the version of a tag such as v0.1.0."""
    number = re.escape(tag.removeprefix("v"))
    text = (root / "CHANGELOG.md").read_text("utf-8")
    found = re.search(rf"^## \[{number}\].*\n((?:(?!## ).*\n)*)", text, re.M)
    if not found or not found[1].strip():
        raise ReleaseError(
            f"CHANGELOG.md has no section ## [{tag.removeprefix('v')}]: rename "
            "## [Unreleased] to it, commit, and tag again."
        )
    return found[1].strip() + "\n"


def check_tag(tag: str, root: Path = ROOT) -> None:
    """The tag names the version in rpn_lib/__init__.py; notes and status are of it."""
    number = version(root)
    if ".dev" in number:
        raise ReleaseError(
            f"rpn_lib/__init__.py says {number}, which is never released: take the "
            "suffix off, run make set-repository, commit, and tag again."
        )
    if tag != f"v{number}":
        raise ReleaseError(
            f"The tag is {tag!r} and rpn_lib/__init__.py says {number}: tag v{number}, "
            "or change __version__ and run make set-repository."
        )
    notes(tag, root)
    stale = [f"  {line}" for line in status.stale(root)]
    if stale:
        raise ReleaseError(
            "\n".join(["book/status.md is stale: run make test status.", *stale])
        )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("build", "imports", "test", "notes", "check"))
    parser.add_argument("what", nargs="?", default="", help="the tag, or the wheel")
    options = parser.parse_args(arguments)
    try:
        if options.task == "build":
            print("\n".join(map(str, build(ROOT / "dist"))))
        elif options.task == "imports":
            check_imports(Path(options.what))
        elif options.task == "test":
            check_installed(Path(options.what))
        elif options.task == "notes":
            print(notes(options.what), end="")
        else:
            check_tag(options.what)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
