"""Every page of the built site in a browser: no errors, no sideways scroll."""

from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [c["file"] for part in TOC["parts"] for c in part["chapters"]]


def address(name):
    path = ROOT / "_build" / "html" / f"{name}.html"
    assert path.is_file(), "The book is not built; run `make book` first."
    return path


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")]
)
def test_page_opens(open_page, name, width, scheme):
    page = open_page(address(name), width=width, color_scheme=scheme)
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").last.inner_text().strip()


def test_formulas_are_drawn(open_page):
    page = open_page(address("notebooks/02_anchors"))
    page.wait_for_selector("mjx-container")
    page.wait_for_function(
        "document.querySelectorAll('mjx-container').length"
        " >= document.querySelectorAll('.math').length"
    )
    assert page.locator("mjx-merror").count() == 0


def test_the_sliders_of_the_chapter_move_the_anchor(open_page):
    page = open_page(address("notebooks/02_anchors"))
    figure = page.locator("rpn-explorer").first
    sentence = figure.locator("[aria-live]")
    before = sentence.inner_text()
    assert before.startswith("Anchor of 96.0 x 96.0 px.")
    figure.locator("input[type=range]").nth(3).press("End")
    assert sentence.inner_text().startswith("Anchor of 166.3 x 55.4 px.")
    figure.locator("input[type=range]").nth(0).press("Home")
    assert sentence.inner_text() != before


def test_search_finds_a_word(browser):
    """From a server, as published: search reads the pages that it lists."""

    def answer(route):
        path = ROOT / "_build" / "html" / urlparse(route.request.url).path.lstrip("/")
        route.fulfill(path=path) if path.is_file() else route.abort()

    with browser.new_context() as context:
        context.route("**/*", answer)
        page = context.new_page()
        page.goto("http://book.test/search.html?q=stride")
        page.wait_for_selector("#search-results li .context")
        assert "Anchors" in page.locator("#search-results").inner_text()
