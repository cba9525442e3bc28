"""What search engines, other sites and lost readers see of the book.

For each page of the book a description and a picture to be shown beside a link to it
(OpenGraph), sitemap.xml, 404.html, and index.html, which leads to the first page. What
needs the address of the published site is left out where `html.baseurl` is empty.
"""

import base64
import io
import json
import re
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from docutils import nodes
from PIL import Image, ImageOps

LENGTH = 200  # characters of a description; search engines cut longer ones
CARD = (1200, 630)  # the size that most sites ask for
MARGIN = 24


def description(doctree, book):
    """The first paragraph of prose, as many sentences of it as are shown."""
    after_picture = False
    for node in doctree.findall(nodes.paragraph):
        if isinstance(node.parent, nodes.citation):
            continue
        children = [n for n in node.children if n.astext().strip() or n.children]
        # "Open this chapter in Colab", and the caption of the picture at the top.
        lone = len(children) == 1 and isinstance(
            children[0], (nodes.reference, nodes.emphasis)
        )
        picture = any(node.findall(nodes.image))
        if not picture and not (
            lone and (after_picture or isinstance(children[0], nodes.reference))
        ):
            return shorten(node.astext())
        after_picture = picture or (after_picture and lone)
    return f"{doctree.next_node(nodes.title).astext()} of the book {book}"


def shorten(text):
    text = " ".join(text.split())
    if len(text) <= LENGTH:
        return text
    end = max(text.rfind(mark, 0, LENGTH) + 1 for mark in (". ", "? "))
    return (
        text[:end] if end > LENGTH // 3 else text[: LENGTH - 1].rsplit(" ", 1)[0] + "…"
    )


def lead_picture(app, docname):
    """The picture at the top of a chapter and its alt text; else those of the book."""
    source = Path(app.env.doc2path(docname))
    if source.suffix == ".ipynb":
        cell = json.loads(source.read_text("utf-8"))["cells"][0]
        found = re.search(
            r"!\[(.*?)\]\(attachment:(.*?)\)", "".join(cell["source"]), re.S
        )
        if found:
            (data,) = cell["attachments"][found[2]].values()
            return base64.b64decode(data), " ".join(found[1].split())
    figure = next(iter(app.env.get_doctree(app.config.root_doc).findall(nodes.image)))
    return (Path(app.srcdir) / figure["uri"]).read_bytes(), figure["alt"]


def card_name(app, docname):
    own = Path(app.env.doc2path(docname)).suffix == ".ipynb"
    return f"_static/cards/{Path(docname).name if own else 'book'}.jpg"


def add_description(app, pagename, templatename, context, doctree):
    """Into the head of each page of the book."""
    if doctree is None:
        return
    home = pagename == app.config.root_doc
    book = app.config.html_title
    text = description(doctree, book)
    tags = {
        "og:title": book if home else doctree.next_node(nodes.title).astext(),
        "og:type": "website" if home else "article",
        "og:site_name": book,
        "og:description": text,
    }
    base = app.config.html_baseurl
    if base:
        tags["og:url"] = base + app.builder.get_target_uri(pagename)
        tags["og:image"] = base + card_name(app, pagename)
        tags["og:image:width"], tags["og:image:height"] = map(str, CARD)
        tags["og:image:alt"] = lead_picture(app, pagename)[1]
    lines = [f'<meta name="description" content="{escape(text)}"/>']
    lines += [
        f'<meta property="{name}" content="{escape(value)}"/>'
        for name, value in tags.items()
    ]
    lines.append('<meta name="twitter:card" content="summary_large_image"/>')
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(lines)


def write_cards(app):
    """The pictures: that of the page, whole, on white, in the size of a card."""
    # All pages of prose share one: it is drawn once.
    names = {card_name(app, docname): docname for docname in sorted(app.env.found_docs)}
    for name, docname in names.items():
        path = Path(app.outdir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(io.BytesIO(lead_picture(app, docname)[0])).convert("RGB")
        inside = ImageOps.contain(picture, (CARD[0] - 2 * MARGIN, CARD[1] - 2 * MARGIN))
        card = Image.new("RGB", CARD, "white")
        card.paste(inside, [(a - b) // 2 for a, b in zip(CARD, inside.size)])
        card.save(path, quality=85, optimize=True)


def write_sitemap(app):
    addresses = "".join(
        f"  <url><loc>{escape(app.config.html_baseurl)}"
        f"{escape(app.builder.get_target_uri(docname))}</loc></url>\n"
        for docname in sorted(app.env.found_docs)
    )
    (Path(app.outdir) / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"{addresses}</urlset>\n",
        encoding="utf-8",
    )


def address_tags(app):
    """Of index.html: what is known only where the book is published."""
    base, root = app.config.html_baseurl, app.config.root_doc
    if not base:
        return ""
    first = escape(base + app.builder.get_target_uri(root))
    card = escape(base + card_name(app, root))
    return (
        f'<link rel="canonical" href="{first}">\n'
        f'<meta property="og:url" content="{first}">\n'
        f'<meta property="og:image" content="{card}">\n'
    )


def write_pages(app):
    """index.html and 404.html, out of the templates beside this file."""
    root = app.env.get_doctree(app.config.root_doc)
    values = {
        "title": escape(app.config.html_title),
        "description": escape(description(root, app.config.html_title)),
        # The page for a wrong address is served at any depth: its links are absolute.
        "base": escape(urlsplit(app.config.html_baseurl).path or "/"),
        "first": escape(app.builder.get_target_uri(app.config.root_doc)),
        "address_tags": address_tags(app),
    }
    for name in ("index.html", "404.html"):
        template = (Path(__file__).parent / name).read_text("utf-8")
        page = Template(template).substitute(values)
        (Path(app.outdir) / name).write_text(page, encoding="utf-8")


def write_files(app, exception):
    if exception is None and app.builder.format == "html":
        write_pages(app)
        if app.config.html_baseurl:
            write_cards(app)
            write_sitemap(app)


def setup(app):
    app.connect("html-page-context", add_description)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
