"""The built site is whole. `make book` builds it; `make test` does so first."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [c["file"] for part in TOC["parts"] for c in part["chapters"]]


@pytest.fixture(params=PAGES)
def page(request):
    path = HTML / f"{request.param}.html"
    assert path.is_file(), "The book is not built; run `make book` first."
    return path


def test_every_page_of_the_book_is_in_the_contents():
    sources = {
        str(path.relative_to(ROOT).with_suffix(""))
        for pattern in ("book/*.md", "notebooks/*.ipynb")
        for path in ROOT.glob(pattern)
    }
    assert sources == set(PAGES)


def test_no_page_asks_the_network_for_anything(page):
    text = page.read_text()
    loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
    loaded += re.findall(r'<link\b[^>]*\brel="(?:stylesheet|preload)"[^>]*>', text)
    assert loaded
    assert [address for address in loaded if "://" in address] == []


def test_every_file_that_a_page_loads_is_there(page):
    text = page.read_text()
    for address in re.findall(r'<(?:script|img)\b[^>]*\bsrc="([^"]+)"', text):
        if not address.startswith("data:"):
            assert (page.parent / address.split("?")[0]).is_file(), address


def test_every_picture_has_a_text(page):
    for image in re.findall(r"<img\b[^>]*>", page.read_text()):
        alt = re.search(r'\balt="([^"]*)"', image)
        assert alt, image[:200]
        # Without metadata, MyST-NB makes the alt text a hash of the picture.
        assert not re.fullmatch(r"(\.\./)*_images/.*|[0-9a-f]{64}.*", alt[1]), alt[1]


def test_pages_weigh_little(page):
    images = re.findall(r'<img\b[^>]*\bsrc="([^":]*_images[^"]+)"', page.read_text())
    weight = page.stat().st_size
    weight += sum((page.parent / image).stat().st_size for image in set(images))
    assert weight < 1_500_000


def test_formulas_are_drawn_with_what_is_local():
    page = (HTML / "notebooks" / "02_anchors.html").read_text()
    assert "_static/mathjax/es5/tex-mml-chtml.js" in page
    fonts = HTML / "_static/mathjax/es5/output/chtml/fonts/woff-v2"
    assert len(list(fonts.glob("*.woff"))) > 10


def test_the_repository_is_named_in_one_way():
    """The address in _config.yml is the one in the notebooks and in the prose."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    address = config["repository"]["url"].removeprefix("https://github.com/")
    pattern = re.compile(r"github(?:\.com)?/([\w.-]+/developing-the-rpn)\b")
    for path in [*ROOT.glob("*/*.ipynb"), *ROOT.glob("book/*.md"), ROOT / "README.md"]:
        assert set(pattern.findall(path.read_text())) <= {address}, path
    notebook = (ROOT / "notebooks" / "02_anchors.ipynb").read_text()
    assert f"github/{address}/blob/main/notebooks/02_anchors.ipynb" in notebook
