"""From the data of a figure with sliders to its HTML.

The element `<rpn-explorer>` holds the data in an attribute, and a picture of the first
state for readers without scripts; `explorer.js` draws the rest.
"""

import base64
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rpn_lib.figures.boxes import STYLES, draw_boxes, draw_line, legend, show_image
from rpn_lib.figures.pictures import encode_picture

_NOTE = "This picture has sliders where scripts can run."

_MAX_PICTURE = 60_000  # bytes of the picture for readers without scripts

_MAX_SIDE = 800  # pixels of the picture behind the boxes; it is shown 640 wide

# Dashes and gaps in line widths, as matplotlib draws them.
_DASHES = {"-": (), "--": (3.7, 1.6), ":": (1, 1.65), "-.": (6.4, 1.6, 1, 1.6)}


class Look(NamedTuple):
    """What all states of a figure share.

    Attributes:
        title: set above the figure.
        margin: pixels shown around the image.
        names: what this figure calls a style, by its key, in place of its label.
    """

    title: str
    margin: int
    names: Mapping[str, str]


def page(spec: Mapping[str, Any], first: str, kind: str, picture: bytes) -> str:
    """The element, with a picture and a sentence for readers without scripts.

    Args:
        spec: what `explorer.js` reads.
        first: the first state in words.
        kind: "png" or "jpeg".
        picture: the first state, as a file of this kind.

    >>> print(page({"alt": "A box."}, "size 8", "png", b"").split("><")[0])
    <rpn-explorer spec='{"alt":"A box."}'
    """
    # In an attribute, since Jupyter strips or runs a script inside the element.
    data = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    data = escape(data, quote=False).replace("'", "&#39;")  # " is most of JSON: keep it
    script = files("rpn_lib.figures").joinpath("explorer.js").read_text("utf-8")
    return (
        f"<rpn-explorer spec='{data}'>"
        f'<img src="{data_uri(kind, picture)}" alt="{escape(spec["alt"])}" '
        'style="max-width:100%">'
        f"<p>{escape(first)} {_NOTE}</p>"
        f"</rpn-explorer><script>{script}</script>"
    )


def data_uri(kind: str, content: bytes) -> str:
    """A picture as an address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def embed(pixels: np.ndarray[Any, Any]) -> str:
    """The picture behind the boxes as an address: PNG or JPEG, whichever is smaller."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))  # shrinks only
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "png", optimize=True)
    picture.save(jpeg, "jpeg", quality=75, optimize=True)
    if png.tell() <= jpeg.tell():
        return data_uri("png", png.getvalue())
    return data_uri("jpeg", jpeg.getvalue())


def svg_style(name: str, look: Look, dot: bool) -> list[Any]:
    """Label, colour, width and dashes, and 1 for a dot; a point is 4/3 CSS pixels."""
    style = STYLES[name]
    width = style.linewidth * 4 / 3
    dashes = " ".join(f"{width * part:.1f}" for part in _DASHES[style.linestyle])
    label = look.names.get(name, style.label)
    return [label, style.color, round(width, 1), dashes or "none", *[1] * dot]


def draw_state(
    pixels: np.ndarray[Any, Any],
    boxes: Sequence[tuple[Any, ...]],
    lines: Sequence[tuple[Any, ...]],
    styles: Sequence[str],
    dots: Collection[str],
    look: Look,
) -> tuple[str, bytes]:
    """One state as a picture, 480 pixels wide, the same in every process.

    Args:
        pixels: `(H, W, 3)`, uint8, the picture behind.
        boxes: rows of the table of boxes: x1, y1, x2, y2, number of the style, label.
        lines: rows of the table of lines: points, number of the style, label.
        styles: keys of `STYLES` by number, all that the figure has.
        dots: those that it draws as points.
        look: title, margin and names.

    Returns:
        "png" or "jpeg", and the content of the file.
    """
    height, width = pixels.shape[:2]
    shape = (height + 2 * look.margin) / (width + 2 * look.margin)
    inches = min(6, 5.4 * shape) + 0.8 + 0.2 * math.ceil(len(styles) / 3)
    # What the notebook has set for its own figures shall not change this one.
    with matplotlib.style.context(["default", {"text.parse_math": False}]):
        figure = Figure((6, inches), dpi=80, layout="constrained")
        ax = figure.add_subplot()
        show_image(pixels, ax, title=look.title, margin=look.margin)
        ax.set(facecolor="#d4d4d4", xticks=[], yticks=[])
        for x1, y1, x2, y2, style, label, *_ in boxes:
            labels = [label] if label else None
            draw_boxes(ax, [[x1, y1, x2, y2]], styles[style], labels)
        for points, style, label in lines:
            pairs = list(zip(points[::2], points[1::2]))
            draw_line(ax, pairs, styles[style], label)
        if any(look.names.get(name, STYLES[name].label) for name in styles):
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": 3}
            legend(ax, styles, look.names, dots, **below)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return encode_picture(Image.open(buffer), _MAX_PICTURE)
