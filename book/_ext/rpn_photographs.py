"""Photographs of a data set in the pages of chapters that are stored without them.

`tools/photographs.py` ran those chapters and left the pictures of their cells tagged
`data-picture` in `_build/photographs`. Where it could not, since the data set is not on
this machine, the page says so in place of each picture.
"""

import json
from pathlib import Path

HERE = "[Section 1](#1-get-the-data)"


def show_photographs(app, docname, source):
    """Put the pictures, or a note, into the outputs of the cells."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    made = read_made(Path(app.srcdir) / "_build" / "photographs" / f"{path.stem}.json")
    for cell in notebook["cells"]:
        if "data-picture" in cell["metadata"].get("tags", []):
            fill(cell, made.get(cell["id"], {}))
    source[0] = json.dumps(notebook)


def read_made(path):
    """The cells of a chapter that was run: by id, source and what was shown."""
    return json.loads(path.read_text("utf-8"))["cells"] if path.is_file() else {}


def fill(cell, made):
    """Replace what a cell shows; what it prints stays as it is stored."""
    printed = [o for o in cell["outputs"] if "data" not in o]
    shown = [note(cell)]
    if made.get("source") == "".join(cell["source"]):  # else the code has changed since
        shown = made["shown"]
    cell["outputs"] = printed + [
        {"output_type": "display_data", "data": data, "metadata": {}} for data in shown
    ]


def note(cell):
    """What stands in place of photographs."""
    alt = cell["metadata"]["mystnb"]["image"]["alt"]
    text = f"*Photographs of BCCD, not in this copy of the page ({HERE}): {alt}*"
    return {"text/markdown": text}


def setup(app):
    app.connect("source-read", show_photographs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
