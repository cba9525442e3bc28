"""Every page of the built site in a browser: it opens, fits, and can be used."""

import json
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"]] + [c["file"] for part in TOC["parts"] for c in part["chapters"]]
CHAPTERS = [name for name in PAGES if name.startswith("notebooks/")]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
BASE = CONFIG["html"].get("baseurl", "http://127.0.0.1/")  # the test answers itself


def address(name):
    path = HTML / f"{name}.html"
    assert path.is_file(), "The book is not built; run `make book` first."
    return path


@pytest.fixture
def open_site(browser):
    """Opens an address of the site, as its server would answer."""
    contexts = []

    def answer(route):
        path = urlparse(route.request.url).path.removeprefix(urlparse(BASE).path)
        file = HTML / path
        if file.is_file():
            return route.fulfill(path=file)
        return route.fulfill(path=HTML / "404.html", status=404)

    def open_address(path, **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].route("**/*", answer)
        page = contexts[-1].new_page()
        page.goto(BASE + path)
        return page

    yield open_address
    for context in contexts:
        context.close()


# Text whose chain of elements and classes up to the body has been seen has been looked
# at: it has the same colours. A chapter has thousands of coloured words of code, and a
# minute would go into their contrast. Of the links with the same chain one keeps the
# text that it stands in, the one with most text around it: axe-core compares the two.
THIN_OUT = """() => {
    const chain = (node) => {
        let text = '';
        for (let e = node; e !== document.body; e = e.parentElement) {
            text += `${e.tagName} ${e.className} ${e.getAttribute('style') ?? ''}/`;
        }
        return text;
    };
    const isInline = (e) => getComputedStyle(e).display === 'inline';
    const inlineOf = (e) => [e, ...[...e.children].filter(isInline).flatMap(inlineOf)];
    const length = (nodes) => nodes.map((n) => n.data ?? '').join('').trim().length;
    const around = new Map();
    for (const link of document.body.querySelectorAll('a[href]')) {
        let block = link.parentElement;
        while (isInline(block)) block = block.parentElement;
        const parts = inlineOf(block);
        const texts = parts.flatMap((e) => [...e.childNodes]);
        const more = length(texts.filter((n) => !n.parentElement.closest('a')))
            - length(texts.filter((n) => n.parentElement.closest('a')));
        if (more > (around.get(chain(link))?.more ?? -Infinity)) {
            around.set(chain(link), { more, parts });
        }
    }
    const whole = new Set([...around.values()].flatMap(({ parts }) => parts));
    const seen = new Set();
    for (const node of [...document.body.querySelectorAll('*')]) {
        const texts = [...node.childNodes].filter((n) => n.nodeType === 3);
        if (!texts.some((n) => n.data.trim())) continue;
        if (seen.has(chain(node)) && !whole.has(node)) texts.forEach((n) => n.remove());
        seen.add(chain(node));
    }
    // The theme measures its header a moment after the page has become wider.
    const kept = 'rpn-explorer, header, img, input, button, svg, style, script';
    for (const node of [...document.body.querySelectorAll('*')].reverse()) {
        if (!node.closest(kept) && !node.querySelector(kept)
            && !node.textContent.trim()) node.remove();
    }
}"""

# Two thirds of the elements of a chapter are the coloured words of its code. All that
# axe-core has to say of them is whether they can be read: for the other rules the code
# is plain text, and takes half of the time.
PLAIN_CODE = """() => {
    window.words = [];
    const all = document.querySelectorAll('pre span, code span, .sig span');
    for (const span of [...all].reverse()) {
        const more = [...span.attributes].some((a) => a.name !== 'class');
        if (more || span.childElementCount) continue;
        const text = document.createTextNode(span.textContent);
        span.replaceWith(text);
        window.words.push([text, span]);
    }
}"""
COLOURED_CODE = """() => {
    for (const [text, span] of window.words.reverse()) text.replaceWith(span);
}"""


WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


def violations(page, only=WCAG, without=()):
    """What axe-core finds against WCAG 2.1, levels A and AA."""
    if not page.evaluate("'axe' in window"):
        script = files("axe_playwright_python") / "axe.min.js"
        page.evaluate(script.read_text("utf-8"))
    # Changes of colour take time, when the scheme has just changed.
    page.add_style_tag(content="* { transition: none !important; }")
    options = {
        "runOnly": only,
        "rules": {name: {"enabled": False} for name in without},
        "resultTypes": ["violations"],
        "preload": False,  # of style sheets, which the browser refuses from a file
    }
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        (violation["id"], node["target"], node["failureSummary"])
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


OF_COLOURS = ("color-contrast", "link-in-text-block")


def faults_of_colours(page):
    page.evaluate(THIN_OUT)
    return violations(page, {"type": "rule", "values": OF_COLOURS})


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def to_scheme(page, name):
    page.emulate_media(color_scheme=name)
    page.wait_for_selector(f"html[data-theme={name}]")


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_a_page_fits_phone_and_laptop_and_breaks_no_rule(open_page, name):
    """Opened once, for MathJax and the figures take their time.

    Of axe-core's rules, neither the theme nor we break one: none is left out.
    """
    page = open_page(address(name), width=360, color_scheme="light")
    page.wait_for_load_state("load")
    assert fits(page)
    assert page.locator("h1").last.inner_text().strip()
    page.set_viewport_size({"width": 1280, "height": 800})
    assert fits(page)
    wide = page.locator(".cell_input pre").evaluate_all(
        "all => all.filter((e) => e.scrollWidth > e.clientWidth)"
        ".map((e) => e.textContent)"
    )
    assert wide == []  # no code scrolls sideways on a laptop
    page.evaluate(PLAIN_CODE)
    assert violations(page, without=OF_COLOURS) == []
    page.evaluate(COLOURED_CODE)
    to_scheme(page, "dark")
    assert fits(page)
    assert faults_of_colours(page) == []
    to_scheme(page, "light")
    assert faults_of_colours(page) == []


def test_axe_sees_what_is_wrong(open_page):
    page = open_page(address(CHAPTERS[0]))
    page.evaluate("document.querySelector('.bd-article p + p').style.color = '#ccc'")
    page.evaluate("document.querySelector('.bd-article img').removeAttribute('alt')")
    page.add_style_tag(  # nearly the colour of the text
        content="a { color: #464646 !important; text-decoration: none !important }"
    )
    found = violations(page, without=OF_COLOURS)
    assert {rule for rule, *_ in found} == {"image-alt"}
    assert {rule for rule, *_ in faults_of_colours(page)} == {*OF_COLOURS}


def test_the_first_screen_says_what_the_book_is(open_page):
    page = open_page(address(TOC["root"]), width=1280)
    page.set_viewport_size({"width": 1280, "height": 720})
    for part in (
        ".bd-article h1",
        ".bd-article p",
        "#fig-trained img",
        ".navbar-brand img:visible",
    ):
        box = page.locator(part).first.bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= 720, part


def test_lines_have_a_comfortable_length(open_page):
    page = open_page(address(CHAPTERS[0]), width=1920)
    widths = page.locator(".bd-article p").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect().width)"
    )
    assert 600 < max(widths) <= 42 * 16


@pytest.mark.parametrize("name", CHAPTERS)
def test_without_scripts_a_chapter_is_whole(open_page, name):
    page = open_page(address(name), width=360, java_script_enabled=False)
    assert page.locator("h1").last.is_visible()
    figures = page.locator("rpn-explorer")
    assert figures.count() > 0
    for figure in figures.all():
        assert figure.locator("img").is_visible()
        assert figure.locator("img").get_attribute("alt")
        assert "This picture has sliders where scripts can run." in figure.inner_text()


def test_captions_and_outputs_are_readable_in_the_dark(open_page):
    page = open_page(address(CHAPTERS[0]), width=1280, color_scheme="dark")
    for part in ("figcaption .caption-text", ".cell_output pre"):
        color = page.locator(part).first.evaluate("e => getComputedStyle(e).color")
        red, green, blue = (int(v) for v in color[4:-1].split(","))
        assert min(red, green, blue) > 180, (part, color)


def test_getting_about_from_a_chapter(open_page):
    page = open_page(address(CHAPTERS[1]), width=1280)
    before, after = page.locator(".prev-next-area a").all()
    number = PAGES.index(CHAPTERS[1])
    for link, name in ((before, PAGES[number - 1]), (after, PAGES[number + 1])):
        assert link.evaluate("e => e.href") == address(name).as_uri()
    contents = page.locator("nav.bd-links a").evaluate_all(
        "all => all.map(e => e.href)"
    )
    assert {address(name).as_uri() for name in PAGES[1:] if name != CHAPTERS[1]} <= {
        link.split("#")[0] for link in contents
    }
    inside = page.locator(".bd-sidebar-secondary a").evaluate_all(
        "all => all.map(e => e.getAttribute('href'))"
    )
    assert len(inside) > 3
    assert all(page.locator(link).count() == 1 for link in inside)
    download = page.locator("a.btn-download-source-button").get_attribute("href")
    source = (address(CHAPTERS[1]).parent / download).resolve()
    assert json.loads(source.read_text()) == json.loads(
        (ROOT / f"{CHAPTERS[1]}.ipynb").read_text()
    )


def test_a_button_copies_the_code(open_page):
    page = open_page(
        address(CHAPTERS[1]),
        width=1280,
        permissions=["clipboard-read", "clipboard-write"],
    )
    cells = page.locator(".cell_input")
    assert cells.locator("button.copybtn").count() == cells.count()
    cells.first.hover()
    cells.first.locator("button.copybtn").click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == cells.first.locator("pre").inner_text().strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_there_is_the_text_alone_dark_on_white(open_page, scheme):
    page = open_page(address(CHAPTERS[1]), width=720, color_scheme=scheme)
    page.emulate_media(media="print")
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area"):
        assert not page.locator(part).first.is_visible(), part
    assert page.locator("button:visible").count() == 0
    assert page.locator("details.hide pre").first.is_visible()  # a solution
    for part in ("h1", "p", ".cell_input pre .n", "p code", "figcaption span"):
        color = page.locator(f".bd-article {part}").first.evaluate(
            "e => getComputedStyle(e).color"
        )
        assert sum(int(v) for v in color[4:-1].split(",")) < 330, (part, color)
    ground = "document.body).backgroundColor"
    assert page.evaluate(f"getComputedStyle({ground}") == "rgb(255, 255, 255)"
    wide = page.locator(".bd-article pre").evaluate_all(
        "all => all.filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert wide == 0


def test_formulas_are_drawn(open_page):
    page = open_page(address("notebooks/02_anchors"))
    page.wait_for_selector("mjx-container")
    page.wait_for_function(
        "document.querySelectorAll('mjx-container').length"
        " >= document.querySelectorAll('.math').length"
    )
    assert page.locator("mjx-merror").count() == 0


def test_search_finds_a_word(open_site):
    """From a server, as published: search reads the pages that it lists."""
    page = open_site("search.html?q=stride")
    page.wait_for_selector("#search-results li .context")
    assert "Anchors" in page.locator("#search-results").inner_text()


def test_the_address_of_the_site_leads_to_the_first_page(open_site):
    page = open_site("index.html")
    page.wait_for_url(f"{BASE}{TOC['root']}.html")
    assert page.locator("h1").last.inner_text().startswith("Developing the Region")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_wrong_address_has_a_way_back(open_site, scheme):
    page = open_site(
        "notebooks/deep/99_nothing.html",
        color_scheme=scheme,
        viewport={"width": 360, "height": 640},
    )
    assert page.locator("h1").inner_text() == "Page not found"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
    page.get_by_label("Search the book").fill("stride")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url(f"{BASE}search.html?q=stride")
    page.go_back()
    page.get_by_role("link").click()
    page.wait_for_url(f"{BASE}{TOC['root']}.html")
