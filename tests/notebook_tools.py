"""The rules of the notebooks, and the command that runs them again.

    python tests/notebook_tools.py execute        # those whose code or library changed
    python tests/notebook_tools.py execute --all
    python tests/notebook_tools.py execute notebooks/01_boxes.ipynb
    python tests/notebook_tools.py lint

A notebook is committed with its outputs. Its metadata holds a digest of its code cells
and of `rpn_lib`, taken when it was run; where the digest no longer fits, the outputs
are stale.
"""

import argparse
import base64
import hashlib
import io
import re
import sys
import time
import warnings
from pathlib import Path

import nbformat
import numpy as np
import torch
from PIL import Image, ImageColor

from rpn_lib.figures.boxes import COLORS, STYLES

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
KEY = "rpn_book"
MAX_LINES = 15  # of a code cell
MAX_IMAGE = 100_000  # bytes of a picture


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # cells without ids, and the like
        return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook):
    """What the outputs depend on: the code cells, in order, and the library."""
    content = hashlib.sha256()
    for cell in code_cells(notebook):
        content.update(cell.source.encode() + b"\0")
    for path in sorted((ROOT / "rpn_lib").glob("*")):
        if path.suffix in (".py", ".js"):
            content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def is_stale(notebook):
    return notebook.metadata.get(KEY, {}).get("digest") != digest(notebook)


def execute(path):
    """Run a notebook from a fresh kernel and save it, outputs and digest."""
    from nbclient import NotebookClient

    notebook = read(path)
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    for cell in code_cells(notebook):
        cell.outputs = _tidy(cell.outputs)
    _refresh_lead_picture(notebook)
    # What a front end writes of itself differs from machine to machine.
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
            KEY: {"digest": digest(notebook)},
        }
    )
    nbformat.write(notebook, path)


def _tidy(outputs):
    """Join streams that came in pieces; give pictures a palette, to a third in size."""
    tidy = []
    for output in outputs:
        last = tidy[-1] if tidy else None
        if last and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
            continue
        if "image/png" in output.get("data", {}):
            png = base64.b64decode(output.data["image/png"])
            output.data["image/png"] = base64.b64encode(_with_palette(png)).decode()
        tidy.append(output)
    return tidy


def _with_palette(png):
    """The picture in as many colours as its size allows, a third of its bytes or so.

    Those of the boxes and curves are among them. Lines are thin: a palette made of the
    picture alone would give them the nearest colour of a photograph.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colors in (192, 128, 96):
        small = _in_colors(picture, colors)
        if len(small) < 0.95 * MAX_IMAGE:
            break
    return small


def _in_colors(picture, colors):
    found = picture.quantize(colors, kmeans=3).getpalette("RGB")
    lines = {style.color for style in STYLES.values()} | {*COLORS, "#ffffff"}
    fixed = [v for color in sorted(lines) for v in ImageColor.getrgb(color)]
    palette = torch.tensor([*found, *fixed]).reshape(-1, 3)
    # Image.quantize looks the nearest colour up in a coarse table: white becomes grey.
    pixels = torch.from_numpy(np.array(picture)).flatten(0, 1)
    seen, which = pixels.unique(dim=0, return_inverse=True)
    nearest = torch.cdist(seen.double(), palette.double()).argmin(dim=1)
    chosen = nearest.to(torch.uint8)[which].reshape(picture.height, picture.width)
    small = Image.fromarray(chosen.numpy())
    small.putpalette(palette.flatten().tolist())
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return file.getvalue()


def _refresh_lead_picture(notebook):
    """Copy the picture of the cell tagged `lead-picture` to the top of the chapter."""
    for cell in code_cells(notebook):
        if "lead-picture" in cell.metadata.get("tags", []):
            pictures = [
                o.data["image/png"]
                for o in cell.outputs
                if "image/png" in o.get("data", {})
            ]
            notebook.cells[0]["attachments"] = {"lead.png": {"image/png": pictures[-1]}}


def lint(path):
    """What is wrong with a notebook, a line each."""
    notebook = read(path)
    cells = code_cells(notebook)
    problems = []
    if is_stale(notebook):
        problems.append(
            "is stale: its code or rpn_lib changed since it was run; run make notebooks"
        )
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        problems.append(
            f"was not run once from top to bottom: execution counts are {counts}"
        )
    for number, cell in enumerate(cells, start=1):
        problems += [f"cell [{number}] {problem}" for problem in _lint_code(cell)]
    problems += _lint_exercises(cells)
    problems += _lint_lead(notebook)
    return [f"{path.name} {problem}" for problem in problems]


def _lint_code(cell):
    lines = cell.source.rstrip().splitlines()
    if len(lines) > MAX_LINES:
        yield f"has {len(lines)} lines; {MAX_LINES} are the most"
    if not lines:
        yield "is empty"
    elif lines[-1].rstrip().endswith(";"):
        yield "ends with a semicolon; end with a value or plt.show()"
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            yield f"prints to stderr: {output.text.strip()[:80]!r}"
        if output.output_type == "error":
            yield f"ends with {output.ename}"
        if output.output_type == "stream" and re.search(
            r"/(home|root|tmp|Users|usr)/", output.text
        ):
            yield "prints a path of one machine"
        data = output.get("data", {})
        if "image/png" in data and len(data["image/png"]) * 3 / 4 > MAX_IMAGE:
            yield f"has a picture of more than {MAX_IMAGE // 1000} KB"
        if (
            "image/png" in data and "text/html" not in data
        ):  # an explorer carries its own
            image = cell.metadata.get("mystnb", {})
            if not image.get("image", {}).get("alt"):
                yield "has a picture without alt text (metadata mystnb.image.alt)"
            if not image.get("figure", {}).get("caption"):
                yield "has a picture without a caption (metadata mystnb.figure.caption)"


def _lint_exercises(cells):
    """Each check fails on the stub, and passes after the solution that follows it."""
    stubs = solutions = 0
    for number, cell in enumerate(cells, start=1):
        tags = cell.metadata.get("tags", [])
        text = "".join(
            str(o.get("data", {}).get("text/plain", "")) for o in cell.outputs
        )
        if "exercise-check" in tags:
            stubs += 1
            if "Not yet" not in text:
                yield f"cell [{number}] checks an unsolved exercise but says {text!r}"
        if "solution" in tags:
            solutions += 1
            if "Correct." not in text:
                yield f"cell [{number}] is a solution but its check says {text!r}"
            if "hide-cell" not in tags or not cell.metadata.get("jupyter", {}).get(
                "source_hidden"
            ):
                yield f"cell [{number}] is a solution and not folded"
    if stubs < 3:
        yield f"has {stubs} exercises; three are the least"
    if stubs != solutions:
        yield f"has {stubs} exercises but {solutions} solutions"


def _lint_lead(notebook):
    first = notebook.cells[0]
    if not first.source.startswith("# ") or "attachment:lead.png" not in first.source:
        yield "does not begin with a title and the picture lead.png"
    elif not first.get("attachments", {}).get("lead.png"):
        yield "has no lead picture; tag a cell lead-picture and run make notebooks"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("execute", "lint"))
    parser.add_argument(
        "--all", action="store_true", help="also those that are not stale"
    )
    parser.add_argument("files", nargs="*", type=Path, help="only these notebooks")
    options = parser.parse_args()
    problems = []
    for path in options.files or NOTEBOOKS:
        if options.task == "lint":
            problems += lint(path)
        elif (
            options.all
            or options.files
            or is_stale(read(path))
            or None in [cell.execution_count for cell in code_cells(read(path))]
        ):
            start = time.perf_counter()
            execute(path)
            print(f"{path.name}: run in {time.perf_counter() - start:.0f} s")
            problems += lint(path)
        else:
            print(f"{path.name}: up to date")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
