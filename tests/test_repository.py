"""The address of the repository: one place for it, and every other place agrees."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import repository  # noqa: E402

import notebooks  # noqa: E402

ANN = "https://github.com/Ann-Lee/rpn.book"
BEN = "https://github.com/ben/detectors"


@pytest.fixture
def copy(tmp_path):
    """What the address is written into, as it is committed."""
    for name in (*repository.FILES, "rpn_lib/__init__.py", "CONTRIBUTING.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def texts(root):
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def set_to(url, root):
    assert repository.main(["set", url], root) == 0


def test_whoever_sets_an_address_is_told_what_only_they_can_do(copy, capsys):
    set_to(ANN, copy)
    said = capsys.readouterr().out
    assert f"{ANN}/settings" in said
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for setting in ("Pages", "Source", "Private vulnerability reporting"):
        assert setting in said
        assert setting in contributing.replace("\n", " ")
    set_to("", copy)
    assert "settings" not in capsys.readouterr().out


def test_what_is_not_pinned_is_named():
    makefile = (ROOT / "Makefile").read_text()
    tools = " ".join(re.findall(r"\$\(call with_tools,([a-z -]+)\)", makefile)).split()
    security = (ROOT / "SECURITY.md").read_text()
    for name in ("TORCH_INDEX", *tools, "uv", "make newest", "make oldest"):
        assert name in security


def test_every_place_in_this_repository_agrees():
    assert repository.problems(ROOT) == []


def test_the_address_is_written_everywhere_and_taken_back(copy):
    set_to("", copy)
    empty = texts(copy)
    assert repository.problems(copy) == []
    assert not any("github.com/Ann-Lee" in text for text in empty.values())

    set_to(ANN, copy)
    assert repository.current(copy).url == ANN
    assert repository.problems(copy) == []
    once = texts(copy)
    named = {path.relative_to(copy).as_posix() for path, t in once.items() if ANN in t}
    assert set(repository.FILES) <= named
    assert {f"notebooks/{p.name}" for p in copy.glob("notebooks/*.ipynb")} <= named

    set_to(ANN, copy)
    assert texts(copy) == once
    set_to(BEN, copy)
    assert "Ann-Lee" not in "".join(texts(copy).values())
    assert "ann-lee" not in "".join(texts(copy).values())
    set_to("", copy)
    assert texts(copy) == empty


def test_links_of_the_package_s_page_are_whole_addresses(copy):
    """As hatch-fancy-pypi-readme makes them: PyPI has no files of ours."""
    set_to(ANN, copy)
    settings = tomllib.loads((copy / "pyproject.toml").read_text())
    hook = settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    (fragment,) = hook["fragments"]
    text = (copy / fragment["path"]).read_text()
    relative = re.findall(r"\]\((?!http)([^)]+)\)", text)
    assert {"LICENSE", "book/static/trained.jpg"} <= set(relative)
    for one in hook["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert re.findall(r"\]\((?!https://)", text) == []
    assert f"]({ANN}/blob/main/LICENSE)" in text
    assert re.search(rf"!\[[^]]*\]\({ANN}/raw/main/book/static/trained.jpg\)", text)
    links = re.findall(rf"\]\({ANN}/(?:raw|blob)/main/([^)#]+)", text)
    assert set(links) == {link.partition("#")[0] for link in relative}
    assert all((ROOT / link).exists() for link in links)


def test_a_chapter_keeps_all_but_its_link_and_its_set_up_lines(copy):
    path = copy / "notebooks" / "01_boxes.ipynb"
    set_to("", copy)
    before = json.loads(path.read_text())
    set_to(ANN, copy)
    after = json.loads(path.read_text())
    changed = [
        number
        for number, (a, b) in enumerate(zip(before["cells"], after["cells"]))
        if a != b
    ]
    setup = next(
        number
        for number, cell in enumerate(before["cells"])
        if cell["cell_type"] == "code"
    )
    assert changed == [0, setup]
    assert before["metadata"] == after["metadata"]
    a, b = ("".join(nb["cells"][setup]["source"]) for nb in (before, after))
    assert repository.without_address(a) == repository.without_address(b)


@pytest.mark.parametrize("url", ["", ANN])
def test_an_address_makes_no_chapter_stale(copy, url):
    """Stored outputs were there before the address, and fit as well as before."""
    set_to(url, copy)
    chapters = sorted(copy.glob("notebooks/*.ipynb"))
    assert chapters
    for path in chapters:
        committed = notebooks.read(ROOT / "notebooks" / path.name)
        written = notebooks.read(path)
        assert notebooks.digest(written) == notebooks.digest(committed), path.name


def test_the_style_of_the_chapters_holds_with_an_address(copy):
    set_to(ANN, copy)
    command = [sys.executable, "-m", "ruff"]
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", "notebooks"]
    subprocess.run([*command, "check", "--select=E501", *config], cwd=copy, check=True)
    subprocess.run([*command, "format", "--check", *config], cwd=copy, check=True)


@pytest.mark.parametrize("url", ["", ANN])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", "make book", "make bok"),
        ("_config.yml", "  url:", "  # url:"),
        ("CITATION.cff", "\nversion: ", "\nversion: 9"),
        ("book/cite.md", "version = {", "version = {9."),
        ("notebooks/02_anchors.ipynb", "if find_spec(\\\"rpn_lib\\\") is None", "if 1"),
        ("notebooks/02_anchors.ipynb", "# 2. Anchors", "# A [x](https://colab.research"
         ".google.com/github/other/one/blob/main/notebooks/02_anchors.ipynb)"),
        ("README.md", "# Dev", "# https://other.github.io/book/ Dev"),
        ("CONTRIBUTING.md", "# Con", "# git clone https://github.com/other/one\n"),
        ("CONTRIBUTING.md", "# Con", "# git+https://github.com/other/one\n"),
        ("CONTRIBUTING.md", "# Con", "# (https://github.com/o/p/blob/main/README.md)"),
    ],
)  # fmt: skip
def test_a_place_that_disagrees_is_named(copy, capsys, url, name, old, new):
    set_to(url, copy)
    path = copy / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert repository.main(["check"], copy) == 1
    said = capsys.readouterr().err
    assert name in said
    assert f"Run: make set-repository URL={url}\n" in said


def test_pages_of_other_projects_are_left_alone(copy):
    set_to("", copy)
    with (copy / "README.md").open("a") as file:
        file.write(
            "https://github.com/pytorch/vision/blob/main/torchvision/ops/boxes.py"
        )
    assert repository.problems(copy) == []


def test_another_repository_is_told_the_command(copy, capsys):
    set_to("", copy)
    assert repository.main(["check", "--expect", "ben/detectors"], copy) == 1
    assert f"Run: make set-repository URL={BEN}\n" in capsys.readouterr().err
    set_to(BEN, copy)
    assert repository.main(["check", "--expect", "ben/detectors"], copy) == 0


@pytest.mark.parametrize(
    "url",
    [
        "ben/detectors", "http://github.com/ben/detectors", "https://github.com/ben",
        "https://gitlab.com/ben/detectors", "https://github.com/ben/de tectors",
        "https://github.com/-ben/x", "https://github.com/ben/..",
        "https://github.com/ben/detectors/tree/main", 'https://github.com/ben/x"y',
        "https://github.com/ben/é", "https://github.com/ben/x٣",
        "https://github.com/b٣n/x", "https://github.com/ben/.git",
        "https://github.com/ben/.git.git",
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused_and_nothing_written(copy, capsys, url):
    before = texts(copy)
    assert repository.main(["set", url], copy) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert texts(copy) == before


@pytest.mark.parametrize(
    ("url", "site"),
    [
        (f"{BEN}.git", "https://ben.github.io/detectors/"),
        (f"{ANN}/", "https://ann-lee.github.io/rpn.book/"),
        ("https://github.com/ben/ben.github.io", "https://ben.github.io/"),
    ],
)
def test_the_site_of_a_repository(url, site):
    assert repository.parse(url).site == site


def test_a_set_up_cell_without_the_library_says_how_to_get_it(copy):
    set_to("", copy)
    notebook = json.loads((copy / "notebooks" / "01_boxes.ipynb").read_text())
    source = "".join(repository.setup_cell(notebook)["source"])
    lines = repository.SETUP.search(source)[0]
    with pytest.raises(ImportError, match=r"pip install -e \."):
        exec(lines, {"find_spec": lambda name: None})
    exec(lines, {"find_spec": lambda name: name})


def test_a_set_up_cell_brings_what_its_chapter_needs_and_no_torch(copy):
    set_to(ANN, copy)
    for path in sorted(copy.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text())
        source = "".join(repository.setup_cell(notebook)["source"])
        commands = re.findall(r"%pip install -q --no-deps (.*)", source)
        packages = " ".join(commands).split()
        assert packages.count(f"git+{ANN}") == 1
        assert {"einops", "defusedxml"} <= set(packages)
        assert not {"torch", "torchvision", "numpy"} & set(packages)
        code = "".join("".join(cell["source"]) for cell in notebook["cells"])
        assert ("import torchmetrics" in code or "from torchmetrics" in code) == (
            "torchmetrics" in packages
        )


def test_the_version_stands_in_one_place():
    version = repository.version(ROOT)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"version = {{{version}}}" in (ROOT / "book" / "cite.md").read_text()


# Builds each book in a process of its own, which finds imported already what a build
# spends most of its time on.
BUILD = """
import os, sys
import jupyter_book.sphinx, myst_nb, torch
from jupyter_book.cli.main import main
for root in sys.argv[1:]:
    if os.fork() == 0:
        main(["build", root, "-q"])
    if os.wait()[1]:
        sys.exit(f"{root} is not built")
"""


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """Two pages of the book, without and with an address."""
    kept = shutil.ignore_patterns(".*", "_build", "__pycache__", "runs", "data")
    toc = {"format": "jb-book", "root": "book/intro", "chapters": []}
    toc["chapters"] = [{"file": "notebooks/02_anchors"}]
    # It exports the network after each build, for a page that is not built here.
    extension = "    rpn_live: book/_ext\n"
    roots = {}
    for url in ("", ANN):
        roots[url] = root = tmp_path_factory.mktemp("made") / "book"
        shutil.copytree(ROOT, root, ignore=kept)
        set_to(url, root)
        (root / "_toc.yml").write_text(yaml.safe_dump(toc))
        config = (root / "_config.yml").read_text()
        assert extension in config
        (root / "_config.yml").write_text(config.replace(extension, ""))
    command = [sys.executable, "-c", BUILD, *roots.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return roots


@pytest.mark.parametrize("url", ["", ANN])
def test_the_book_is_built_with_and_without_an_address(books, url):
    root = books[url]
    html = root / "_build" / "html"
    chapter = (html / "notebooks" / "02_anchors.html").read_text()
    launch = "colab.research.google.com/github/Ann-Lee/rpn.book/blob/main/notebooks/"
    assert chapter.count(f"{launch}02_anchors.ipynb") == (2 if url else 0)
    assert (f"{ANN}/edit/main/notebooks/02_anchors.ipynb" in chapter) == bool(url)
    assert ('<link rel="canonical"' in chapter) == bool(url)
    assert (html / "sitemap.xml").exists() == bool(url)
    index = (html / "index.html").read_text()
    site = "https://ann-lee.github.io/rpn.book/book/intro.html"
    assert (f'<link rel="canonical" href="{site}">' in index) == bool(url)
    assert 'content=""' not in index
    for page in (chapter, index, (html / "404.html").read_text()):
        assert "executablebooks/jupyter-book" not in page
        assert ("github.com/" in re.sub(r"github\.com/pytorch", "", page)) <= bool(url)
