"""Figures with sliders that need no kernel.

`explore` calls a Python function for every position of the sliders, ahead of time, and
packs what it drew into one HTML element. The page only shows the state that the reader
asks for, so the figure works in the published book, offline, in Jupyter and in Colab,
and no algorithm is written a second time in JavaScript. Readers without scripts see a
picture of the state at the start.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from rpn_lib.errors import SettingError
from rpn_lib.figures.boxes import STYLES
from rpn_lib.figures.marks import (
    best_ious,
    check_style,
    read_box,
    read_points,
    tenths,
)
from rpn_lib.figures.page import Look, draw_state, embed, page, svg_style
from rpn_lib.figures.pictures import Picture, to_pixels
from rpn_lib.figures.sliders import Sliders, read_sliders

LIMIT = 300_000  # bytes of HTML; every reader of the page loads them


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
        picture: that picture, the content of a file.
        kind: what that file is, `"png"` or `"jpeg"`.

    >>> explore({"n": [1, 2]}, lambda n: State([], f"{n}"), (8, 8), alt="Nothing.")
    <rpn-explorer: 1 slider, 2 states>
    """

    states: dict[tuple[Any, ...], State]
    html: str
    picture: bytes
    kind: str

    def __repr__(self) -> str:
        sliders, states = len(next(iter(self.states))), len(self.states)
        plural = ["s" * (count > 1) for count in (sliders, states)]
        return f"<rpn-explorer: {sliders} slider{plural[0]}, {states} state{plural[1]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        picture = base64.b64encode(self.picture).decode()
        return {
            "text/html": self.html,
            f"image/{self.kind}": picture,
            "text/plain": repr(self),
        }


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
        SettingError: no sliders; a slider without values, or with one twice; an
            unknown start value; nothing to play; an unknown style; an empty alt; a
            picture of another size or range; a text that is none; a line without
            points, or with one that is not finite; more than 300 KB of HTML.
        BoxError: a box that is not `x1 <= x2, y1 <= y2`, all finite.

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
    given = read_sliders(sliders, start or {}, play)
    names = names or {}
    _check_texts(alt, title, names)
    height, width = size = _check_size(image_size)
    if margin is None:
        margin = round(0.08 * max(height, width))
    if int(margin) != margin or margin < 0:
        raise SettingError(
            f"margin is {margin!r}; give a whole number of pixels, from 0."
        )
    look = Look(title, margin, names)
    tables = _Tables(size, image)
    states: dict[tuple[Any, ...], State] = {}
    for chosen in given.combinations():
        states[chosen] = show(*chosen)
        tables.add(states[chosen], given.describe(chosen))
        if tables.weight > LIMIT:
            raise _too_heavy(given, f"more than {LIMIT // 1000}")
    spec = {
        "size": [height, width],
        "margin": margin,
        "title": title,
        "alt": alt,
        "sliders": given.rows(),
        **tables.spec(look),
    }
    at_first = given.start()
    kind, picture = tables.draw(list(states).index(at_first), look)
    first = f"{given.describe(at_first)}: {states[at_first].text}"
    html = page(spec, first, kind, picture)
    weight = len(html.encode())
    if weight > LIMIT:
        raise _too_heavy(given, str(math.ceil(weight / 1000)))
    return Explorer(states, html, picture, kind)


class _Tables:
    """What the states of a figure show: each box, line and picture stored once.

    Attributes:
        weight: bytes of the page that they take at the least; it can only grow.
    """

    def __init__(self, size: tuple[int, int], image: Picture | None) -> None:
        self.size = size
        self.boxes: dict[tuple[Any, ...], int] = {}
        self.lines: dict[tuple[Any, ...], int] = {}
        self.styles: list[str] = []
        # Of each state: text, numbers of its boxes and lines, number of its picture.
        self.rows: list[tuple[str, list[int], list[int], int]] = []
        white = np.full((*size, 3), 255, np.uint8)
        pixels = white if image is None else to_pixels(image, size)
        self.pictures = {pixels.tobytes(): 0}
        self.uris = ["" if image is None else embed(pixels)]
        self.weight = len(self.uris[0])

    def add(self, state: State, where: str) -> None:
        """Check a state and add it; `where` is what an error says first."""
        if not isinstance(state, State):
            raise SettingError(
                f"{where}: show returned {state!r}; it must return a State."
            )
        if not isinstance(state.text, str):
            raise SettingError(f"{where}: the text is {state.text!r}, not a sentence.")
        corners = []
        for i, box in enumerate(state.boxes):
            _check_kind(box, Box, f"{where}, box {i}")
            corners.append(read_box(box.xyxy, f"{where}, box {i}"))
        ious = best_ious(corners, [box.style == "gt" for box in state.boxes])
        boxes = []
        for box, xyxy, iou in zip(state.boxes, corners, ious):
            key = (*map(tenths, xyxy), self._style(box.style), box.label, *iou)
            boxes.append(self.boxes.setdefault(key, len(self.boxes)))
        lines = []
        for i, line in enumerate(state.lines):
            _check_kind(line, Line, f"{where}, line {i}")
            points = tuple(read_points(line.points, f"{where}, line {i}"))
            line_key = (points, self._style(line.style), line.label)
            lines.append(self.lines.setdefault(line_key, len(self.lines)))
        self.rows.append((state.text, boxes, lines, self._picture(state.image, where)))
        self.weight += len(state.text) + 2 * (len(boxes) + len(lines)) + 8

    def _picture(self, image: Picture | None, where: str) -> int:
        if image is None:
            return 0
        pixels = to_pixels(image, self.size, f"{where}: ")
        number = self.pictures.setdefault(pixels.tobytes(), len(self.uris))
        if number == len(self.uris):
            self.uris.append(embed(pixels))
            self.weight += len(self.uris[-1])
        return number

    def _style(self, style: str) -> int:
        if style not in self.styles:
            self.styles.append(style)
        return self.styles.index(style)

    def dots(self) -> set[str]:
        """The styles of which there are only points."""
        extended = {style for _, _, _, _, style, *_ in self.boxes}
        extended |= {style for points, style, _ in self.lines if len(points) > 2}
        return {s for i, s in enumerate(self.styles) if i not in extended}

    def spec(self, look: Look) -> dict[str, Any]:
        """For `explorer.js`; a state ends where only the ordinary would follow."""
        dots = self.dots()
        states: list[list[Any]] = []
        for text, boxes, lines, picture in self.rows:
            more = [lines, picture] if picture else [lines] if lines else []
            states.append([text, boxes, *more])
        return {
            "images": self.uris,
            "styles": [svg_style(name, look, name in dots) for name in self.styles],
            "boxes": list(self.boxes),
            "lines": list(self.lines),
            "states": states,
        }

    def draw(self, index: int, look: Look) -> tuple[str, bytes]:
        """The kind and the content of a picture of one state."""
        _, boxes, lines, picture = self.rows[index]
        every_box, every_line = list(self.boxes), list(self.lines)
        pixels = np.frombuffer(list(self.pictures)[picture], np.uint8)
        return draw_state(
            pixels.reshape(*self.size, 3),
            [every_box[i] for i in boxes],
            [every_line[i] for i in lines],
            self.styles,
            self.dots(),
            look,
        )


def _check_texts(alt: str, title: str, names: Mapping[str, str]) -> None:
    unknown = [name for name in names if name not in STYLES]
    if unknown:
        raise SettingError(f"names has {unknown[0]!r}, none of {', '.join(STYLES)}.")
    for what, text in (("alt", alt), ("title", title), *names.items()):
        if not isinstance(text, str):
            raise SettingError(f"{what} is {text!r}, not a text.")
    if not alt.strip():
        raise SettingError("alt is empty; say what the figure shows.")


def _check_size(image_size: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (int(n) for n in image_size)
        if height == image_size[0] >= 1 and width == image_size[1] >= 1:
            return height, width
    except (TypeError, ValueError, OverflowError):
        pass
    raise SettingError(f"image_size is {image_size!r}, not (height, width), in pixels.")


def _check_kind(mark: Box | Line, kind: type, where: str) -> None:
    if not isinstance(mark, kind):
        raise SettingError(f"{where}: {mark!r} is not a {kind.__name__}.")
    check_style(mark.style, mark.label, where)


def _too_heavy(sliders: Sliders, kilobytes: str) -> SettingError:
    values = sliders.values
    name = max(values, key=lambda name: len(values[name]))
    return SettingError(
        f"The figure weighs {kilobytes} KB of HTML, the limit is {LIMIT // 1000}. "
        f"Slider {name!r} has the most values, {len(values[name])}: it is too fine. "
        "Give it fewer, or draw fewer boxes, lines and pictures."
    )
