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
from typing import Any, NamedTuple, TypeAlias

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageColor
from torch import Tensor

from rpn_lib.boxes import box_iou
from rpn_lib.errors import BoxError
from rpn_lib.figures.boxes import STYLES, draw_boxes, draw_line, legend, show_image

Picture: TypeAlias = Tensor | np.ndarray[Any, Any]


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
        style: a key of `rpn_lib.figures.boxes.STYLES`.
        label: a short text at the upper left corner; empty for none.
    """

    xyxy: Sequence[float] | Tensor
    style: str = "anchor"
    label: str = ""


class Line(NamedTuple):
    """A line from point to point, or a dot where there is one point.

    Attributes:
        points: `(x, y)`, pixels; a list, or a `(P, 2)` tensor or array. `PlotArea`
            makes them of data.
        style: a key of `rpn_lib.figures.boxes.STYLES`.
        label: a short text above the last point; empty for none.
    """

    points: Sequence[Sequence[float]] | Picture
    style: str
    label: str = ""


class State(NamedTuple):
    """What a figure shows at one position of its sliders.

    Pointing at a box shows its coordinates, and where there are boxes of the style
    `"gt"` the largest IoU with one of them.

    Attributes:
        boxes: drawn in this order, the last on top.
        text: a sentence, with the numbers that the reader is to notice.
        lines: drawn over the boxes.
        image: the picture behind in this state, such as a heat map, as `explore` takes
            it; that of the figure if `None`.
    """

    boxes: Sequence[Box]
    text: str
    lines: Sequence[Line] = ()
    image: Picture | None = None


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
    image: Picture | None = None,
    start: Mapping[str, Any] | None = None,
    margin: int | None = None,
    play: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Explorer:
    """Make a figure with sliders out of a function that draws one state of it.

    Args:
        sliders: the values of each slider by its name, in order. Values are numbers or
            strings; a unit belongs in the name: `"size (px)"`. `[False, True]` (or the
            other way round) makes a check box.
        show: called once for every combination, with one value of each slider.
        image_size: `(height, width)` of the drawing area, pixels.
        alt: what the figure shows, for readers who do not see it.
        title: set above the figure.
        image: a picture behind the boxes, `(3, H, W)` or `(1, H, W)` tensor or
            `(H, W, 3)` array; uint8 in 0..255 or float in 0..1.
        start: where sliders stand at first, by name; the first value if not given.
        margin: pixels shown around the image, for boxes that reach outside it; 8 % of
            the longer side if not given. What lies further out is cut off.
        play: the name of a slider that stands for time; a button beside it plays it.
        names: what this figure calls a style, by its key, in place of its label; a
            legend leaves out curves that have no name.

    Returns:
        the figure. Coordinates in it are rounded to 0.1 pixels.

    Raises:
        BoxError: no sliders; a slider without values, or with one twice; an unknown
            start value; nothing to play; an unknown style; an empty alt; a picture of
            another size or range; a text that is none; a box that is not
            `x1 <= x2, y1 <= y2`, all finite; a line without points, or with one that
            is not finite; more than 300 KB of HTML.

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
    values = _values(sliders)
    first = _check_sliders(values, start or {}, play)
    names = names or {}
    unknown = [name for name in names if name not in STYLES]
    if unknown:
        raise BoxError(f"names has {unknown[0]!r}, none of {', '.join(STYLES)}.")
    for what, text in (("alt", alt), ("title", title), *names.items()):
        if not isinstance(text, str):
            raise BoxError(f"{what} is {text!r}, not a text.")
    if not alt.strip():
        raise BoxError("alt is empty; say what the figure shows.")
    height, width = _check_size(image_size)
    pixels = np.full((height, width, 3), 255, np.uint8)
    if image is not None:
        pixels = _pixels(image, (height, width))
    if margin is None:
        margin = round(0.08 * max(height, width))
    if int(margin) != margin or margin < 0:
        raise BoxError(f"margin is {margin!r}; give a whole number of pixels, from 0.")

    states: dict[tuple[Any, ...], State] = {}
    # Each different box, line and picture, and its number: it is stored once.
    boxes: dict[tuple[Any, ...], int] = {}
    lines: dict[tuple[Any, ...], int] = {}
    pictures = {pixels.tobytes(): 0}
    uris = ["" if image is None else _image_uri(pixels)]
    rows: list[list[Any]] = []  # the states: text, numbers of boxes and lines, picture
    styles: list[str] = []
    weight = len(uris[0])
    for chosen in itertools.product(*values.values()):
        state = states[chosen] = show(*chosen)
        where = _describe(values, chosen)
        if not isinstance(state, State):
            raise BoxError(f"{where}: show returned {state!r}; it must return a State.")
        if not isinstance(state.text, str):
            raise BoxError(f"{where}: the text is {state.text!r}, not a sentence.")
        numbers: list[int] = []
        line_numbers: list[int] = []
        picture = 0
        checked = [
            _check_box(box, f"{where}, box {i}") for i, box in enumerate(state.boxes)
        ]
        for box, xyxy, iou in zip(state.boxes, checked, _ious(state.boxes, checked)):
            key = (*map(_tenths, xyxy), _number(box.style, styles), box.label, *iou)
            numbers.append(boxes.setdefault(key, len(boxes)))
        for i, line in enumerate(state.lines):
            points = _check_line(line, f"{where}, line {i}")
            key = (tuple(points), _number(line.style, styles), line.label)
            line_numbers.append(lines.setdefault(key, len(lines)))
        if state.image is not None:
            behind = _pixels(state.image, (height, width), f"{where}: ")
            picture = pictures.setdefault(behind.tobytes(), len(uris))
            if picture == len(uris):
                uris.append(_image_uri(behind))
                weight += len(uris[-1])
        # At the least; it can only grow.
        weight += len(state.text) + 2 * (len(numbers) + len(line_numbers)) + 8
        if weight > LIMIT:
            raise _too_heavy(values, f"more than {LIMIT // 1000}")
        rows.append([state.text, numbers, line_numbers, picture])

    at_first = tuple(v[i] for v, i in zip(values.values(), first))
    _, numbers, line_numbers, picture = rows[list(states).index(at_first)]
    box_table, line_table = list(boxes), list(lines)
    pixels = np.frombuffer(list(pictures)[picture], np.uint8)
    png = _draw(
        pixels.reshape(height, width, 3),
        [box_table[i] for i in numbers],
        [line_table[i] for i in line_numbers],
        styles,
        names,
        title,
        margin,
    )
    for row in rows:
        while len(row) > 2 and row[-1] in ([], 0):  # no lines, the first picture
            row.pop()
    spec = {
        "size": [height, width],
        "margin": margin,
        "title": title,
        "alt": alt,
        "images": uris,
        "sliders": [
            [name, [_text(v) for v in values[name]], i, *_kind(name, values, play)]
            for name, i in zip(values, first)
        ],
        "styles": [_svg_style(name, names) for name in styles],
        "boxes": box_table,
        "lines": line_table,
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


@dataclass(frozen=True, repr=False, eq=False)
class PlotArea:
    """A picture of empty axes, and where on it a value lies; `plot_area` makes it.

    Attributes:
        image: `(H, W, 3)`, uint8: the `image` of a figure whose `image_size` is
            `image.shape[:2]`, with `margin=0`.
        xlim: the values at the left and right ends.
        ylim: the values at the bottom and the top.
    """

    image: np.ndarray[Any, Any]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    _to_pixels: Any

    def points(self, xs: Any, ys: Any) -> list[tuple[float, float]]:
        """Where values lie on the picture, for `Line`.

        Args:
            xs: `(P,)`: numbers, a tensor or an array; or one number for all points.
            ys: likewise.

        Returns:
            P points `(x, y)`, pixels.

        Raises:
            BoxError: xs and ys of different lengths, or a value outside the axes.
        """
        x, y = (np.asarray(v, dtype=float).reshape(-1) for v in (xs, ys))
        if len(x) != len(y) and 1 not in (len(x), len(y)):
            raise BoxError(
                f"xs has {len(x)} values and ys has {len(y)}; give as many, or one for "
                "all."
            )
        for name, given, (low, high) in (("xs", x, self.xlim), ("ys", y, self.ylim)):
            outside = given[~((given >= low) & (given <= high))]
            if outside.size:
                raise BoxError(
                    f"{name} has {outside[0]:g}, the axes go from {low:g} to {high:g}: "
                    "leave out what lies outside, or widen the axes."
                )
        pixels = self._to_pixels.transform(np.stack(np.broadcast_arrays(x, y), 1))
        return [(float(x), self.image.shape[0] - float(y)) for x, y in pixels]


def plot_area(
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    xlabel: str = "",
    ylabel: str = "",
    size: tuple[int, int] = (400, 600),
    log_x: bool = False,
) -> PlotArea:
    """Draw empty axes, over which a figure with sliders shows curves.

    Args:
        xlim: the values at the left and right ends.
        ylim: the values at the bottom and the top.
        xlabel: what the x axis shows, with the unit.
        ylabel: what the y axis shows.
        size: `(height, width)` of the picture, pixels, 150 x 150 at least.
        log_x: whether the x axis is logarithmic.

    Returns:
        the picture, and `points`, which finds values on it.

    Raises:
        BoxError: limits that are not finite, low before high, and above 0 on a
            logarithmic axis; a size too small for the labels.

    >>> area = plot_area((0, 4), (0, 8), xlabel="x", ylabel="loss", size=(200, 300))
    >>> def show(slope):
    ...     line = Line(area.points([0, 2], [0, 2 * slope]), "curve 1")
    ...     dot = Line(area.points(2, 2 * slope), "curve 1", f"{2 * slope}")
    ...     return State([], f"At x = 2 the loss is {2 * slope}.", [line, dot])
    >>> explore({"slope": [1, 2, 4]}, show, (200, 300), image=area.image, margin=0,
    ...     names={"curve 1": "loss"}, alt="A line, whose slope a slider sets.")
    <rpn-explorer: 1 slider, 3 states>
    """
    for name, limits in (("xlim", xlim), ("ylim", ylim)):
        if len(limits) != 2 or not (-math.inf < limits[0] < limits[1] < math.inf):
            raise BoxError(f"{name} is {limits}: give two finite numbers, low < high.")
    if log_x and xlim[0] <= 0:
        raise BoxError(f"xlim is {xlim}: a logarithmic axis begins above 0.")
    height, width = size
    if min(size) < 150 or any(int(n) != n for n in size):
        raise BoxError(f"size is {size}: give (height, width), at least (150, 150).")
    # Legible on a phone too, where 600 pixels are shown about 340 wide.
    settings = {"font.size": 18, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.style.context(["default", settings]):
        # 64 pixels an inch, so that inches are exact.
        figure = Figure((width / 64, height / 64), dpi=64, layout="constrained")
        ax = figure.add_subplot(xlim=xlim, ylim=ylim, xlabel=xlabel, ylabel=ylabel)
        ax.grid(alpha=0.4)
        if log_x:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba")
    image = np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)
    return PlotArea(image[..., :3], xlim, ylim, ax.transData.frozen())


def _values(sliders: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each slider, as a list."""
    if not isinstance(sliders, Mapping):
        raise BoxError(
            f'sliders is {sliders!r}; give {{"size": [32, 64]}}, for example.'
        )
    values = {}
    for name, given in sliders.items():
        if not isinstance(name, str) or not name.strip():
            raise BoxError(f"the name of a slider is {name!r}, not a text.")
        try:
            values[name] = given.tolist() if isinstance(given, Tensor) else list(given)
            hash(tuple(values[name]))
        except TypeError:
            raise BoxError(
                f"slider {name!r} has {given!r}; give a list of numbers or strings."
            ) from None
        if any(isinstance(v, float) and not math.isfinite(v) for v in values[name]):
            raise BoxError(
                f"slider {name!r} has a value that is not finite: {given!r}."
            )
    return values


def _check_size(image_size: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in image_size)
        if height == image_size[0] >= 1 and width == image_size[1] >= 1:
            return height, width
    except (TypeError, ValueError, OverflowError):
        pass
    raise BoxError(f"image_size is {image_size!r}, not (height, width), in pixels.")


def _check_sliders(
    values: dict[str, list[Any]], start: Mapping[str, Any], play: str | None
) -> list[int]:
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
    if play is not None:
        if play not in values:
            raise BoxError(f"play is {play!r}; the sliders are {', '.join(values)}.")
        if len(values[play]) == 1 or _is_check(values[play]):
            what = "a slider of one value" if len(values[play]) == 1 else "a check box"
            raise BoxError(f"play is {play!r}, {what}: there is nothing to play.")
    return [v.index(start[name]) if name in start else 0 for name, v in values.items()]


def _is_check(given: list[Any]) -> bool:
    return len(given) == 2 and all(isinstance(v, (bool, np.bool_)) for v in given)


def _kind(name: str, values: dict[str, list[Any]], play: str | None) -> list[str]:
    return ["check"] * _is_check(values[name]) or ["play"] * (name == play)


def _check_box(box: Box, where: str) -> list[float]:
    """The coordinates, as they were given."""
    _check_mark(box, Box, where)
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
    return xyxy


def _check_line(line: Line, where: str) -> list[float]:
    """`x, y, x, y, ...`, rounded."""
    _check_mark(line, Line, where)
    try:
        points = [[float(value) for value in point] for point in line.points]
    except (TypeError, ValueError):
        points = []
    if not points or any(len(p) != 2 or not all(map(math.isfinite, p)) for p in points):
        raise BoxError(f"{where}: {line.points} is not a list of finite points (x, y).")
    return [_tenths(value) for point in points for value in point]


def _check_mark(mark: Box | Line, kind: type, where: str) -> None:
    if not isinstance(mark, kind):
        raise BoxError(f"{where}: {mark!r} is not a {kind.__name__}.")
    if mark.style not in STYLES:
        raise BoxError(f"{where}: style {mark.style!r} is none of {', '.join(STYLES)}.")
    if not isinstance(mark.label, str):
        raise BoxError(f"{where}: the label is {mark.label!r}, not a text.")


def _ious(boxes: Sequence[Box], corners: list[list[float]]) -> list[list[int]]:
    """In thousandths, the largest IoU of each box with a true box; else an empty list.

    Not in hundredths: 0.698 misses a threshold that 0.70 would seem to reach.
    """
    truths = [xyxy for box, xyxy in zip(boxes, corners) if box.style == "gt"]
    if not truths:
        return [[] for _ in boxes]
    every, true = (
        torch.tensor(rows, dtype=torch.float64) for rows in (corners, truths)
    )
    best = box_iou(every, true).amax(dim=1).tolist()
    return [[] if b.style == "gt" else [round(1000 * v)] for b, v in zip(boxes, best)]


def _tenths(value: float) -> float:
    value = round(value, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return int(value) if value.is_integer() else value


def _number(style: str, styles: list[str]) -> int:
    if style not in styles:
        styles.append(style)
    return styles.index(style)


def _too_heavy(values: dict[str, list[Any]], kilobytes: str) -> BoxError:
    name = max(values, key=lambda name: len(values[name]))
    return BoxError(
        f"The figure weighs {kilobytes} KB of HTML, the limit is {LIMIT // 1000}. "
        f"Slider {name!r} has the most values, {len(values[name])}: it is too fine. "
        "Give it fewer, or draw fewer boxes, lines and pictures."
    )


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe(values: dict[str, list[Any]], chosen: Sequence[Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(values, chosen))


def _pixels(
    image: Picture, image_size: tuple[int, int], where: str = ""
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
            f"{where}image has (height, width, channels) {pixels.shape}; image_size "
            f"asks for ({height}, {width}, 3)."
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fb":
            raise BoxError(
                f"{where}image is {pixels.dtype}; give uint8 (0 to 255) or float "
                "(0 to 1)."
            )
        pixels = pixels.astype(float)
        low, high = pixels.min(), pixels.max()
        if not np.isfinite([low, high]).all():
            raise BoxError(f"{where}image has a value that is not finite.")
        if low < -0.001 or high > 1.001:
            raise BoxError(
                f"{where}image has values from {low:g} to {high:g}; those of a float "
                "picture go from 0 to 1, those of uint8 from 0 to 255."
            )
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


def _svg_style(name: str, names: Mapping[str, str]) -> list[Any]:
    """Label, colour, width and dashes; a point is 4/3 CSS pixels."""
    style = STYLES[name]
    width = style.linewidth * 4 / 3
    dashes = " ".join(f"{width * part:.1f}" for part in _DASHES[style.linestyle])
    return [
        names.get(name, style.label),
        style.color,
        round(width, 1),
        dashes or "none",
    ]


def _draw(
    pixels: np.ndarray[Any, Any],
    boxes: Sequence[tuple[Any, ...]],
    lines: Sequence[tuple[Any, ...]],
    styles: Sequence[str],
    names: Mapping[str, str],
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
        ax.set(facecolor="#d4d4d4", xticks=[], yticks=[])
        for x1, y1, x2, y2, style, label, *_ in boxes:
            labels = [label] if label else None
            draw_boxes(ax, [[x1, y1, x2, y2]], styles[style], labels)
        for points, style, label in lines:
            pairs = list(zip(points[::2], points[1::2]))
            draw_line(ax, pairs, styles[style], label)
        if any(names.get(name, STYLES[name].label) for name in styles):
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": 3}
            legend(ax, styles, names, **below)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    picture = Image.open(buffer).convert("RGB")
    keep = sorted({"#ffffff", *(STYLES[name].color for name in styles)})
    for colours in (256, 128, 64, 32, 16, 8):
        buffer = io.BytesIO()
        _reduce(picture, colours, keep).save(buffer, "png", optimize=True)
        if buffer.tell() <= _MAX_PNG:
            break
    return buffer.getvalue()


def _reduce(picture: Image.Image, colours: int, keep: Sequence[str]) -> Image.Image:
    """The picture in few colours, and those to keep: thin lines have too few pixels to
    win a colour of their own, and would take one of the photograph behind them."""
    reduced = picture.quantize(max(2, colours - len(keep)), dither=Image.Dither.NONE)
    pixels = np.asarray(picture, dtype=np.int32)
    off = ((pixels - np.asarray(reduced.convert("RGB"))) ** 2).sum(axis=2)
    which = np.array(reduced)
    first = int(which.max()) + 1
    palette = (reduced.getpalette() or [])[: 3 * first]
    for number, colour in enumerate(keep, start=first):
        rgb = ImageColor.getrgb(colour)[:3]
        distance = ((pixels - np.array(rgb)) ** 2).sum(axis=2)
        which[distance < off] = number
        off = np.minimum(off, distance)
        palette += rgb
    result = Image.fromarray(which)
    result.putpalette(palette)
    return result


def _script() -> str:
    """The script of the element, without its comments and needless spaces."""
    source = files("rpn_lib.figures").joinpath("explorer.js").read_text("utf-8")
    source = re.sub(r"^ *(//.*\n)?| +// .*$", "", source, flags=re.MULTILINE)
    head, css, tail = re.split("(?<=const CSS = )(`[^`]*`)", source)
    css = re.sub(r" ?([{}]) ?|([:;,]) ", r"\1\2", css)
    # Around punctuation, but not in a string.
    spaces = r"""('[^'\n]*'|`[^`\n]*`)| *([{}();,=<>?!:&|+*]) *"""
    head, tail = (re.sub(spaces, r"\1\2", part) for part in (head, tail))
    return re.sub(r"(?<=[{;,])\n+|(?<=\n)\n+", "", head + css + tail).strip()
