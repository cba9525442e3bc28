"""Figures with sliders that need no kernel.

`explore` calls a Python function for every position of the sliders, ahead of time, and
packs what it drew into one HTML element. The page only shows the state that the reader
asks for, so the figure works in the published book, offline, in Jupyter and in Colab,
and no algorithm is written a second time in JavaScript. Readers without scripts see a
picture of the state at the start.
"""

import base64
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from rpn_lib.boxes import BoxError
from rpn_lib.draw import STYLES, draw_boxes, legend, show_image

LIMIT = 300_000  # bytes of HTML; every reader of the page loads them
_NOTE = "This picture has sliders where scripts can run."
_MAX_PNG = 60_000  # bytes of the picture for readers without scripts
_MAX_SIDE = 800  # pixels of the picture behind the boxes; it is shown 640 wide
# Dashes and gaps in line widths, as matplotlib draws them.
_DASHES = {"-": (), "--": (3.7, 1.6), ":": (1, 1.65), "-.": (6.4, 1.6, 1, 1.6)}


class Box(NamedTuple):
    """A box to draw.

    Attributes:
        xyxy: `x1, y1, x2, y2`, pixels: a tuple, a list or a row of a tensor. The box
            may reach outside the image.
        style: a key of `rpn_lib.draw.STYLES`.
        label: a short text at the upper left corner; empty for none.
    """

    xyxy: Sequence[float] | Tensor
    style: str = "anchor"
    label: str = ""


class State(NamedTuple):
    """What a figure shows at one position of its sliders.

    Attributes:
        boxes: drawn in this order, the last on top.
        text: a sentence, with the numbers that the reader is to notice.
    """

    boxes: Sequence[Box]
    text: str


@dataclass(frozen=True, repr=False)
class Explorer:
    """A figure with sliders; the last line of a cell shows it.

    Attributes:
        states: what `show` returned, by slider values: `figure.states[64, 0.5].text`.
        html: the element, the picture for readers without scripts, and the script.
        png: that picture.

    >>> explore({"n": [1, 2]}, lambda n: State([], f"{n}"), (8, 8), alt="Nothing.")
    <rpn-explorer: 1 slider, 2 states>
    """

    states: dict[tuple[Any, ...], State]
    html: str
    png: bytes

    def __repr__(self) -> str:
        sliders, states = len(next(iter(self.states))), len(self.states)
        plural = ["s" * (count > 1) for count in (sliders, states)]
        return f"<rpn-explorer: {sliders} slider{plural[0]}, {states} state{plural[1]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        png = base64.b64encode(self.png).decode()
        return {"text/html": self.html, "image/png": png, "text/plain": repr(self)}


def explore(
    sliders: Mapping[str, Sequence[Any]],
    show: Callable[..., State],
    image_size: Sequence[int],
    *,
    alt: str,
    title: str = "",
    image: Tensor | np.ndarray[Any, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    margin: int | None = None,
) -> Explorer:
    """Make a figure with sliders out of a function that draws one state of it.

    Args:
        sliders: the values of each slider by its name, in order. Values are numbers or
            strings; a unit belongs in the name: `"size (px)"`.
        show: called once for every combination, with one value of each slider.
        image_size: `(height, width)` of the drawing area, pixels.
        alt: what the figure shows, for readers who do not see it.
        title: set above the figure.
        image: a picture behind the boxes, `(3, H, W)` or `(1, H, W)` tensor or
            `(H, W, 3)` array; uint8 in 0..255 or float in 0..1.
        start: where sliders stand at first, by name; the first value if not given.
        margin: pixels shown around the image, for boxes that reach outside it; 8 % of
            the longer side if not given. What lies further out is cut off.

    Returns:
        the figure. Coordinates in it are rounded to 0.1 pixels.

    Raises:
        BoxError: no sliders; a slider without values, or with one twice; an unknown
            start value; an empty alt; a picture of another size; an unknown style; a
            box that is not `x1 <= x2, y1 <= y2`, all finite; more than 300 KB of HTML.

    >>> def show(size, ratio):
    ...     width, height = size * ratio**0.5, size / ratio**0.5
    ...     box = (50 - width / 2, 50 - height / 2, 50 + width / 2, 50 + height / 2)
    ...     return State([Box(box)], f"The anchor is {width:.0f} x {height:.0f}.")
    >>> sliders = {"size (px)": [32, 64], "aspect ratio": [0.25, 1, 4]}
    >>> figure = explore(sliders, show, (100, 100), alt="An anchor in a square.")
    >>> figure
    <rpn-explorer: 2 sliders, 6 states>
    >>> figure.states[32, 4].text
    'The anchor is 64 x 16.'
    """
    values = {name: list(sliders[name]) for name in sliders}
    first = _check_sliders(values, start or {})
    if not alt.strip():
        raise BoxError("alt is empty; say what the figure shows.")
    if len(image_size) != 2 or any(int(n) != n or n < 1 for n in image_size):
        raise BoxError(f"image_size is {tuple(image_size)}, not (height, width).")
    height, width = (int(n) for n in image_size)
    pixels = np.full((height, width, 3), 255, np.uint8)
    if image is not None:
        pixels = _pixels(image, (height, width))
    if margin is None:
        margin = round(0.08 * max(height, width))

    states: dict[tuple[Any, ...], State] = {}
    boxes: dict[tuple[Any, ...], int] = {}  # each different box, and its number
    rows: list[tuple[str, list[int]]] = []  # the states, as sentences and box numbers
    styles: list[str] = []
    weight = 0
    for chosen in itertools.product(*values.values()):
        state = states[chosen] = show(*chosen)
        where = _describe(values, chosen)
        if not isinstance(state, State):
            raise BoxError(f"{where}: show returned {state!r}; it must return a State.")
        row = []
        for i, box in enumerate(state.boxes):
            xyxy = _check_box(box, f"{where}, box {i}")
            if box.style not in styles:
                styles.append(box.style)
            key = (*xyxy, styles.index(box.style), box.label)
            row.append(boxes.setdefault(key, len(boxes)))
        rows.append((state.text, row))
        weight += len(state.text) + 2 * len(row) + 8  # at the least
        if weight > LIMIT:  # it can only grow
            raise _too_heavy(values, f"more than {LIMIT // 1000}")

    at_first = tuple(v[i] for v, i in zip(values.values(), first))
    table = list(boxes)
    drawn = [table[i] for i in rows[list(states).index(at_first)][1]]
    png = _draw(pixels, drawn, styles, title, margin)
    spec = {
        "size": [height, width],
        "margin": margin,
        "title": title,
        "alt": alt,
        "image": "" if image is None else _image_uri(pixels),
        "sliders": [
            [name, [_text(v) for v in values[name]], i]
            for name, i in zip(values, first)
        ],
        "styles": [_svg_style(name) for name in styles],
        "boxes": table,
        "states": rows,
    }
    # In an attribute, since Jupyter strips or runs a script inside the element.
    data = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    data = escape(data, quote=False).replace("'", "&#39;")  # " is most of JSON: keep it
    html = (
        f"<rpn-explorer spec='{data}'>"
        f'<img src="{_uri(png, "png")}" alt="{escape(alt)}" style="max-width:100%">'
        f"<p>{escape(_describe(values, at_first))}: "
        f"{escape(states[at_first].text)} {_NOTE}</p>"
        f"</rpn-explorer><script>{_script()}</script>"
    )
    weight = len(html.encode())
    if weight > LIMIT:
        raise _too_heavy(values, str(math.ceil(weight / 1000)))
    return Explorer(states, html, png)


def _check_sliders(values: dict[str, list[Any]], start: Mapping[str, Any]) -> list[int]:
    if not values:
        raise BoxError('sliders is empty; give one at least: {"size": [32, 64]}.')
    for name, given in values.items():
        if not given:
            raise BoxError(f"slider {name!r} has no values.")
        shown = [_text(value) for value in given]
        twice = [s for s, v in zip(shown, given) if shown.count(s) + given.count(v) > 2]
        if twice:
            raise BoxError(f"slider {name!r} shows the value {twice[0]} twice.")
    for name, value in start.items():
        if value not in values.get(name, []):
            known = {
                known: [_text(v) for v in given] for known, given in values.items()
            }
            raise BoxError(f"start has {name!r}: {value!r}; the sliders are {known}.")
    return [v.index(start[name]) if name in start else 0 for name, v in values.items()]


def _check_box(box: Box, where: str) -> list[float]:
    if box.style not in STYLES:
        raise BoxError(f"{where}: style {box.style!r} is none of {', '.join(STYLES)}.")
    try:
        given = box.xyxy.tolist() if isinstance(box.xyxy, Tensor) else box.xyxy
        xyxy = [float(value) for value in given]
    except (TypeError, ValueError):
        xyxy = []
    if len(xyxy) != 4 or not all(math.isfinite(value) for value in xyxy):
        raise BoxError(f"{where}: {box.xyxy} is not four finite numbers.")
    x1, y1, x2, y2 = xyxy
    if x2 < x1 or y2 < y1:
        raise BoxError(f"{where}: {xyxy} is not (x1, y1, x2, y2), x1 <= x2, y1 <= y2.")
    tenths = [round(value, 1) + 0.0 for value in xyxy]  # + 0.0 turns -0.0 into 0.0
    return [int(value) if value.is_integer() else value for value in tenths]


def _too_heavy(values: dict[str, list[Any]], kilobytes: str) -> BoxError:
    name = max(values, key=lambda name: len(values[name]))
    return BoxError(
        f"The figure weighs {kilobytes} KB of HTML, the limit is {LIMIT // 1000}. "
        f"Slider {name!r} has the most values, {len(values[name])}: it is too fine. "
        "Give it fewer, or draw fewer boxes."
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe(values: dict[str, list[Any]], chosen: Sequence[Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(values, chosen))


def _pixels(
    image: Tensor | np.ndarray[Any, Any], image_size: tuple[int, int]
) -> np.ndarray[Any, Any]:
    """The picture as `(H, W, 3)` uint8."""
    if isinstance(image, Tensor) and image.ndim == 3:
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    pixels = np.asarray(image)
    if (
        pixels.ndim != 3
        or pixels.shape[2] not in (1, 3)
        or pixels.shape[:2] != image_size
    ):
        height, width = image_size
        raise BoxError(
            f"image has (height, width, channels) {pixels.shape}; image_size asks for "
            f"({height}, {width}, 3)."
        )
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.repeat(3 // pixels.shape[2], 2))


def _image_uri(pixels: np.ndarray[Any, Any]) -> str:
    """The picture as a data URI: PNG or JPEG, whichever is smaller."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))  # shrinks only
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "png", optimize=True)
    picture.save(jpeg, "jpeg", quality=75, optimize=True)
    if len(png.getvalue()) <= len(jpeg.getvalue()):
        return _uri(png.getvalue(), "png")
    return _uri(jpeg.getvalue(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _svg_style(name: str) -> list[Any]:
    """Label, colour, width and dashes; a point is 4/3 CSS pixels."""
    style = STYLES[name]
    width = style.linewidth * 4 / 3
    dashes = " ".join(f"{width * part:.1f}" for part in _DASHES[style.linestyle])
    return [style.label, style.color, round(width, 1), dashes or "none"]


def _draw(
    pixels: np.ndarray[Any, Any],
    boxes: Sequence[tuple[Any, ...]],
    styles: Sequence[str],
    title: str,
    margin: int,
) -> bytes:
    """A PNG of one state, 480 pixels wide, under 60 KB, the same in every process."""
    height, width = pixels.shape[:2]
    shape = (height + 2 * margin) / (width + 2 * margin)
    inches = min(6, 5.4 * shape) + 0.8 + 0.2 * math.ceil(len(styles) / 3)
    # What the notebook has set for its own figures shall not change this one.
    with matplotlib.style.context(["default", {"text.parse_math": False}]):
        figure = Figure((6, inches), dpi=80, layout="constrained")
        ax = show_image(pixels, figure.add_subplot(), title=title, margin=margin)
        ax.set_facecolor("#d4d4d4")
        for *xyxy, style, label in boxes:
            draw_boxes(ax, [xyxy], styles[style], [label] if label else None)
        if styles:
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "ncols": 3}
            legend(ax, styles, **below)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    picture = Image.open(buffer).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        reduced = picture.quantize(colours, dither=Image.Dither.NONE)
        reduced.save(buffer, "png", optimize=True)
        if buffer.tell() <= _MAX_PNG:
            break
    return buffer.getvalue()


def _script() -> str:
    """The script of the element, without its comments and indentation."""
    source = files("rpn_lib").joinpath("explore.js").read_text("utf-8")
    return re.sub(r"^ *(//.*\n)?", "", source, flags=re.MULTILINE).strip()
