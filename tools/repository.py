"""The address of the repository: one place for it, written to every other.

    python tools/repository.py set https://github.com/ME/REPO
    python tools/repository.py set ""                    # published nowhere
    python tools/repository.py check                     # every place that disagrees
    python tools/repository.py check --expect ME/REPO    # and is it this repository?

The address stands in `[project.urls]` of pyproject.toml and is empty until somebody
owns it. From there it is written into the blocks of the files in `BLOCKS` that begin
with a comment `repository: NAME` and end with `/repository`, and into each chapter: the
link below its title and the lines of the set-up cell. The texts of the blocks are the
files `tools/blocks/FILE.NAME.with` and `.without`. Needs nothing but Python.
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TEXTS = Path(__file__).resolve().parent / "blocks"
FILES = (
    "pyproject.toml",
    "_config.yml",
    "README.md",
    "CITATION.cff",
    "book/running.md",
    "book/cite.md",
)
BLOCK = re.compile(
    r"^(?P<indent> *)(?P<open>(?:#|<!--) repository: (?P<name>\w+).*\n)"
    r"(?P<body>(?:.*\n)*?)(?P<close> *(?:#|<!--) /repository.*)$",
    re.M,
)
SETUP = re.compile(r'^if find_spec\("rpn_lib"\) is None:.*\n(?:[ ]+.*(?:\n|\Z))+', re.M)
LAUNCH = re.compile(r"\n*^\[Open this chapter in Colab\]\(.*\)\n*\Z", re.M)
# What Colab has; a set-up cell brings the rest, without what these would pull in.
ON_COLAB = {"torch", "torchvision", "numpy", "matplotlib", "pillow"}
ON_COLAB |= {"requests", "platformdirs"}  # of google.colab, and of jupyter_core
# What chapters import besides, and what that needs in turn.
OTHERS = {
    "torchmetrics": ["torchmetrics", "lightning-utilities"],
    "pycocotools": ["pycocotools"],
    "onnxruntime": [
        *("onnx", "onnx-ir", "onnxruntime", "onnxscript"),
        *("flatbuffers", "ml-dtypes", "protobuf"),
    ],
}
# What no file can say, and only the owner can do.
ON_GITHUB = """Commit this. Then, once, on {url}/settings:
  Pages, Source: GitHub Actions, which publishes the book
  Advanced Security: Private vulnerability reporting, which SECURITY.md points to"""
# Links that lead to the repository or site of a book, not to other people's pages.
OWN_LINKS = [
    re.compile(r"git\+https://github\.com/([\w.-]+/[\w.-]+?)(?=[\"'\s@)`<]|\.git|$)"),
    re.compile(r"git clone https://github\.com/([\w.-]+/[\w.-]+?)(?=[\s`]|\.git|$)"),
    re.compile(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/"),
]
PATH_LINK = re.compile(
    r"github\.com/([\w.-]+/[\w.-]+)/(?:blob|tree|raw|edit)/[\w.-]+/([\w./-]+)"
)
SITE_LINK = re.compile(r"https://[\w-]+\.github\.io\b")
SCANNED = ("*.md", "book/*.md", "book/_ext/*", "notebooks/*.ipynb", "rpn_lib/**/*.py")


class AddressError(ValueError):
    """An address that cannot be that of a repository."""


class Repository(NamedTuple):
    """A repository on GitHub and the site that GitHub Pages makes of it."""

    owner: str
    name: str

    @property
    def slug(self) -> str:
        """OWNER/NAME, as GitHub Actions has it in `github.repository`."""
        return f"{self.owner}/{self.name}"

    @property
    def url(self) -> str:
        """The address of the repository."""
        return f"https://github.com/{self.slug}"

    @property
    def site(self) -> str:
        """The address of the published book."""
        host = f"{self.owner.lower()}.github.io"
        return f"https://{host}/" + ("" if self.name == host else f"{self.name}/")


def parse(url: str) -> Repository | None:
    """The repository of an address; None for the empty one."""
    if not url.strip():
        return None
    found = re.fullmatch(
        r"https://github\.com/([A-Za-z\d](?:-?[A-Za-z\d]){0,38})/([\w.-]{1,100}?)"
        r"(?:\.git)?/?",
        url.strip(),
        re.ASCII,
    )
    if not found or found[2] in (".", "..", ".git"):
        raise AddressError(
            f"{url!r} is no address of a repository on GitHub: give one such as "
            "https://github.com/ME/REPO, or an empty one (URL=) for none."
        )
    return Repository(*found.groups())


def current(root: Path) -> Repository | None:
    """The repository that pyproject.toml names, or None."""
    text = (root / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^Repository = "(.*)"$', text, re.M)
    return parse(found[1]) if found else None


def version(root: Path) -> str:
    """The version of the library, from the one place where it stands."""
    text = (root / "rpn_lib" / "__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "(.*)"$', text, re.M)[1]


def rewrite(path: str, text: str, repository: Repository | None, number: str) -> str:
    """The text of a file with the blocks that this repository and version ask for."""

    def fill(block: re.Match) -> str:
        kind = "with" if repository else "without"
        source = TEXTS / f"{Path(path).name}.{block['name']}.{kind}"
        body = Template(source.read_text("utf-8") if source.exists() else "")
        values = {"version": number}
        if repository:
            values |= {name: getattr(repository, name) for name in ("url", "slug")}
            values |= {"name": repository.name, "site": repository.site}
        lines = body.substitute(values).splitlines()
        indented = (f"{block['indent']}{line}".rstrip() + "\n" for line in lines)
        return block["indent"] + block["open"] + "".join(indented) + block["close"]

    return BLOCK.sub(fill, text)


def rewrite_notebook(
    path: str, text: str, repository: Repository | None, brought: list[str]
) -> str:
    """The text of a chapter: its link to Colab, and how its set-up cell gets rpn_lib.

    `brought` are the packages that rpn_lib needs and Colab lacks.
    """
    notebook = json.loads(text)
    first = notebook["cells"][0]
    title = LAUNCH.sub("", "".join(first["source"]))
    if repository:
        title += (
            "\n\n[Open this chapter in Colab](https://colab.research.google.com/github/"
            f"{repository.slug}/blob/main/{path})"
        )
    first["source"] = title.splitlines(keepends=True)
    cell = setup_cell(notebook)
    if cell:
        needed = f"git+{repository.url}" if repository else None
        source = with_setup(
            "".join(cell["source"]), needed, brought, imported(notebook)
        )
        cell["source"] = source.splitlines(keepends=True)
    # As nbformat writes it: nothing else in the file changes.
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def setup_cell(notebook: dict) -> dict | None:
    """The first code cell, where it looks for rpn_lib."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return cells[0] if cells and SETUP.search("".join(cells[0]["source"])) else None


def with_setup(
    source: str, requirement: str | None, brought: list[str], others: list[str]
) -> str:
    """The source of a set-up cell that gets rpn_lib as `requirement` says.

    With it come what rpn_lib needs, and what else the chapter imports.
    Pip is told --no-deps: whatever its versions, the torch that is there stays.
    """
    if requirement:
        lines = (
            'if find_spec("rpn_lib") is None:  # --no-deps: torch stays as it is\n'
            f"    %pip install -q --no-deps {' '.join([*brought, requirement])}\n"
        )
        for some in textwrap.wrap(" ".join(others), 56, break_on_hyphens=False):
            lines += f"    %pip install -q --no-deps {some}\n"
    else:
        lines = (
            'if find_spec("rpn_lib") is None:\n'
            '    raise ImportError("rpn_lib is missing: `pip install -e .` '
            'in a clone of the book")\n'
        )
    return SETUP.sub(lambda _: lines, source).rstrip("\n")  # of a cell of its own


def without_address(source: str) -> str:
    """A code cell as it is where there is no address: for digests.

    What a chapter prints does not depend on where rpn_lib would come from.
    """
    return with_setup(source, None, [], [])


def imported(notebook: dict) -> list[str]:
    """The packages of `OTHERS` that the code of a chapter imports."""
    code = "\n".join(
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    )
    return [
        package
        for module, packages in OTHERS.items()
        if re.search(rf"^\s*(?:import|from) {module}\b", code, re.M)
        for package in packages
    ]


def brought_along(root: Path) -> list[str]:
    """What the library needs and Colab lacks, by pyproject.toml, for every chapter."""
    text = (root / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)[1]
    names = re.findall(r'^ *"([\w.-]+)', listed, re.M)
    return [name for name in names if name not in {*ON_COLAB, *OTHERS}]


def expected(root: Path, repository: Repository | None) -> dict[Path, str]:
    """Every file that holds the address, and what it has to hold."""
    number, brought = version(root), brought_along(root)
    texts = {}
    for name in FILES:
        text = (root / name).read_text("utf-8")
        texts[root / name] = rewrite(name, text, repository, number)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        name = path.relative_to(root).as_posix()
        texts[path] = rewrite_notebook(
            name, path.read_text("utf-8"), repository, brought
        )
    return texts


def write(root: Path, repository: Repository | None) -> list[str]:
    """Write the address everywhere; the names of the files that changed."""
    changed = []
    for path, text in expected(root, repository).items():
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8", newline="\n")
            changed.append(path.relative_to(root).as_posix())
    return changed


def problems(root: Path) -> list[str]:
    """Every place that disagrees with the address in pyproject.toml, a line each."""
    repository = current(root)
    found = [
        f"{path.relative_to(root).as_posix()} does not fit the address"
        for path, text in expected(root, repository).items()
        if text != path.read_text("utf-8")
    ]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if setup_cell(json.loads(path.read_text("utf-8"))) is None:
            found.append(
                f"notebooks/{path.name}: its first code cell does not look for rpn_lib "
                '(if find_spec("rpn_lib") is None: ...)'
            )
    return found + list(_foreign_links(root, repository))


def _foreign_links(root: Path, repository: Repository | None):
    """Links to a repository or a site of this book that are not the address."""
    slug = repository.slug if repository else None
    scanned = {path for pattern in SCANNED for path in root.glob(pattern)}
    scanned |= {root / name for name in FILES}
    for path in sorted(path for path in scanned if path.is_file()):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            links = [m[1] for pattern in OWN_LINKS for m in pattern.finditer(line)]
            # A link to a file of this book, by its path: other projects have others.
            links += [m[1] for m in PATH_LINK.finditer(line) if (root / m[2]).exists()]
            wrong = [link for link in links if link != slug]
            if name in FILES:
                site = repository.site if repository else "none"
                found = SITE_LINK.finditer(line)
                wrong += [m[0] for m in found if not line.startswith(site, m.start())]
            for link in wrong:
                yield f"{name}, line {number}: {link} is not the address"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("set").add_argument("url", help="an empty one clears it")
    check = tasks.add_parser("check")
    check.add_argument("--expect", default="", metavar="OWNER/NAME")
    options = parser.parse_args(arguments)
    try:
        if options.task == "set":
            return _set(root, options.url)
        return _check(root, options.expect)
    except AddressError as error:
        print(error, file=sys.stderr)
        return 2


def _set(root: Path, url: str) -> int:
    repository = parse(url)
    changed = write(root, repository)
    print(f"The address is {repository.url if repository else 'empty'}.")
    print("\n".join(f"  written: {name}" for name in changed) or "  nothing to write")
    if repository:
        print(ON_GITHUB.format(url=repository.url))
    return 0


def _check(root: Path, expect: str) -> int:
    repository = current(root)
    found = problems(root)
    if found:
        url = repository.url if repository else ""
        found.append(f"Run: make set-repository URL={url}")
    if expect and expect != (repository.slug if repository else ""):
        found.append(
            f"The address is {repository.url if repository else 'empty'}, but this "
            f"repository is {expect}. "
            f"Run: make set-repository URL=https://github.com/{expect}"
        )
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
