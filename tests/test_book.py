"""The built site is whole. `make book` builds it; `make test` does so first."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import photographs
import pytest
import yaml
from PIL import Image

import notebooks
import rpn_lib

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [c["file"] for part in TOC["parts"] for c in part["chapters"]]

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
BASE = CONFIG["html"].get("baseurl", "")  # empty where the book is not published
ROOT_PATH = urlsplit(BASE).path or "/"


@pytest.fixture(params=PAGES)
def page(request):
    path = HTML / f"{request.param}.html"
    assert path.is_file(), "The book is not built; run `make book` first."
    return path


@pytest.mark.parametrize(
    "name", ["book/intro", "03_network", "07_training", "08_nms", "09_evaluation"]
)
def test_the_network_at_work_is_linked_where_it_is_explained(name):
    path = HTML / f"{name if '/' in name else f'notebooks/{name}'}.html"
    main = path.read_text("utf-8").split('<article class="bd-article"')[1]
    assert re.search(r'href="[^"]*live\.html', main.split("prev-next")[0])


def test_every_page_of_the_book_is_in_the_contents():
    sources = {
        str(path.relative_to(ROOT).with_suffix(""))
        for pattern in ("book/*.md", "notebooks/*.ipynb")
        for path in ROOT.glob(pattern)
    }
    assert sources == set(PAGES)


def test_the_reference_has_every_module_of_the_library():
    """And none twice: add a new one to book/api.md, below those that it builds on."""
    library = ROOT / "rpn_lib"
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in library.rglob("*.py")
        if not path.name.startswith("_")
    }
    listed = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text())
    packages = {f"rpn_lib.{path.name}" for path in library.iterdir() if path.is_dir()}
    assert sorted(set(listed) - packages) == sorted(modules)
    assert len(listed) == len(set(listed))


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
    weight += sum(
        path.stat().st_size for path in (ROOT / "book/static").glob("*.[cs]*")
    )
    weight += sum((page.parent / image).stat().st_size for image in set(images))
    assert weight < 1_500_000


@pytest.mark.parametrize("chapter", photographs.chapters(), ids=lambda path: path.stem)
def test_photographs_are_on_their_page_or_a_note_in_their_place(chapter):
    text = (HTML / "notebooks" / f"{chapter.stem}.html").read_text()
    cells = [c for c in notebooks.read(chapter).cells if photographs.is_photograph(c)]
    made = (photographs.KEPT / f"{chapter.stem}.json").is_file()
    assert text.count("not in this copy of the page") == (0 if made else len(cells))
    for cell in cells:
        alt = cell.metadata.mystnb["image"]["alt"]
        assert (f'alt="{alt}"' in text) == made
        assert alt in text
    # And it says in either case how they are had.
    assert "RPN_DATA" in text


def test_formulas_are_drawn_with_what_is_local():
    page = (HTML / "notebooks" / "02_anchors.html").read_text()
    assert "_static/mathjax/es5/tex-mml-chtml.js" in page
    fonts = HTML / "_static/mathjax/es5/output/chtml/fonts/woff-v2"
    assert len(list(fonts.glob("*.woff"))) > 10


class Head(HTMLParser):
    """The properties that a page tells of itself."""

    def __init__(self, text):
        super().__init__()
        self.meta, self.links = {}, {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "meta" and "content" in given:
            name = given.get("property") or given.get("name")
            self.meta[name] = given["content"]
        if tag == "link":
            self.links[given.get("rel")] = given.get("href")


def test_a_link_to_a_page_has_a_description_and_a_picture(page):
    head = Head(page.read_text())
    meta = head.meta
    assert 20 <= len(meta["description"]) <= 200
    assert "Open this chapter" not in meta["description"]
    assert meta["og:description"] == meta["description"]
    assert meta["og:title"]
    if not BASE:  # no address is claimed
        assert not {"og:url", "og:image"} & set(meta)
        assert "canonical" not in head.links
        return
    own = f"{BASE}{page.relative_to(HTML).as_posix()}"
    assert meta["og:url"] == head.links["canonical"] == own
    assert meta["og:image:alt"]
    picture = HTML / meta["og:image"].removeprefix(BASE)
    with Image.open(picture) as card:
        assert card.size == (1200, 630)
    assert picture.stat().st_size < 300_000
    if page.parent.name == "notebooks":
        assert picture.stem == page.stem  # the picture at the top of the chapter


def test_descriptions_differ():
    texts = [Head((HTML / f"{n}.html").read_text()).meta["description"] for n in PAGES]
    assert len(set(texts)) == len(texts)


def test_the_sitemap_has_every_page():
    if not BASE:  # its addresses are absolute
        assert not (HTML / "sitemap.xml").exists()
        return
    name = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"
    found = [loc.text for loc in ElementTree.parse(HTML / "sitemap.xml").iter(name)]
    assert sorted(found) == sorted(f"{BASE}{name}.html" for name in PAGES)


def test_the_page_for_a_wrong_address_loads_nothing_and_leads_back():
    """It is served at any depth, so that its links begin at the root of the server."""
    text = (HTML / "404.html").read_text()
    assert not re.findall(r'\b(?:src|url\()="?', text)
    found = re.findall(r'\b(?:href|action)="([^"]+)"', text)
    assert len(found) == 2
    for link in found:
        assert link.startswith(ROOT_PATH)
        assert (HTML / link.removeprefix(ROOT_PATH)).is_file()


def test_the_address_of_the_site_tells_what_the_book_is():
    head = Head((HTML / "index.html").read_text())
    first = Head((HTML / f"{TOC['root']}.html").read_text())
    for name in ("description", "og:title", "og:url", "og:image"):
        assert head.meta.get(name) == first.meta.get(name)
    assert head.meta["og:title"] == CONFIG["title"]


def test_the_script_for_formulas_comes_only_with_formulas(page):
    text = page.read_text()
    formulas = re.search(r'class="[^"]*\bmath\b', text) is not None
    assert ("tex-mml-chtml.js" in text) == formulas


def test_the_style_sheet_is_of_moderate_size():
    assert [path.name for path in (ROOT / "book" / "static").glob("*.css")] == [
        "book.css"
    ]
    assert (ROOT / "book" / "static" / "book.css").stat().st_size < 5_000


def test_no_page_names_a_repository_where_there_is_no_address(page):
    """Jupyter Book would lead to its own."""
    url = CONFIG["repository"]["url"]
    text = page.read_text()
    assert "executablebooks/jupyter-book" not in text
    assert ("btn-source-repository-button" in text) == bool(url)
    launch = "colab.research.google.com/github/" in text
    assert launch == bool(url and page.parent.name == "notebooks")


def test_the_site_tells_its_version_and_date(page):
    text = page.read_text()
    assert f"Version {rpn_lib.__version__}." in text
    assert re.search(r"Last updated on 20\d\d-\d\d-\d\d", text)
