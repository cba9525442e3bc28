"""Print the built book as one PDF, with Chromium: cover, contents, chapters.

    python tools/pdf.py                   # _build/book.pdf, from _build/html

Each page of the book is printed by itself. Then the pages are put together: contents
with page numbers and bookmarks before them, a number at the foot of each, and links
from chapter to chapter, and to their sections, that stay within the file. Explorers
show their first state and say where the sliders are.
"""

import argparse
import html
import io
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import chromium
import yaml
from playwright.sync_api import Browser, BrowserType, Error, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

from rpn_lib import __version__

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
MARGINS = {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
# The style sheet of the book has rules for paper. What they cannot say is done here.
SCRIPT = """() => {
  const drop = '#jb-print-docs-body, .headerlink, rpn-live, '
    + '.tag_hide-input > details.above-input';
  document.querySelectorAll(drop).forEach(part => part.remove());
  document.querySelectorAll('details').forEach(part => part.open = true);
  document.querySelectorAll('.tag_solution > details > summary').forEach(part => {
    part.textContent = 'Solution';
  });
  const folded = '.tag_hide-cell:not(.tag_solution) > details > summary';
  document.querySelectorAll(folded).forEach(part => part.remove());
  // Where the book is published, the page can be found.
  const address = document.querySelector('link[rel=canonical]')?.href;
  document.querySelectorAll('rpn-explorer').forEach(part => {
    const note = document.createElement('p');
    const its = document.createElement(address ? 'a' : 'span');
    if (address) its.href = address;
    its.textContent = 'its page';
    note.append('On ', its, ', this figure has sliders.');
    note.style.fontStyle = 'italic';
    part.after(note);
  });
  // Chromium notes the place of what is linked to within the page, and other pages
  // may link to any part.
  const links = document.createElement('p');
  links.hidden = true;
  document.querySelectorAll('[id]').forEach(part => {
    const link = document.createElement('a');
    link.href = `#${encodeURIComponent(part.id)}`;
    links.append(link);
  });
  document.body.append(links);
}"""


STYLE = """
  .bd-article h1 { display: block !important; margin-top: 0 }
  div.highlight pre, .cell_output pre { font-size: 9.5pt !important }
"""
SCALE = 0.8


class Page(NamedTuple):
    """A page of the book: its part, title, address, and how it came out on paper."""

    part: str
    title: str
    path: Path
    printed: PdfReader


def pages_of_the_book(root: Path = ROOT) -> list[tuple[str, str]]:
    """`(part, file without ending)` of all pages, in order.

    >>> pages_of_the_book()[0]
    ('', 'book/intro')
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    found = [("", toc["root"])]
    for part in toc["parts"]:
        found += [(part["caption"], one["file"]) for one in part["chapters"]]
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "book.pdf")
    parser.add_argument("--html", type=Path, default=HTML, help="the built book")
    parser.add_argument("--only", nargs="+", help="pages, such as notebooks/01_boxes")
    options = parser.parse_args()
    program = chromium.find()
    if program is None:
        sys.exit(f"{chromium.MISSING}.")
    if not (options.html / "index.html").exists():
        sys.exit(f"{options.html} has no book: run make book first.")
    with sync_playwright() as playwright:
        browser = start(playwright.chromium, program)
        pages = [
            print_page(browser, part, options.html / f"{name}.html")
            for part, name in pages_of_the_book()
            if not options.only or name in options.only
        ]
        count = put_together(browser, pages, options.out)
        browser.close()
    print(f"wrote {options.out}: {len(pages)} chapters and pages of {count} sheets")
    return 0


def start(chromium: BrowserType, program: str) -> Browser:
    """A browser; where the program is none, say so."""
    try:
        return chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
    except Error as error:
        why = error.message.strip().splitlines()[0]
        sys.exit(
            f"{program} does not start as Chromium does ({why}): set CHROMIUM to the "
            "path of its executable, or leave it out."
        )


def print_page(browser: Browser, part: str, path: Path) -> Page:
    """One page of the book on paper."""
    page = browser.new_page(viewport={"width": 900, "height": 1200})
    page.emulate_media(media="print", color_scheme="light")
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(SCRIPT)
    page.add_style_tag(content=STYLE)
    heading = page.locator("h1").first
    title = heading.inner_text().rstrip("#").strip()
    content = page.pdf(format="A4", margin=MARGINS, print_background=True, scale=SCALE)
    page.close()
    return Page(part, title, path, PdfReader(io.BytesIO(content)))


def put_together(browser: Browser, pages: list[Page], out: Path) -> int:
    """Cover, contents and all pages in one file; how many sheets it has."""
    front = _front(browser, pages, offset=2)
    if len(front.pages) != 2:  # contents of several sheets move what follows
        front = _front(browser, pages, offset=len(front.pages))
    writer = PdfWriter()
    writer.append(front, import_outline=False)
    starts, start, parts = {}, len(front.pages), {}
    for page in pages:
        starts[page.path.resolve()] = start
        found = _named_parts(page)
        writer.append(page.printed, import_outline=False)
        for name, (number, place) in found.items():
            goal = writer.pages[start + number].indirect_reference
            parts[page.path.resolve(), name] = ArrayObject([goal, *place])
        start += len(page.printed.pages)
    # Pages share names, such as `exercises`, of which pypdf keeps the first.
    writer.root_object.pop("/Names", None)
    _bookmarks(writer, pages, starts)
    _number_sheets(browser, writer, first=len(front.pages))
    _keep_links_inside(writer, starts, parts)
    writer.add_metadata(
        {
            "/Title": "Developing the Region Proposal Network",
            "/Subject": f"Version {__version__}",
        }
    )
    writer.compress_identical_objects()
    out.parent.mkdir(parents=True, exist_ok=True)
    writer.write(out)
    return len(writer.pages)


def _front(browser: Browser, pages: list[Page], offset: int) -> PdfReader:
    """Cover and contents, given how many sheets they take."""
    rows, part, number = [], None, offset + 1
    for page in pages:
        if page.part != part:
            part = page.part
            if part:
                rows.append(f"<tr><th colspan=2>{html.escape(part)}</th></tr>")
        rows.append(
            f"<tr><td><a href='{page.path.as_uri()}'>{html.escape(page.title)}</a></td>"
            f"<td class=n>{number}</td></tr>"
        )
        number += len(page.printed.pages)
    return _printed(
        browser,
        f"""<style>
          body {{ font-family: sans-serif; font-size: 12px; margin: 0 }}
          .cover {{ height: 240mm; display: flex; flex-direction: column;
                    justify-content: center; break-after: page }}
          h1 {{ font-size: 34px }} h2 {{ font-size: 22px }}
          table {{ width: 100%; border-collapse: collapse }}
          td, th {{ padding: 3px 0; text-align: left; height: 15px }}
          a {{ color: inherit; text-decoration: none }}
          th {{ padding-top: 10px }} .n {{ text-align: right }}
        </style>
        <div class=cover><h1>Developing the Region Proposal Network</h1>
        <p>Anchors, transforms, matching, loss and NMS, built, trained and measured</p>
        <p>Version {__version__}. Text CC BY 4.0, code MIT.</p></div>
        <h2>Contents</h2><table>{"".join(rows)}</table>""",
    )


def _printed(browser: Browser, text: str) -> PdfReader:
    page = browser.new_page()
    page.set_content(text)
    content = page.pdf(format="A4", margin=MARGINS)
    page.close()
    return PdfReader(io.BytesIO(content))


def _bookmarks(writer: PdfWriter, pages: list[Page], starts: dict[Path, int]) -> None:
    parts = {}
    for page in pages:
        start = starts[page.path.resolve()]
        if page.part and page.part not in parts:
            parts[page.part] = writer.add_outline_item(
                title=page.part, page_number=start
            )
        writer.add_outline_item(
            title=page.title, page_number=start, parent=parts.get(page.part)
        )


def _number_sheets(browser: Browser, writer: PdfWriter, first: int) -> None:
    """A number at the foot of every sheet after the front."""
    sheets = "".join(
        "<div style='height: 257mm; position: relative; break-after: page; font: 10px "
        f"sans-serif'><span style='position: absolute; bottom: 0; left: 48%'>{number}"
        "</span></div>"
        for number in range(first + 1, len(writer.pages) + 1)
    )
    page = browser.new_page()
    page.set_content(f"<body style='margin: 0'>{sheets}</body>")
    low = {**MARGINS, "bottom": "12mm"}
    numbers = PdfReader(io.BytesIO(page.pdf(format="A4", margin=low)))
    page.close()
    for sheet, number in zip(writer.pages[first:], numbers.pages):
        sheet.merge_page(number)


def _named_parts(page: Page) -> dict[str, tuple[int, ArrayObject]]:
    """The parts of a page that have names: `(sheet, place on it)` of each.

    Links of the page to them become addresses, as those of other pages are.
    """
    found = {}
    for name, place in page.printed.named_destinations.items():
        number = page.printed.get_destination_page_number(place)
        found[name.removeprefix("/")] = (number, place.dest_array[1:])
    found.pop("", None)  # the top of the page
    for sheet in page.printed.pages:
        for reference in sheet.get("/Annots") or []:
            link = reference.get_object()
            if "/Dest" in link:
                name = quote(str(link.pop("/Dest")).removeprefix("/"))
                address = TextStringObject(f"{page.path.as_uri()}#{name}")
                link[NameObject("/A")] = DictionaryObject(
                    {
                        NameObject("/S"): NameObject("/URI"),
                        NameObject("/URI"): address,
                    }
                )
    return found


def _keep_links_inside(
    writer: PdfWriter,
    starts: dict[Path, int],
    parts: dict[tuple[Path, str], ArrayObject],
) -> None:
    """Links to pages of the book, or to parts of these, lead to their sheets.

    Links to other files are cut. A part is named by its page too, as in
    `book/glossary#crowd`.
    """
    named = set()
    for sheet in writer.pages:
        for reference in sheet.get("/Annots") or []:
            link = reference.get_object()
            address = urlsplit(str(link.get("/A", {}).get("/URI", "")))
            if address.scheme != "file":
                continue
            del link[NameObject("/A")]
            path = Path(unquote(address.path)).resolve()
            fragment = unquote(address.fragment)
            if (path, fragment) in parts:
                name = f"{path.parent.name}/{path.stem}#{fragment}"
                if name not in named:
                    place = parts[path, fragment]
                    writer.add_named_destination_array(TextStringObject(name), place)
                    named.add(name)
                link[NameObject("/Dest")] = TextStringObject(name)
            elif path in starts:
                goal = writer.pages[starts[path]].indirect_reference
                link[NameObject("/Dest")] = ArrayObject([goal, NameObject("/Fit")])


if __name__ == "__main__":
    sys.exit(main())
