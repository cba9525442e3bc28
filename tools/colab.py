"""Run each notebook alone, as Colab does: torch is there already, rpn_lib is not.

    python tools/colab.py                              # oldest, pinned, newest; all
    python tools/colab.py newest --notebooks notebooks/01_boxes.ipynb

For each set of versions an environment is made that has what Colab has (torch,
torchvision, matplotlib, Jupyter and so on) and no rpn_lib. A wheel of this working tree
stands for the repository: the set-up cell of a copy of each notebook installs it, with
what else it lacks. The copy is run in a folder of its own, and its outputs are compared
with the stored ones. torch must be the same afterwards.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import repository
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "_build" / "colab"
JUPYTER = ["ipykernel", "nbclient", "nbformat", "pytest", "nbval", "requests"]
# Of the oldest versions that pyproject.toml allows, with the NumPy of their time.
OLDEST = ["torch==2.4.*", "torchvision==0.19.*", "matplotlib==3.8.*", "numpy==1.26.*"]
OLDEST_UP_TO = (3, 12)  # the newest Python that these have wheels for


def environments(root: Path = ROOT) -> dict[str, list[str]]:
    """What is installed into each environment, by its name.

    >>> environments()["pinned"][0].startswith("torch==")
    True
    """
    names = ("torch", "torchvision", "matplotlib", "numpy")
    text = (root / "requirements.txt").read_text("utf-8")
    lines = re.findall(r"^([\w.-]+==[^\\\n]+)", text, re.M)
    pins = {  # of those for other versions of Python, none
        pin.name: f"{pin.name}{pin.specifier}"
        for pin in map(Requirement, lines)
        if pin.name in names and (not pin.marker or pin.marker.evaluate())
    }
    return {
        "oldest": OLDEST,
        "pinned": [pins[name] for name in names],
        "newest": [*names],
    }


def refuse_new_python(python: tuple[int, ...]) -> None:
    """Stop where a version of Python is too new for the oldest packages."""
    if python[:2] > OLDEST_UP_TO:
        has, last = (".".join(map(str, one)) for one in (python[:2], OLDEST_UP_TO))
        sys.exit(
            f"{' '.join(OLDEST[:2])} are not made for Python {has}: make colab "
            f"PYTHON=python{last}, or COLAB='pinned newest'."
        )


def prepared(text: str, wheel: Path, brought: list[str]) -> str:
    """A notebook whose set-up cell installs the wheel, and may print what it likes.

    Args:
        text: the content of the notebook file.
        wheel: stands for the repository.
        brought: the packages that rpn_lib needs and Colab lacks.
    """
    notebook = json.loads(text)
    cell = repository.setup_cell(notebook)
    if cell is None:
        raise ValueError("the first code cell does not look for rpn_lib")
    source = repository.with_setup(
        "".join(cell["source"]), str(wheel), brought, repository.imported(notebook)
    )
    cell["source"] = source.splitlines(keepends=True)
    cell["metadata"].setdefault("tags", []).append("nbval-ignore-output")
    return json.dumps(notebook)


def make_environment(name: str, packages: list[str], index: str | None) -> Path:
    """An environment that has what Colab has; its Python."""
    folder = FOLDER / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", folder])
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    torch = [one for one in packages if one.startswith("torch")]
    run([*pip, *torch, *(["--index-url", index] if index else [])])
    run([*pip, *packages, *JUPYTER, "pillow", "pyyaml"])
    return python


def run_notebooks(python: Path, paths: list[Path], wheel: Path) -> list[str]:
    """Run copies of notebooks in an environment; what went wrong, a line each."""
    brought, problems = repository.brought_along(ROOT), []
    before = version(python)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    for path in paths:
        alone = python.parent.parent / "work" / path.stem
        shutil.rmtree(alone, ignore_errors=True)
        alone.mkdir(parents=True)
        copy = alone / path.name
        copy.write_text(prepared(path.read_text("utf-8"), wheel, brought), "utf-8")
        run([python, "-m", "pip", "uninstall", "-q", "-y", "rpn_lib"], check=False)
        options = ["-q", "-p", "no:cacheprovider", "--nbval", "--nbval-sanitize-with"]
        command = [python, "-m", "pytest", *options, ROOT / "tests" / "nbval.cfg", copy]
        done = run(command, check=False, env=environment, cwd=alone)
        if done.returncode:
            problems.append(f"{path.name} does not run as it is stored")
        print(f"{path.name}: {'failed' if done.returncode else 'passed'}", flush=True)
    if version(python) != before:
        problems.append(f"torch was {before}, and the set-up cells made it another")
    return problems


def version(python: Path) -> str:
    """The versions of torch and torchvision in an environment."""
    code = "import torch, torchvision as t; print(torch.__version__, t.__version__)"
    return run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def run(command: list, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a program; where it fails, say which one, and what to do."""
    done = subprocess.run([*map(str, command)], check=False, **options)
    if check and done.returncode:
        advice = ""
        if "pip" in command:
            advice = (
                "Packages could not be downloaded or built (see above): check the "
                "network and the free disk space, then run make colab again. "
            )
        sys.exit(f"{advice}Failed: {' '.join(map(str, command))}")
    return done


def main() -> int:
    """The command."""
    known = environments()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--notebooks", nargs="+", type=Path, help="default: all")
    parser.add_argument("--torch-index", help="index of CPU-only builds of torch")
    parser.add_argument("--packages", nargs="+", help="in place of those of NAME")
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    names = options.names or list(known)
    if "oldest" in names and not options.packages:
        refuse_new_python(sys.version_info)
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for path in paths:
        if not path.is_file():
            sys.exit(f"There is no notebook {path}: give notebooks/01_boxes.ipynb.")
    wheels = FOLDER / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT])
    wheel = next(wheels.glob("rpn_lib-*.whl"))
    problems = []
    for name in names:
        packages = options.packages or known[name]
        python = make_environment(name, packages, options.torch_index)
        print(f"--- {name}: torch and torchvision {version(python)}", flush=True)
        found = run_notebooks(python, paths, wheel)
        problems += [f"{name}: {problem}" for problem in found]
    print("\n".join(problems) or "every notebook runs as it is stored")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
