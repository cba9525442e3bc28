"""The book on paper: what `make pdf` prints."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pdf
import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CHAPTER, LAST = "notebooks/06_loss", "book/cite"
# Parts with the same names as the chapter has, and parts that it links to.
MORE = ("notebooks/05_matching", "book/glossary")


@pytest.fixture(scope="module")
def printed(browser, tmp_path_factory):
    """Chapters and pages as one file, and the sheets of each."""
    assert (HTML / "index.html").exists(), "The book is not built; run `make book`."
    parts = {CHAPTER: "Learning", LAST: "Appendix"}
    parts |= dict.fromkeys(MORE, "Appendix")
    pages = [
        pdf.print_page(browser, part, HTML / f"{name}.html")
        for name, part in parts.items()
    ]
    out = tmp_path_factory.mktemp("pdf") / "book.pdf"
    count = pdf.put_together(browser, pages, out)
    book = PdfReader(out)
    assert len(book.pages) == count
    return book, [len(page.printed.pages) for page in pages]


def test_a_program_that_is_no_chromium_is_told_in_one_line(tmp_path):
    (tmp_path / "index.html").touch()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "pdf.py", "--html", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "CHROMIUM": "/bin/true"},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("/bin/true does not start as Chromium does (")
    assert "set CHROMIUM to the path" in line


def test_contents_name_the_sheet_where_a_page_begins(printed):
    book, (length, *_) = printed
    begins = 2 + length  # after cover, contents and the chapter
    (number,) = re.findall(r"How to cite\s+(\d+)", book.pages[1].extract_text())
    assert int(number) == begins + 1  # sheets count from 1
    text = book.pages[begins].extract_text()
    assert "How to cite" in text
    assert number in text.split()
    [part, [chapter], *_] = book.outline
    assert (part.title, chapter.title) == ("Learning", "6. The loss")


def test_solutions_are_printed_and_folded_drawings_left_out(printed):
    book, *_ = printed
    text = "\n".join(page.extract_text() for page in book.pages)
    text = unicodedata.normalize("NFKC", text)  # ligatures
    assert len(re.findall(r"^\s*Solution$", text, re.M)) >= 3
    assert "code cell" not in text  # neither shown nor hidden
    assert "On its page, this figure has sliders." in text


def test_links_stay_within_the_file(printed):
    book, *_ = printed
    inside = 0
    for sheet in book.pages:
        for reference in sheet.get("/Annots") or []:
            link = reference.get_object()
            address = str(link.get("/A", {}).get("/URI", ""))
            assert not address.startswith("file:"), address
            inside += "/Dest" in link
    assert inside >= 2  # those of the contents


def linked(book, sheets):
    """Names that sheets link to, and the sheet that each leads to."""
    places = book.named_destinations
    links = [
        reference.get_object()
        for number in sheets
        for reference in book.pages[number].get("/Annots") or []
    ]
    names = {str(link["/Dest"]) for link in links if isinstance(link.get("/Dest"), str)}
    return {name: book.get_destination_page_number(places[name]) for name in names}


def test_links_to_a_part_of_another_page_lead_to_its_sheet(printed):
    book, (length, *others) = printed
    found = linked(book, range(2, 2 + length))
    assert {"book/glossary#loss", "book/glossary#smooth-l1"} <= found.keys()
    glossary = len(book.pages) - others[-1]
    assert found["book/glossary#smooth-l1"] > found["book/glossary#loss"] > glossary
    for name, term in {"loss": "Loss", "smooth-l1": "Smooth L1"}.items():
        text = book.pages[found[f"book/glossary#{name}"]].extract_text()
        assert re.search(rf"^{term}$", text, re.M)


def test_a_name_that_pages_share_is_that_of_each(browser, tmp_path):
    """A link of a page to its own part stays on this page."""
    pages = []
    for name in "ab":
        path = tmp_path / f"{name}.html"
        path.write_text(
            f"<h1>{name}</h1><p><a href='#x'>x</a> <a href='a.html#x'>a</a> "
            "<a href='b.html#gone'>gone</a></p>"
            "<h2 id=x style='break-before: page'>x</h2>"
        )
        pages.append(pdf.print_page(browser, "", path))
    pdf.put_together(browser, pages, tmp_path / "book.pdf")
    book = PdfReader(tmp_path / "book.pdf")
    assert len(book.pages) == 6  # cover, contents, and two sheets of each
    a, b = f"{tmp_path.name}/a#x", f"{tmp_path.name}/b#x"
    assert linked(book, [2]) == {a: 3}
    assert linked(book, [4]) == {a: 3, b: 5}
    assert book.named_destinations.keys() == {a, b}
    # What is not there leads to the page.
    links = [reference.get_object() for reference in book.pages[2]["/Annots"]]
    starts = [link["/Dest"] for link in links if not isinstance(link["/Dest"], str)]
    assert [book.get_page_number(one[0].get_object()) for one in starts] == [4]


def test_figures_lead_to_the_page_where_it_is_published(open_page):
    page = open_page(HTML / f"{CHAPTER}.html")
    address = "https://example.org/notebooks/06_loss.html"
    page.evaluate(
        """address => {
          document.querySelectorAll('link[rel=canonical]').forEach((e) => e.remove());
          const link = document.createElement('link');
          Object.assign(link, { rel: 'canonical', href: address });
          document.head.append(link);
        }""",
        address,
    )
    page.evaluate(pdf.SCRIPT)
    notes = page.locator("rpn-explorer + p a").all()
    assert notes
    assert {note.get_attribute("href") for note in notes} == {address}


def test_what_is_unfolded_does_not_fade_in_while_it_is_printed(open_page):
    page = open_page(HTML / f"{CHAPTER}.html")
    page.emulate_media(media="print")
    page.evaluate(pdf.SCRIPT)
    names = page.locator(".tag_solution details > *").evaluate_all(
        "all => all.map((e) => getComputedStyle(e).animationName)"
    )
    assert names
    assert set(names) == {"none"}
